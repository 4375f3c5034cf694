"""This package's own modules, imported as Python does: pytest would rewrite the assert statements in them.

It does so for every module of a distribution that has a plugin, though no test sees those asserts, and reads what it
has made of a file in small pieces: half a millisecond a module more than Python needs, for the hundred that a session
with an enclave has.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_OWN = f"{__name__.partition('.')[0]}."


class OwnModules(MetaPathFinder):
    """Finds the modules of this package, and nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where Python itself would find it; None for what is not ours."""
        return PathFinder.find_spec(fullname, path, target) if fullname.startswith(_OWN) else None


def import_as_python_does() -> None:
    """From now on, in this process."""
    if not any(isinstance(finder, OwnModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, OwnModules())
