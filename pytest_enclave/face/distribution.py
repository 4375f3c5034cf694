"""Which worker of pytest-xdist runs which test, so that environments come up side by side and are started no more often
than need be.

* Tests of a *shared* enclave may run anywhere. Each such enclave is begun by a worker of its own, the largest group
  first; then workers that have nothing else help where most is left, first where the environment is up already.
* Tests that have to stay *together*, because they let an enclave grow or because it is that of their module or class,
  are run by one worker, in their order. So are those that are run with a fault in a shared enclave, of which each has
  that for itself.
* Tests that are *apart*, each with a fresh enclave, are handed out one by one.
* Other tests, which are *free*, are handed out in runs of neighbours, as xdist does it itself.

Workers collect the tests, and the controller does not: a worker tells it of the groups in a file. Where there is none,
no test needs an enclave, or workers have no files in common with the controller.
"""

from __future__ import annotations

import json
import os
from bisect import insort
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import pytest

if TYPE_CHECKING:
    from pytest_enclave.face.options import Settings

Kind: TypeAlias = Literal["shared", "together", "apart", "free"]


class Group(NamedTuple):
    """What tests have in common: how they are handed out, and the enclave."""

    kind: Kind
    key: str = ""


FREE = Group("free")
APART = Group("apart")


_DIRECTORY = pytest.StashKey[TemporaryDirectory[str]]()


def groups_path(config: pytest.Config) -> str | None:
    """Where workers tell their controller of the groups; None where the user has said how tests are distributed."""
    said = config.known_args_namespace
    if getattr(said, "dist", "") != "no" or said.distload or config.option.dist != "load":
        return None
    if _DIRECTORY not in config.stash:
        directory = config.stash[_DIRECTORY] = TemporaryDirectory(prefix="pytest-enclave-")
        config.add_cleanup(directory.cleanup)
    return str(Path(config.stash[_DIRECTORY].name, "groups.json"))


def tell_groups(items: Sequence[pytest.Item], settings: Settings, path: Path) -> None:
    """Tell the controller of the groups, if there are any, and no other worker was faster."""
    if path.is_file() or not path.parent.is_dir():
        return
    from pytest_enclave.face.upcoming import groups_of

    groups = groups_of(items, settings)
    if groups:
        publish(groups, path)


def publish(groups: Sequence[Group], path: Path) -> None:
    """Write down which tests are of one group, and how it is handed out. The keys, which may tell secrets, are not."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    text = json.dumps({"kinds": [group.kind for group in numbers], "tests": [numbers[group] for group in groups]})
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_text(text, "utf-8")
    unfinished.replace(path)


def published(path: Path) -> list[Group]:
    """The groups that a worker has published, numbered; nothing where none has."""
    try:
        told = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return []
    groups = [Group(kind, str(number)) for number, kind in enumerate(told["kinds"])]
    return [groups[number] for number in told["tests"]]


@dataclass(slots=True)
class _Line:
    """The tests of a group that nobody has been given yet, and who is or was at it."""

    group: Group
    tests: list[int] = field(default_factory=list)
    begun: bool = False
    is_up: bool = False
    only: Hashable = None
    """The worker that all of it is for, if it has to stay together and was begun."""


class Allotment:
    """The tests that are still to be given to workers. Workers are told apart by whatever is hashable."""

    def __init__(self, groups: Iterable[Group]) -> None:
        self._groups = list(groups)
        self._lines: dict[Group, _Line] = {}
        self._at: dict[Hashable, _Line] = {}
        for test, group in enumerate(self._groups):
            self._lines.setdefault(group, _Line(group)).tests.append(test)

    def take(self, worker: Hashable, workers: int, at_most: int) -> list[int]:
        """The next tests of a worker, one of so many; none where nothing is left that it may run."""
        line = self._line(worker)
        if line is None:
            return []
        kind = line.group.kind
        size = min(max(1, len(line.tests) // workers // 4), at_most) if kind in ("shared", "free") else 1
        line.begun = True
        line.only = worker if kind == "together" else None
        self._at[worker] = line
        tests, line.tests[:size] = line.tests[:size], []
        return tests

    def finished(self, test: int) -> None:
        """A test has run: its environment is there."""
        self._lines[self._groups[test]].is_up = True

    def give_back(self, tests: Iterable[int]) -> None:
        """Tests that have been taken are still to be run."""
        for test in tests:
            insort(self._lines[self._groups[test]].tests, test)

    def leave(self, worker: Hashable) -> None:
        """A worker has gone: what was for it alone is for another one."""
        self._at.pop(worker, None)
        for line in self._lines.values():
            if line.only == worker:
                line.only = None

    def _line(self, worker: Hashable) -> _Line | None:
        now = self._at.get(worker)
        if now is not None and now.tests and now.group.kind in ("shared", "together"):
            return now
        lines = [line for line in self._lines.values() if line.tests]
        return next(self._in_order(lines), None)

    def _in_order(self, lines: Sequence[_Line]) -> Iterator[_Line]:
        """What a worker may go on with, best first."""
        kinds = {kind: [line for line in lines if line.group.kind == kind] for kind in ("shared", "together")}
        new = [line for line in kinds["shared"] if not line.begun]
        new += [line for line in kinds["together"] if line.only is None]
        yield from sorted(new, key=lambda line: (-len(line.tests), line.tests[0]))
        for kind in ("apart", "free"):
            yield from (line for line in lines if line.group.kind == kind)
        yield from sorted(kinds["shared"], key=lambda line: (not line.is_up, -len(line.tests)))
