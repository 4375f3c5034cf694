"""A plan together with all that it came from."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pytest_enclave.package.files import FileState, unchanged
from pytest_enclave.plan.instruction import Plan
from pytest_enclave.plan.values import Struct


class Interpretation(msgspec.Struct, frozen=True):
    """A plan, and the states of all files it came from: while these are unchanged, so is the plan.

    `seen` are the services of the enclave, by name, where the script has asked for them: the plan is for those alone.
    `lasts` tells that nothing else went into it: no other repository, where a branch may have moved meanwhile.
    """

    plan: Plan
    files: tuple[FileState, ...]
    seen: Mapping[str, Struct] | None = None
    lasts: bool = True

    def holds(self, found: Mapping[str, Struct]) -> bool:
        """Whether interpreting would give the same plan, in an enclave with these services."""
        return self.seen in (None, found) and unchanged(self.files)
