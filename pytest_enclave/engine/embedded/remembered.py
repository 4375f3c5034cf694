"""An examination that ended well is remembered for an hour, for the next process: trying it out takes 30 ms.

It counts for the same machine as far as it can be seen, since the same boot, for the same user and interpreter. If an
enclave cannot be made after all, it is tried out again, and the reason told.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytest_enclave import cache
from pytest_enclave.engine.embedded.machine import Machine
from pytest_enclave.errors import EnclaveError

LONGEST = 3600.0
"""Seconds."""

SEEN = ("/etc/subuid", "/etc/subgid", "/proc/self/ns/user", "/sys/fs/cgroup")
"""Files that matter: another one, or a later change, is another machine."""


def recall(machine: Machine) -> Sequence[Any] | None:
    """What was learnt of this machine, if it was not too long ago."""
    with suppress(EnclaveError, OSError, ValueError):
        place = _place(machine)
        if 0 <= time.time() - place.stat().st_mtime < LONGEST:
            learnt = json.loads(place.read_text())
            return learnt if isinstance(learnt, list) else None
    return None


def remember(machine: Machine, learnt: Sequence[Any]) -> None:
    """Write down what was learnt; where that is not possible, it will be tried out again."""
    with suppress(EnclaveError, OSError):
        place = _place(machine)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in place.parent.iterdir():
            if time.time() - old.stat().st_mtime > LONGEST:
                old.unlink(missing_ok=True)
        scratch = place.with_name(f"{place.name}.{os.getpid()}")
        scratch.write_text(json.dumps(learnt))
        scratch.replace(place)


def forget(machine: Machine) -> None:
    """What was learnt does not hold."""
    with suppress(EnclaveError, OSError):
        _place(machine).unlink(missing_ok=True)


def _place(machine: Machine) -> Path:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    who = (os.geteuid(), os.getegid(), sorted(os.getgroups()), os.environ.get("PATH"), tempfile.gettempdir())
    told = repr((machine, boot, who, sys.executable, sys.version, [_seen(path) for path in SEEN]))
    return cache.directory(os.environ, "examined") / hashlib.sha256(told.encode()).hexdigest()[:32]


def _seen(path: str) -> tuple[int, ...]:
    with suppress(OSError):
        found = os.stat(path)
        # Others than real files have the time of the look.
        return (found.st_dev, found.st_ino, found.st_mtime_ns if path.startswith("/etc/") else 0)
    return ()
