"""An instruction in one line: its name and the arguments that say which one it is (behaviour.md §7.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from pytest_enclave.plan.connections import Connection
from pytest_enclave.plan.futures import find
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.recipes import HttpRecipe, recipe_of
from pytest_enclave.plan.values import Struct, Value, quote
from pytest_enclave.report.masking import Secrets
from pytest_enclave.report.text import cut, printable, written


def short_call(call: Instruction, width: int = 80, secrets: Secrets | None = None) -> str:
    """`add_service("db")`, `wait("api", GET /ready → code == 200)`: never longer than the width.

    Future references read `‹code›`. Secrets are masked before anything is cut: half of one is too much already.
    """
    tell = _TOLD.get(call.name, _first_arguments)
    try:
        inside = tell(call)
    except (AttributeError, KeyError, TypeError, ValueError):
        # A third party's instruction may use a known name and other arguments.
        inside = _first_arguments(call)
    if secrets is not None:
        inside = secrets.mask(inside)
    inside = " ".join(printable(readable(inside)).split())
    return call.name + "(" + cut(inside, max(width - len(call.name) - 2, 1)) + ")"


def told(call: Instruction, width: int = 80, secrets: Secrets | None = None) -> str:
    """What is told of an instruction while it runs: its description, or else the call."""
    description = call.get("description")
    if not isinstance(description, str):
        return short_call(call, width, secrets)
    masked = description if secrets is None else secrets.mask(description)
    return cut(" ".join(printable(readable(masked)).split()), width)


def readable(text: str) -> str:
    """The text with future references as `‹field›`."""
    for future in find(text):
        text = text.replace(str(future), f"‹{future.field}›")
    return text


def _first_arguments(call: Instruction) -> str:
    return ", ".join(_value(value) for value in list(call.arguments.values())[:2])


def _value(value: Value) -> str:
    if isinstance(value, Struct):
        return f"{value.kind}(…)"
    return written(value)


def _named(*names: str) -> Callable[[Instruction], str]:
    def tell(call: Instruction) -> str:
        return ", ".join(_value(call.arguments[name]) for name in names if name in call.arguments)

    return tell


def _services(call: Instruction) -> str:
    return ", ".join(quote(name) for name in call.get("configs"))


def _recipe(call: Instruction) -> str:
    recipe = recipe_of(call.get("recipe"))
    if isinstance(recipe, HttpRecipe):
        return f"{quote(call.get('service_name'))}, {recipe.method} {recipe.endpoint}"
    return f"{quote(call.get('service_name'))}, $ {recipe}"


def _wait(call: Instruction) -> str:
    wanted = f"{call.get('field')} {call.get('assertion')} {written(call.get('target_value'))}"
    return f"{_recipe(call)} → {wanted}"


def _verify(call: Instruction) -> str:
    return f"{readable(call.get('value'))} {call.get('assertion')} {written(call.get('target_value'))}"


def _command(call: Instruction) -> str:
    return f"$ {call.get('run')}"


def _connection(call: Instruction) -> str:
    pair = call.get("subnetworks")
    config = call.get("config")
    between = "default" if pair is None else " ↔ ".join(map(quote, pair))
    return between if config is None else f"{between}, {Connection.of(config)}"


def _move(call: Instruction) -> str:
    return f"{quote(call.get('name'))}, {quote(call.get('config').fields['subnetwork'])}"


_TOLD: Mapping[str, Callable[[Instruction], str]] = MappingProxyType(
    {
        "add_service": _named("name"),
        "add_services": _services,
        "exec": _recipe,
        "request": _recipe,
        "wait": _wait,
        "verify": _verify,
        "print": _named("msg"),
        "render_templates": _named("name"),
        "upload_files": _named("src", "name"),
        "store_service_files": _named("service_name", "src", "name"),
        "run_sh": _command,
        "set_service": _named("name"),
        "run_python": _named("run"),
        "set_connection": _connection,
        "remove_connection": _connection,
        "update_service": _move,
    }
)
