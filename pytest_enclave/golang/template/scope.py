"""Where execution stands inside one template: its variables, and the node that a message would point at."""

from __future__ import annotations

from pytest_enclave.golang.template import nodes
from pytest_enclave.golang.template.budget import Budget

__all__ = ["Node", "Refusal", "Scope"]

Node = nodes.Expression | nodes.Statement


class Refusal(Exception):
    """Execution cannot go on; `str(refusal)` is Go's text without the place, which is `scope`'s current node."""

    def __init__(self, message: str, scope: Scope) -> None:
        super().__init__(message)
        self.scope = scope


class Scope:
    """One template being executed. A call starts a new one: no variable of the caller is visible in it."""

    __slots__ = ("_variables", "budget", "depth", "name", "node")

    def __init__(self, name: str, dot: object, budget: Budget, depth: int = 0) -> None:
        self.name = name
        self.budget = budget
        self.depth = depth
        self.node: Node | None = None
        self._variables: list[tuple[str, object]] = [("$", dot)]

    def at(self, node: Node) -> None:
        """Remember `node` for messages, and pay for a step."""
        self.node = node
        self.budget.step()

    def refuse(self, message: str) -> Refusal:
        """The error that ends the execution here."""
        return Refusal(message, self)

    def mark(self) -> int:
        """The present height of the variables, for `drop_to`."""
        return len(self._variables)

    def drop_to(self, mark: int) -> None:
        """Forget the variables declared since `mark`."""
        del self._variables[mark:]

    def declare(self, name: str, value: object) -> None:
        """`$x := value`."""
        self._variables.append((name, value))

    def assign(self, name: str, value: object) -> None:
        """`$x = value`: changes the innermost variable of that name. Raises `Refusal` when there is none."""
        self._variables[self._position(name)] = (name, value)

    def set_from_top(self, count: int, value: object) -> None:
        """Change the variable that was declared last (1), or the one before it (2)."""
        name, _ = self._variables[-count]
        self._variables[-count] = (name, value)

    def variable(self, name: str) -> object:
        """The value of the innermost variable of that name. Raises `Refusal` when there is none."""
        return self._variables[self._position(name)][1]

    def _position(self, name: str) -> int:
        for position in range(len(self._variables) - 1, -1, -1):
            if self._variables[position][0] == name:
                return position
        raise self.refuse(f"undefined variable: {name}")
