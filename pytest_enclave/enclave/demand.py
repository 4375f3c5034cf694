"""What a test asks for: which package, with whom it shares the enclave, or how it is kept from all others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from pytest_enclave.run.interpretation import Request

Isolate: TypeAlias = Literal[False, True, "fork"]
"""Not at all; by a fresh enclave; or by a copy of the shared one, as it was before any test."""


class Demand(msgspec.Struct, frozen=True):
    """A request, with whom the enclave is shared or whose fork it is, and where the test's file is.

    A `scope` is the id of a module or class: its tests alone share the enclave, in one process, and it goes with them.
    """

    request: Request
    share: str | None = None
    isolate: Isolate = False
    here: Path | None = None
    scope: str = ""

    @property
    def key(self) -> str:
        """Equal for demands that one shared enclave serves, or its forks."""
        key = f"share {self.share}" if self.share else f"package {self.request.key}"
        return f"{key} in {self.scope}" if self.scope else key

    @property
    def slot(self) -> tuple[str, str]:
        """Equal for demands that the same run in the same enclave serves."""
        return self.key, self.request.key

    @property
    def title(self) -> str:
        """What users call it: the share's name, or the package as it was named."""
        package = self.request.path or self.request.package
        named = str(package) if isinstance(package, (str, Path)) else "a Source"
        return f"{self.share}: {named}" if self.share else named

    @property
    def kind(self) -> str:
        """What the enclave is to tests: `shared`, `share=NAME`, `module NAME`, `class NAME`, `isolated`, `fork`."""
        if self.isolate:
            return "fork" if self.isolate == "fork" else "isolated"
        if self.share:
            return f"share={self.share}"
        file, _, name = self.scope.partition("::")
        return (f"class {name}" if name else f"module {file}") if self.scope else "shared"

    @property
    def args(self) -> str:
        """The arguments as JSON, "" without any."""
        given = self.request.arguments
        return json.dumps(given, default=str, ensure_ascii=False) if given else ""

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
