"""For how long enclaves are there: for a session, and whether they stay for the next one."""

from __future__ import annotations

import os
import time
from enum import Enum
from hashlib import sha256

import msgspec

from pytest_enclave.ledger.ledger import Ledger
from pytest_enclave.ledger.session import Session

KEPT = 12 * 3600.0
"""Seconds that an enclave is kept."""


class Keep(Enum):
    """Which enclaves stay when their session ends."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


class Tenure(msgspec.Struct, frozen=True):
    """The session that enclaves belong to, and what becomes of them when it ends.

    `scope` tells keys of enclaves from those of other projects. Without `warm` nothing is taken over from former
    sessions.
    """

    ledger: Ledger
    session: Session
    keep: Keep = Keep.NEVER
    scope: str = ""
    warm: bool = True

    @classmethod
    def begin(cls) -> Tenure:
        """A session of its own, of which nothing stays."""
        ledger = Ledger.of(os.environ)
        return cls(ledger, ledger.begin_session(), warm=False)

    def key(self, engine: str, demand: str) -> str:
        """What the ledger knows the enclave of a demand by, on the engine of this identity."""
        return sha256(f"{engine}\n{self.scope}\n{demand}".encode()).hexdigest()

    def keeps(self, *, failed: bool) -> bool:
        """Whether an enclave stays in which a test has failed, or has not."""
        return self.keep is Keep.ALWAYS or (self.keep is Keep.ON_FAILURE and failed)

    def until(self) -> float:
        """Until when what is kept now stays (seconds since the epoch)."""
        return time.time() + KEPT
