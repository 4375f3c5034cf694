"""Whether this machine can run the embedded engine, and how well: tried out, once a process, in some 30 ms.

What decides is the trial, a child process that does all that an enclave does (`inside/trial.py`). What is read about
the machine only explains.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_enclave.engine.embedded.machine import look
from pytest_enclave.engine.embedded.remembered import forget, recall, remember
from pytest_enclave.errors import EngineUnavailable

if TYPE_CHECKING:
    from pytest_enclave.engine.embedded.refusals import Failure, Refusal

PATIENCE = 10.0
"""Seconds that a trial may take."""

TRIED = "the embedded engine"
"""What errors call it among all that was tried."""

USE_DOCKER = "use Docker: `--enclave-engine=docker`"

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from pytest_enclave.engine.embedded.inside.trial import main
main()
"""

ONE_UID = (
    "programs of images that change their user, as entry points running as root do, need more than one user id: "
    "install the package uidmap, and let /etc/subuid and /etc/subgid give your user 65536 ids"
)
NO_CGROUPS = "limits of services on memory and CPU do not hold: no control groups can be made here"
ON_DISK = "files that services write are kept on disk: this kernel has no user attributes on tmpfs, as 6.6 has"


class Examination(msgspec.Struct, frozen=True):
    """What came of it: why the engine cannot run here, or as whom it does.

    `endpoint` completes the words "embedded on …"; `notes` are sentences about what works in part only.
    """

    refusal: Refusal | None = None
    endpoint: str = ""
    notes: tuple[str, ...] = ()


class Trial(msgspec.Struct, frozen=True):
    """How a trial went: the failure that ended it, if one did, and what was learnt on the way."""

    failure: Failure | None = None
    kind: str = ""
    uids: Sequence[Sequence[int]] = ()
    facts: dict[str, Any] = msgspec.field(default_factory=dict)


@cache
def examine() -> Examination:
    """Try it out, unless a process has just done so; remembered for as long as this one lives. Never raises."""
    machine = look()
    if (learnt := recall(machine)) is not None:
        return Examination(None, learnt[0], tuple(learnt[1:]))
    # What has succeeded was not refused.
    from pytest_enclave.engine.embedded.refusals import not_linux, refusal

    if elsewhere := not_linux(machine):
        return Examination(elsewhere)
    trial = attempt()
    if trial.failure is not None:
        return Examination(refusal(machine, trial.failure))
    found = Examination(None, endpoint(trial.kind, trial.uids), tuple(_notes(trial)))
    remember(machine, [found.endpoint, *found.notes])
    return found


def examine_again() -> Examination:
    """Try it out, whatever is remembered. Never raises."""
    forget(look())
    examine.cache_clear()
    return examine()


def unavailable(refusal: Refusal) -> EngineUnavailable:
    """The error for whoever asked for this engine."""
    remedy = f"{refusal.remedy}, or {USE_DOCKER}" if refusal.remedy else USE_DOCKER
    message = f"the embedded engine cannot run here: {refusal.missing}"
    return EngineUnavailable(message, tried=[(TRIED, str(refusal))], remedy=remedy)


def attempt(program: str = PROGRAM) -> Trial:
    """Run a trial: a process of the same interpreter that executes the program."""
    from pytest_enclave.engine.embedded.refusals import Failure

    library = str(Path(__file__).parents[3])
    with _directory() as directory:
        command = [sys.executable, "-I", "-S", "-c", program, library, directory]
        try:
            done = subprocess.run(
                command, capture_output=True, stdin=subprocess.DEVNULL, env={}, cwd="/", timeout=PATIENCE, check=False
            )
        except subprocess.TimeoutExpired as late:
            return _judged(late.stdout or b"", f"no answer within {PATIENCE:g} s")
        except OSError as error:
            return Trial(Failure("start", error.errno, f"{sys.executable}: {error.strerror}"))
        return _judged(done.stdout, done.stderr.decode(errors="replace").strip() or f"ended with {done.returncode}")


def endpoint(kind: str, uids: Sequence[Sequence[int]]) -> str:
    """As whom services run, in the words of the header."""
    if kind == "root":
        return "this machine, as root"
    if kind == "single":
        return "this machine, one uid"
    ranges = [f"{outside}" if count == 1 else f"{outside}–{outside + count - 1}" for _, outside, count in uids]
    return f"this machine, uids {' and '.join(ranges)}"


def _judged(output: bytes, otherwise: str) -> Trial:
    """The trial that its lines tell of; one that tells neither its end nor an error ended as `otherwise` says."""
    from pytest_enclave.engine.embedded.refusals import Failure

    step, facts = "start", {}
    failure: Failure | None = None
    for line in output.splitlines():
        told = json.loads(line)
        if "fact" in told:
            facts[told["fact"]] = told["value"]
        elif "said" in told:
            failure = failure or Failure(step, told["errno"], told["said"])
        elif failure is None:
            step = told["step"]
    if failure is None and step != "done":
        failure = Failure(step, None, otherwise)
    return Trial(failure, facts.pop("kind", ""), facts.pop("uids", ()), facts)


def _notes(trial: Trial) -> Iterator[str]:
    from pytest_enclave.engine.embedded.inside import egress
    from pytest_enclave.linux.cgroups import Cgroups

    if trial.kind == "single":
        yield ONE_UID
    if Cgroups.find() is None:
        yield NO_CGROUPS
    if trial.facts.get("disk"):
        yield ON_DISK
    if reason := egress.missing():
        yield f"services have no way out: {reason}"


@contextmanager
def _directory() -> Iterator[str]:
    """An empty directory for the trial. What an overlay leaves in it cannot be listed before its mode is changed."""
    path = tempfile.mkdtemp(prefix="pytest-enclave-trial-")
    try:
        yield path
    finally:
        with suppress(OSError):
            os.chmod(f"{path}/work/work", 0o700)
        shutil.rmtree(path, ignore_errors=True)
