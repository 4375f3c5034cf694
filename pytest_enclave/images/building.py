"""Building an image by the Docker API: what is sent, and what is made of the answers."""

from __future__ import annotations

import base64
import json
import re
import tarfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from pytest_enclave.errors import PackageError, Problem
from pytest_enclave.images.credentials import HUB_KEY, credentials_for
from pytest_enclave.images.dockerfile.review import Review
from pytest_enclave.images.dockerfile.stages import DockerfileFault
from pytest_enclave.images.dockerfile.syntax import Dockerfile, parse
from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.references import DEFAULT_REGISTRY, RegistryReference
from pytest_enclave.images.references import parse as parse_reference
from pytest_enclave.package.context import context_paths, read_build_file, read_context
from pytest_enclave.plan.events import BuildProgress, Emit, Warned
from pytest_enclave.plan.image_sources import Build

KEY_LABEL = "org.pytest-enclave.build"
"""The label of built images that says what they are built from."""

TITLE_LABEL = "org.pytest-enclave.image-name"
"""The label of built images that says what packages call them."""

LABELS = 2

LAST_LINES = 20
"""Lines kept of what a step writes."""

NOT_BUILDKIT = (
    "the builder of the Docker API does not know what BuildKit added: write it without, or let CI build the image and "
    "write its name"
)

_STEP = re.compile(r"(?:Step|STEP) (\d+)/(\d+) ?: (.*)", re.DOTALL)
_LINE = re.compile(r"parse error (?:on )?line (\d+): (.*)", re.DOTALL)
_CODE = re.compile(r"returned a non-zero code: (\d+)|exit status (\d+)")
_NOISE = re.compile(r" ---> |Removing (intermediate )?container |Successfully (built|tagged) |--> ")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_BUILDKIT = re.compile(r"--(mount|network|security|link|parents|exclude|checksum|keep-git-dir)\b")


def parameters(build: Build, *, pull: bool) -> dict[str, str]:
    """How the API is asked to build. With `pull`, registries are asked for base images that are there already."""
    asked = {
        "t": build.name,
        "dockerfile": build.build_file,
        "target": build.target,
        "buildargs": json.dumps(dict(build.arguments)) if build.arguments else "",
        "labels": json.dumps({KEY_LABEL: build.key, TITLE_LABEL: build.title}),
        "rm": "1",
        "forcerm": "1",
        "pull": "1" if pull else "",
    }
    return {name: value for name, value in asked.items() if value}


def headers(build: Build, environ: Mapping[str, str]) -> dict[str, str]:
    """The request's headers: with what `docker login` has left for the registries of base images. Raises ImageFault."""
    found: dict[str, dict[str, str]] = {}
    for registry in _registries(build):
        told = credentials_for(registry, environ)
        if told is not None:
            key = HUB_KEY if registry == DEFAULT_REGISTRY else registry
            named = {"username": told.name, "password": told.secret}
            found[key] = named if told.name else {"identitytoken": told.secret}
    config = base64.urlsafe_b64encode(json.dumps(found).encode()).decode()
    return {"Content-Type": "application/x-tar", "X-Registry-Config": config}


def write_context(build: Build, target: IO[bytes]) -> None:
    """Write the context as a tar archive, everything owned by root. Raises ImageFault."""
    directory = Path(build.directory)
    try:
        paths = context_paths(directory, build.build_file, build.place)
        with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in paths:
                tar.add(directory / path, path, recursive=False, filter=_owned_by_root)
        digest, _ = read_context(directory, build.build_file, build.place)
    except (PackageError, OSError) as error:
        raise ImageFault(f"its build context cannot be read: {error}") from None
    if digest != build.digest:
        raise ImageFault("its build context changes while it is built", "let nothing write to it meanwhile")


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


