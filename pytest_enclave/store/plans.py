"""Plans that were made for an enclave, for the next process that asks for the same: it need not interpret anything.

A plan counts as long as every file that it came from is as it was, and so is this package. With it is kept what a run
of it found that had nothing to do: where the next process finds the same, it need not go through the plan either.
They lie in the enclave's home, beside the journal, which tells as much, and go with it. Whatever cannot be read or
written is made anew, in silence.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import msgspec

from pytest_enclave.package.interpretation import Interpretation
from pytest_enclave.plan.facts import Facts
from pytest_enclave.plan.instruction import Plan
from pytest_enclave.plan.values import Value

SETTLED = 0.1
"""Seconds. In a file that is younger something may yet be changed without its time telling."""

SECRETS = ("ImageSpec(",)
"""What arguments with passwords look like: these are not written down anywhere."""

PACKAGE = Path(__file__).parents[1]

ROOMS = (
    "source.py",
    "errors.py",
    "golang",
    "plan",
    "engine/protocol.py",
    "package",
    "language",
    "instructions",
    "store",
    "run",
)
"""What of this package makes plans and takes them into an enclave."""


class Settled(msgspec.Struct, frozen=True):
    """What a run found that had nothing to do: the journal by its fingerprint, and the facts; and what it came to.

    `told` has what was told of each instruction, and why it was not executed; `recorded` is how many there were.
    """

    journal: str
    facts: Facts
    told: tuple[tuple[str, str], ...]
    output: Value
    recorded: int


class KeptPlans:
    """The plans in a directory. Safe with several processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._plans: dict[str, tuple[Plan, bytes]] = {}

    def find(self, key: str) -> Interpretation | None:
        """What was kept for this request, if there is anything; it may not hold any more."""
        if not self._made_by:
            return None
        body, known = _read(self._place(key))
        if not isinstance(known, Interpretation):
            return None
        self._plans[key] = known.plan, sha256(body).digest()
        return known

    def settled(self, key: str, plan: Plan) -> Settled | None:
        """What the latest run found, here or in another process, that had nothing to do for this plan of the request.

        None where there was none, or where it was of another plan than the one that is kept here.
        """
        known, version = self._plans.get(key, (None, b""))
        if known is not plan:
            return None
        _, found = _read(self._mark(key))
        settled = found.get(version) if isinstance(found, dict) else None
        return settled if isinstance(settled, Settled) else None

    def settle(self, key: str, plan: Plan, settled: Settled) -> None:
        """Keep what a run of this plan found that had nothing to do, where the plan itself is kept."""
        known, version = self._plans.get(key, (None, b""))
        if known is plan and self.settled(key, plan) != settled:
            _write(self._mark(key), {version: settled})

    def keep(self, key: str, made: Interpretation) -> None:
        """Keep the plan for this request, if it lasts."""
        newest = max((state.ctime_ns or 0 for state in made.files), default=0)
        told = any(secret in call.text for call in made.plan.instructions for secret in SECRETS)
        if not self._made_by or not made.lasts or told or time.time() - newest / 1e9 < SETTLED:
            return
        if (body := _write(self._place(key), made)) is not None:
            self._plans[key] = made.plan, sha256(body).digest()

    def _mark(self, key: str) -> Path:
        place = self._place(key)
        return place.with_name(f"{place.name}-settled")

    def _place(self, key: str) -> Path:
        return self._directory / sha256(f"{key}\n{self._made_by}".encode()).hexdigest()[:32]

    @cached_property
    def _made_by(self) -> str:
        """Empty where our files cannot be looked at: nobody knows then whether a plan is what they make of it."""
        try:
            return _code()
        except OSError:
            return ""


def _read(place: Path) -> tuple[bytes, object]:
    """What a file contains, as bytes and as what they stand for; None where there is nothing that can be read."""
    try:
        body = place.read_bytes()
        return body, pickle.loads(body)
    except Exception:
        # Pickles raise anything.
        return b"", None


def _write(place: Path, what: object) -> bytes | None:
    """Write a file as a whole: what it contains then; None where that is not possible."""
    with suppress(OSError, pickle.PicklingError, TypeError, AttributeError, RecursionError):
        body = pickle.dumps(what)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        scratch = place.with_name(f"{place.name}.{os.getpid()}")
        scratch.write_bytes(body)
        scratch.replace(place)
        return body
    return None


def _code() -> str:
    """What a plan depends on besides its package: this one, as it is installed, and the interpreter."""
    seen = [sys.version]
    for room in ROOMS:
        seen += sorted(_stamps(os.path.join(PACKAGE, room)))
    return "\n".join(seen)


def _stamps(path: str) -> Iterator[str]:
    """All files at a path, which may be one itself, with their times and sizes."""
    if path.endswith(".py"):
        yield _stamp(path, os.stat(path))
    elif not path.endswith("__pycache__"):
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir():
                    yield from _stamps(entry.path)
                else:
                    yield _stamp(entry.path, entry.stat())


def _stamp(path: str, status: os.stat_result) -> str:
    return f"{path} {status.st_mtime_ns} {status.st_size}"
