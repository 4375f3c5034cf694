"""Who made what is on the engine: a process, told from every other one by more than its number."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.protocol import EnclaveId

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Owner(msgspec.Struct, frozen=True):
    """A process: its id, in which process namespace, since which boot of its machine, and when it began.

    An id means nothing on another machine, in another container, or after a restart, and may be given again. What the
    system does not say is empty.
    """

    pid: str
    namespace: str
    boot: str
    began: str

    @classmethod
    def this_process(cls) -> Owner:
        """The process that asks."""
        return cls.of_process(os.getpid())

    @classmethod
    def of_process(cls, pid: int) -> Owner:
        """A process of the namespace that this one is in."""
        return cls(str(pid), _namespace(), _boot(), _began(pid))

    @classmethod
    def of(cls, marks: Mapping[str, str]) -> Owner:
        """The owner of a resource with these labels."""
        return cls(*(marks.get(label, "") for label in _LABELS))

    @property
    def is_known(self) -> bool:
        """Whether it is told from all other processes: where the system does not say enough, nothing may rely on it."""
        return "" not in (self.pid, self.namespace, self.boot, self.began)

    @property
    def marks(self) -> dict[str, str]:
        """The labels of its resources."""
        return dict(zip(_LABELS, (self.pid, self.namespace, self.boot, self.began), strict=True))

    @property
    def words(self) -> list[str]:
        """The labels of its resources as the engine's filters have them: `NAME=VALUE`."""
        return [f"{label}={value}" for label, value in self.marks.items()]

    def is_gone(self) -> bool:
        """Whether it is known to have ended: of a process that cannot be seen from here nothing is known."""
        here = Owner.this_process()
        if not (self.pid.isdecimal() and self.is_known) or (self.boot, self.namespace) != (here.boot, here.namespace):
            return False
        return _is_dead(int(self.pid)) or _began(int(self.pid)) not in ("", self.began)


_LABELS = (labels.OWNER_PID, labels.OWNER_NAMESPACE, labels.OWNER_BOOT, labels.OWNER_BEGAN)


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _boot() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _began(pid: int) -> str:
    """When the process began, in clock ticks since the boot; empty where it cannot be seen."""
    fields = _fields(pid)
    return fields[19] if fields else ""


def _is_dead(pid: int) -> bool:
    """Whether there is no such process. Other users' processes may be hidden, so it is not enough not to see it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    fields = _fields(pid)
    return bool(fields) and fields[0] in "ZX"


def _fields(pid: int) -> list[str]:
    """What the kernel says of a process after its name: first its state. Nothing where it cannot be seen."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode().split()
    except (OSError, ValueError):
        return []


def ownership(enclave: EnclaveId) -> dict[str, str]:
    """The labels of everything that this process makes for an enclave.

    The owner of what has a home is who made it: the ledger tells for whom it lives.
    """
    owner = Owner.of_process(enclave.holder) if enclave.holder and not enclave.home else Owner.this_process()
    created = f"{time.time():.3f}"
    return {labels.ENCLAVE: enclave.name, labels.HOME: enclave.home, **owner.marks, labels.CREATED: created}