class BuildLog:
    """What the API tells while it builds: progress is told on, and of a failure what there is to know."""

    def __init__(self, build: Build, emit: Emit) -> None:
        self._build = build
        self._emit = emit
        self._began = time.monotonic()
        self._step = 0
        self._steps = 0
        self._doing = ""
        self._line = 0
        self._lines: list[str] = []

    def review(self) -> None:
        """Tell what is odd about the build before it begins. Raises BuildFailed where it cannot end well."""
        try:
            self._review.refuse()
        except DockerfileFault as wrong:
            raise BuildFailed(self.problem(wrong.reason, wrong.fault.remedy)) from None
        except ImageFault as fault:
            raise BuildFailed(self.problem(fault.meaning, fault.remedy)) from None
        for name, remedy in self._review.unused_arguments():
            self.warn(f"no `ARG` in {self._file} takes build argument `{name}`", remedy)

    def warn(self, meaning: str, remedy: str) -> None:
        """Tell of something that stops nothing. It is about the build by its name: several may have one title."""
        message = f"image `{self._build.title}`: {meaning}"
        self._emit(Warned(Problem(message, subject=self._build.name, remedy=remedy, severity="warning")))

    def follow(self, messages: Iterable[Mapping[str, Any]]) -> None:
        """Take note of all messages until the build ends. Raises BuildFailed where it fails."""
        self._emit(BuildProgress(self._build.title, 0, 0))
        for message in messages:
            if "error" in message:
                raise BuildFailed(self.problem(str(message["error"])))
            self._learn(str(message.get("stream", "")))

    def begin(self, step: int, steps: int, doing: str, line: int) -> None:
        """The step of that number begins, which is written on that line (0: unknown)."""
        self._step, self._steps, self._line = step, steps, line
        self._doing = " ".join(doing.split())
        self._lines = []
        self._emit(BuildProgress(self._build.title, step, steps))

    def say(self, lines: Iterable[str]) -> None:
        """The step has written these."""
        self._lines += [line for line in (_COLOUR.sub("", line).rstrip() for line in lines) if line]
        self._lines = self._lines[-LAST_LINES:]

    def done(self) -> None:
        """The image is there."""
        took = time.monotonic() - self._began
        self._emit(BuildProgress(self._build.title, self._steps, self._steps, done=True, duration=took))

    def problem(self, reason: str, remedy: str | None = None) -> Problem:
        """The problem that the build's failure is, for that reason; None: what to do is told by that."""
        if told := _LINE.search(reason):
            where, what = f" at {self._file}:{told[1]}", told[2].strip()
        elif self._step:
            place = f", {self._file}:{self._line}" if self._line else ""
            where, what = f" in step {self._step} of {self._steps} (`{self._doing}`{place})", _said(reason)
        else:
            where, what = "", reason.strip()
        remedy = self._remedy(reason) if remedy is None else remedy
        return Problem(
            f"image `{self._build.title}` cannot be built{where}: {what}",
            subject=self._build.title,
            remedy=" Else: ".join(filter(None, (self._meant_stage(), remedy))),
            output="\n".join(self._lines),
        )

    @property
    def _file(self) -> str:
        return self._build.build_file if self._build.place == "." else f"{self._build.place}/{self._build.build_file}"

    def _remedy(self, reason: str) -> str:
        beyond = any(each.has_heredoc or _BUILDKIT.match(each.text) for each in self._review.dockerfile.instructions)
        if "BuildKit" in reason or (beyond and not _CODE.search(reason)):
            return NOT_BUILDKIT
        return f"`docker build --file {self._build.build_file} .` in {self._build.directory} tells all of it"

    def _meant_stage(self) -> str:
        meant = self._review.meant_stage(self._line) if self._step else ""
        return f"did you mean the stage `{meant}`?" if meant else ""

    @cached_property
    def _review(self) -> Review:
        """The build file is read once: a context that changes meanwhile is no context."""
        return Review(_parsed(self._build), self._build)

    def _learn(self, text: str) -> None:
        if step := _STEP.fullmatch(text.strip()):
            # The labels that are asked for count as instructions, at the end.
            steps = max(1, int(step[2]) - LABELS)
            number = min(int(step[1]), steps)
            instructions = self._review.dockerfile.instructions
            line = instructions[number - 1].line if number <= len(instructions) else 0
            self.begin(number, steps, step[3], line)
        elif not _NOISE.match(text):
            self.say(text.splitlines())


class BuildFailed(Exception):
    """A build that failed, as the problem that it is."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def _parsed(build: Build) -> Dockerfile:
    """The build file; empty where it cannot be read, which is told by whoever reads the context."""
    try:
        text = read_build_file(Path(build.directory), build.build_file, build.place, strict=False)
    except PackageError:
        text = ""
    return parse(text)


def _registries(build: Build) -> set[str]:
    """The registries that the build file names base images of; a name made of variables could be any."""
    found = set()
    for each in _parsed(build).instructions:
        names = [word for word in each.text.split() if not word.startswith("--")] if each.keyword == "FROM" else []
        with suppress(ImageFault):
            meant = parse_reference(names[0]) if names and "$" not in names[0] else None
            found |= {meant.registry} if isinstance(meant, RegistryReference) else set()
    return found


def _said(reason: str) -> str:
    """A command's exit code without the command, which is told already; else the reason itself."""
    if code := _CODE.search(reason):
        return f"exit code {code[1] or code[2]}"
    return reason.strip()
