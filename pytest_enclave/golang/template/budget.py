"""What a template may use up: steps and bytes.

Templates come from packages, and packages from anywhere: `{{range 1000000000}}` or a template that calls itself
must end with an error, not with the test run. Go itself only bounds the depth of template calls.
"""

from __future__ import annotations

__all__ = ["Budget", "BudgetError"]

MAX_STEPS = 2_000_000
"""Statements executed and expressions evaluated in one rendering (a few seconds' worth)."""

MAX_BYTES = 64 * 2**20
"""Characters that one rendering may produce, in its output and in intermediate strings together."""


class BudgetError(Exception):
    """The template asked for more than its budget; `str(error)` says of what."""


class Budget:
    """Counts down while one template is rendered."""

    __slots__ = ("_bytes", "_steps")

    def __init__(self, steps: int = MAX_STEPS, size: int = MAX_BYTES) -> None:
        self._steps = steps
        self._bytes = size

    def step(self) -> None:
        """Account for one statement or expression. Raises `BudgetError` when too many were executed."""
        self._steps -= 1
        if self._steps < 0:
            raise BudgetError(f"template takes more than {MAX_STEPS} steps")

    def produce(self, size: int) -> None:
        """Account for `size` characters about to be produced. Raises `BudgetError` when they are too many."""
        self._bytes -= size
        if self._bytes < 0:
            raise BudgetError(f"template produces more than {MAX_BYTES >> 20} MiB of text")
