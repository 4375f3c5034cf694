"""Who made what is on the engine: a process, told from every other one by more than its number."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_enclave.engine.docker import labels

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Owner:
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
        return cls(str(os.getpid()), _namespace(), _boot(), _began(os.getpid()))

    @classmethod
    def of(cls, marks: Mapping[str, str]) -> Owner:
        """The owner of a resource with these labels."""
        return cls(*(marks.get(label, "") for label in _LABELS))

    @property
    def marks(self) -> dict[str, str]:
        """The labels of its resources."""
        return dict(zip(_LABELS, (self.pid, self.namespace, self.boot, self.began), strict=True))

    @property
    def filter(self) -> Mapping[str, list[str]]:
        """The engine's filter for its resources."""
        return {"label": [f"{label}={value}" for label, value in self.marks.items()]}

    def is_gone(self) -> bool:
        """Whether it is known to have ended: of a process that cannot be seen from here nothing is known."""
        here = Owner.this_process()
        if not (self.pid.isdecimal() and self.began and self.boot) or self.boot != here.boot:
            return False
        return self.namespace == here.namespace and _began(int(self.pid)) != self.began


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
    """When the process began, in clock ticks since the boot; empty if there is none, or it is dead already."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else fields[18]


def ownership(enclave: str) -> dict[str, str]:
    """The labels of everything that this process makes for an enclave."""
    return {labels.ENCLAVE: enclave, **Owner.this_process().marks, labels.CREATED: f"{time.time():.3f}"}
