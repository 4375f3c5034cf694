"""Which commit a tag or branch is at: asked once per session, and remembered for times without a network."""

from __future__ import annotations

import difflib
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from pytest_enclave.errors import PackageError
from pytest_enclave.package.git.failures import GitFailure

COMMIT = re.compile("[0-9a-f]{40}(?:[0-9a-f]{24})?")
"""All digits of a commit, which are more in repositories that use SHA-256."""

_DEFAULT = "HEAD"
_LINE = re.compile(rf"({COMMIT.pattern})\t(.+)")
_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))

ListRemote = Callable[[bool], str]
"""What `git ls-remote` prints of the default branch, or else of all tags and branches. Raises GitFailure."""


class Answer(msgspec.Struct, frozen=True):
    """What a repository says of itself: commits by full name of tag or branch.

    `failure` tells why it is an old answer; `age` is then how old, in seconds.
    """

    commits: Mapping[str, str]
    failure: PackageError | None = None
    age: float = 0.0


class Versions:
    """The versions of one repository; `file` is what its latest answers are kept in. Not safe for threads.

    An answer that was kept after `since`, in seconds of the epoch, by whatever process, is as good as a new one.
    """

    def __init__(self, repository: str, file: Path, list_remote: ListRemote, since: float) -> None:
        self._repository = repository
        self._file = file
        self._list_remote = list_remote
        self._since = since
        self._answers: dict[str, Answer | PackageError] = {}

    def commit(self, version: str) -> str | None:
        """The commit of a version, "" for the default branch; None where there is none of that name.

        Raises PackageError where the repository cannot be asked, and what it once said is not known either.
        """
        if COMMIT.fullmatch(version):
            return version
        commits = self._answer(version).commits
        if not version:
            return commits.get(_DEFAULT)
        names = (f"refs/tags/{version}^{{}}", f"refs/tags/{version}", f"refs/heads/{version}")
        return next((commits[name] for name in names if name in commits), None)

    def is_known(self, version: str) -> bool:
        """Whether no network is needed to tell the version's commit."""
        kind = _kind(version)
        return bool(COMMIT.fullmatch(version)) or kind in self._answers or self._kept(kind)[1] >= self._since

    def warning(self, version: str) -> str:
        """That the commit of this version is what it was some time ago; "" where it is as it should be."""
        answer = None if COMMIT.fullmatch(version) else self._answers.get(_kind(version))
        if not isinstance(answer, Answer) or answer.failure is None:
            return ""
        called = f"`{version}`" if version else "its default branch"
        return f"{answer.failure.message}; {called} is taken as it was {_ago(answer.age)} ago"

    def unknown(self, version: str) -> PackageError:
        """The error for a version that there is not."""
        if not version:
            return PackageError(f"`{self._repository}` is empty: it has no default branch")
        names = [name.split("/", 2)[2].removesuffix("^{}") for name in self._answer(version).commits]
        near = difflib.get_close_matches(version, dict.fromkeys(names), 1)
        if re.fullmatch("[0-9a-f]{7,63}", version):
            remedy = f"a commit is named by all of its {40 if len(version) < 40 else 64} digits"
        else:
            remedy = f"did you mean `{near[0]}`?" if near else ""
        return PackageError(f"`{self._repository}` has no tag, branch or commit `{version}`", remedy=remedy)

    def _answer(self, version: str) -> Answer:
        kind = _kind(version)
        if kind not in self._answers:
            kept, asked = self._kept(kind)
            try:
                self._answers[kind] = Answer(kept) if kept and asked >= self._since else self._ask(kind)
            except GitFailure as failure:
                error = failure.error(self._repository)
                self._answers[kind] = Answer(kept, error, time.time() - asked) if kept else error
        answer = self._answers[kind]
        if isinstance(answer, PackageError):
            raise PackageError(answer.message, remedy=answer.remedy)
        return answer

    def _ask(self, kind: str) -> Answer:
        lines = filter(None, map(_LINE.fullmatch, self._list_remote(kind == _DEFAULT).splitlines()))
        commits = {line[2]: line[1] for line in lines if kind != _DEFAULT or line[2] == _DEFAULT}
        self._remember(kind, commits)
        return Answer(commits)

    def _remember(self, kind: str, commits: Mapping[str, str]) -> None:
        record = {"asked": time.time(), "commits": commits}
        file = self._file_of(kind)
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f"{file.name}.{uuid.uuid4().hex}")
        new.write_text(json.dumps(record), "utf-8", "surrogateescape")
        os.replace(new, file)

    def _kept(self, kind: str) -> tuple[dict[str, str], float]:
        """The latest answer of any process, and when it was given; nothing where there is none."""
        try:
            record = json.loads(self._file_of(kind).read_text("utf-8", "surrogateescape"))
            return dict(record["commits"]), float(record["asked"])
        except (OSError, ValueError, KeyError, TypeError):
            return {}, 0.0

    def _file_of(self, kind: str) -> Path:
        return self._file.with_name(f"{self._file.name}.{kind}.json")


def _kind(version: str) -> str:
    return "names" if version else _DEFAULT


def _ago(seconds: float) -> str:
    for length, unit in _UNITS:
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return "less than a second"
