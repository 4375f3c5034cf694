"""Typed views of the recipes: what to run, or to ask, and what to extract (behaviour.md §2.3, §2.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from pytest_enclave.golang.duration import parse
from pytest_enclave.plan.values import Struct, Value


class ExecRecipe(msgspec.Struct, frozen=True):
    """A command to run inside a service; each item is one argument, no shell in between."""

    command: tuple[str, ...]
    extract: Mapping[str, str]

    def __str__(self) -> str:
        return " ".join(self.command)


class HttpRecipe(msgspec.Struct, frozen=True):
    """A request to a service's port. `endpoint` is path and query as written; `body` is None for GET."""

    method: str
    port_id: str
    endpoint: str
    body: str | None
    headers: Mapping[str, str]
    extract: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.method} {self.endpoint} on port `{self.port_id}`"


Recipe: TypeAlias = "ExecRecipe | HttpRecipe"


def recipe_of(struct: Struct) -> Recipe:
    """The view of one of the three recipe values."""
    extract = struct.get("extract", {})
    if struct.kind == "ExecRecipe":
        return ExecRecipe(tuple(struct.fields["command"]), extract)
    headers = dict(struct.get("headers", {}))
    body = None
    if struct.kind == "PostHttpRequestRecipe":
        body = struct.get("body", "")
        headers.setdefault("Content-Type", struct.get("content_type", "application/json"))
    method = "GET" if body is None else "POST"
    return HttpRecipe(method, struct.fields["port_id"], struct.fields["endpoint"], body, headers, extract)


class Condition(msgspec.Struct, frozen=True):
    """Something to wait for: a recipe, the field of its result to look at, and what that must be. Seconds."""

    recipe: Recipe
    field: str
    assertion: str
    target: Value
    interval: float
    timeout: float


class ReadyCondition(Condition, frozen=True):
    """A condition that a service must meet before it counts as started."""

    @classmethod
    def of(cls, struct: Struct) -> ReadyCondition:
        """The view of a `ReadyCondition` value."""
        return cls(
            recipe=recipe_of(struct.fields["recipe"]),
            field=struct.fields["field"],
            assertion=struct.fields["assertion"],
            target=struct.fields["target_value"],
            interval=parse(struct.get("interval", "1s")) / 1e9,
            timeout=parse(struct.get("timeout", "15m")) / 1e9,
        )
