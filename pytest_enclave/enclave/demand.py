"""What a test asks for: which package, with whom it shares the enclave, or how it is kept from all others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pytest_enclave.run.interpretation import Request

Isolate: TypeAlias = Literal[False, True, "fork"]
"""Not at all; by a fresh enclave; or by a copy of the shared one, as it was before any test."""


@dataclass(frozen=True, slots=True)
class Demand:
    """A request, with whom the enclave is shared or whose fork it is, and where the test's file is."""

    request: Request
    share: str | None = None
    isolate: Isolate = False
    here: Path | None = None

    @property
    def key(self) -> str:
        """Equal for demands that one shared enclave serves, or its forks."""
        return f"share {self.share}" if self.share else f"package {self.request.key}"

    @property
    def slot(self) -> tuple[str, str]:
        """Equal for demands that the same run in the same enclave serves."""
        return self.key, self.request.key

    @property
    def name(self) -> str:
        """A readable beginning for an enclave's name, of letters that every engine takes."""
        if self.share:
            base = self.share
        elif (path := self.request.path) is None:
            locator = self.request.package if isinstance(self.request.package, str) else "source"
            base = locator.partition("@")[0].removesuffix("/main.star").removesuffix(".star").rpartition("/")[2]
        else:
            base = (
                path.stem
                if path.suffix == ".star" and path.stem != "main"
                else (path if path.is_dir() else path.parent).name
            )
        return re.sub(r"[^a-z0-9]+", "-", base.lower()).strip("-")[:30] or "enclave"
