"""The stages of a Dockerfile, and what of it our own builder does not know."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from pytest_enclave.images.dockerfile.syntax import Dockerfile, Instruction
from pytest_enclave.images.dockerfile.words import listed
from pytest_enclave.images.faults import ImageFault

FLAGS: Mapping[str, tuple[str, ...]] = {
    "FROM": ("platform",),
    "COPY": ("from", "chown", "chmod", "link"),
    "ADD": ("chown", "chmod", "link"),
    "RUN": (),
    "HEALTHCHECK": ("interval", "timeout", "start-period", "start-interval", "retries"),
}
"""What may stand between a keyword and its arguments."""

KEYWORDS = (
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "RUN"),
    *("SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
)

WITHOUT_ARGUMENTS = ("CMD", "ENTRYPOINT", "HEALTHCHECK")
ELSEWHERE = "write it without, or let CI build the image and write its name"

_NUMBER = re.compile("[0-9]{1,9}")
_FLAG = re.compile(r"--([a-z][a-z-]*)(?:=(\S*))?(?:\s+|$)")
_FROM = re.compile(r"(\S+)(?:\s+as\s+(\S+))?", re.IGNORECASE)


class DockerfileFault(Exception):
    """What is wrong in a Dockerfile, on which line, and what to do about it."""

    def __init__(self, line: int, fault: ImageFault) -> None:
        super().__init__(f"line {line}: {fault.meaning}")
        self.line = line
        self.fault = fault

    @property
    def reason(self) -> str:
        """The same in the words of the Docker API, which have the line."""
        return f"parse error line {self.line}: {self.fault.meaning}"


class Step(msgspec.Struct, frozen=True):
    """An instruction with its flags apart. `argv` are the strings of its JSON list, None where it has none."""

    line: int
    keyword: str
    text: str
    flags: Mapping[str, str] = msgspec.field(default_factory=dict)
    argv: tuple[str, ...] | None = None

    def __str__(self) -> str:
        flags = "".join(f"--{name}={value} " for name, value in self.flags.items())
        return f"{self.keyword} {flags}{self.text}".rstrip()


class Stage(msgspec.Struct, frozen=True):
    """A `FROM` and what follows it. `base` and `platform` may have variables in them, `name` is in lower case."""

    origin: Step
    base: str
    name: str
    platform: str
    steps: tuple[Step, ...]


class Stages(msgspec.Struct, frozen=True):
    """All stages in their order, and the `ARG`s that stand before them."""

    stages: tuple[Stage, ...]
    arguments: tuple[Step, ...] = ()

    def find(self, name: str) -> int | None:
        """The index of the stage of that name, or number; of equal names the last."""
        named = [index for index, stage in enumerate(self.stages) if name and stage.name == name.lower()]
        if named:
            return named[-1]
        return int(name) if _NUMBER.fullmatch(name) and int(name) < len(self.stages) else None


def stages_of(dockerfile: Dockerfile) -> Stages:
    """The stages of a Dockerfile. Raises DockerfileFault at the first instruction that is not known here."""
    arguments: list[Step] = []
    found: list[tuple[Step, list[Step]]] = []
    for instruction in dockerfile.instructions:
        step = _step(instruction)
        if step.keyword == "FROM":
            found.append((step, []))
        elif found:
            found[-1][1].append(step)
        elif step.keyword == "ARG":
            arguments.append(step)
        else:
            raise _fault(step.line, "no stage begins before it", "a Dockerfile begins with `FROM`")
    if not found:
        raise _fault(1, "there is no `FROM` in it", "a Dockerfile begins with `FROM`")
    return Stages(tuple(_stage(step, steps) for step, steps in found), tuple(arguments))


def stage_parts(text: str) -> tuple[str, str] | None:
    """What a `FROM`, flags apart, names as its base, and the stage's name in lower case; None where it is none."""
    parts = _FROM.fullmatch(text)
    return (parts[1], (parts[2] or "").lower()) if parts else None


def _stage(step: Step, steps: Sequence[Step]) -> Stage:
    parts = stage_parts(step.text)
    if parts is None:
        raise _fault(step.line, f"`{step}` is not understood", "write `FROM image AS name`")
    return Stage(step, *parts, step.flags.get("platform", ""), tuple(steps))


def _step(instruction: Instruction) -> Step:
    line, keyword, text = instruction.line, instruction.keyword, instruction.text
    if keyword not in KEYWORDS:
        known = keyword == "ONBUILD"
        raise _fault(line, f"`{keyword}` is not supported" if known else f"unknown instruction: {keyword}", ELSEWHERE)
    if instruction.has_heredoc:
        raise _fault(line, f"`{keyword} <<` is not supported", ELSEWHERE)
    flags: dict[str, str] = {}
    while keyword in FLAGS and (flag := _FLAG.match(text)):
        if flag[1] not in FLAGS[keyword]:
            raise _fault(line, f"`{keyword} --{flag[1]}` is not supported", ELSEWHERE)
        flags[flag[1]] = flag[2] or ""
        text = text[flag.end() :]
    if not text and keyword not in WITHOUT_ARGUMENTS:
        raise _fault(line, f"`{keyword}` needs an argument", "")
    argv = listed(text)
    if keyword == "SHELL" and not argv:
        raise _fault(line, "`SHELL` needs a list", 'write `SHELL ["/bin/sh", "-c"]`')
    if keyword == "RUN" and argv == []:
        raise _fault(line, "`RUN []` names no command", 'write `RUN ["program", "argument"]`')
    return Step(line, keyword, text, flags, None if argv is None else tuple(argv))


def _fault(line: int, meaning: str, remedy: str) -> DockerfileFault:
    return DockerfileFault(line, ImageFault(meaning, remedy))
