"""Which variables exist at a place in the template, while it is parsed."""

from __future__ import annotations

__all__ = ["Names"]


class Names:
    """The variables in scope, `$` first. Declaring, asking and forgetting take constant time per variable."""

    def __init__(self) -> None:
        self._order: list[str] = []
        self._counts: dict[str, int] = {}
        self.declare("$")

    def __contains__(self, name: str) -> bool:
        return self._counts.get(name, 0) > 0

    def declare(self, name: str) -> None:
        """Add a variable; one of the same name is hidden until this one is forgotten."""
        self._order.append(name)
        self._counts[name] = self._counts.get(name, 0) + 1

    def mark(self) -> int:
        """The present height, for `drop_to`."""
        return len(self._order)

    def drop_to(self, mark: int) -> None:
        """Forget what was declared since `mark`."""
        while len(self._order) > mark:
            self._counts[self._order.pop()] -= 1
