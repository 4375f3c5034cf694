"""Faults as texts, as the marker `enclave_faults` takes them.

    kill:db  stop:db,cache  pause:db
    partition:api,worker|db  partition:a|b|c  block:api|db
    delay:api|db:200ms  delay:api|db:0.2s+-20ms  loss:api|db:30%

Sides are kept apart by `|`, or by `>` where only what the first sends to the second is concerned.
"""

from __future__ import annotations

import re
from typing import get_args

from pytest_enclave.enclave.fault import OF_SERVICES, Fault, Kind, delayed, lossy
from pytest_enclave.plan.connections import BLOCKED, Connection

KINDS: tuple[Kind, ...] = get_args(Kind)

_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_NUMBER = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
_DELAY = re.compile(rf"{_NUMBER}(ms|s)(?:\+-{_NUMBER}(ms|s))?")
_PERCENT = re.compile(rf"{_NUMBER}%")
_MS = {"ms": 1.0, "s": 1000.0}

_EXAMPLES: dict[str, str] = {
    "kill": "kill:db",
    "stop": "stop:db",
    "pause": "pause:db",
    "partition": "partition:api,worker|db",
    "block": "block:api|db",
    "delay": "delay:api|db:200ms",
    "loss": "loss:api|db:30%",
}


class WrongFault(ValueError):
    """A text that is no fault: what is wrong, from which character on (from 0), and how it is written."""

    def __init__(self, text: str, at: int, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.text = text
        self.at = at
        self.reason = reason
        self.remedy = remedy

    def lines(self) -> list[str]:
        """The text, what is wrong below its place, and the remedy."""
        return [f"    {self.text}", f"    {' ' * self.at}^ {self.reason}", f"    help: {self.remedy}"]


def parse(text: str) -> Fault:
    """The fault that a text names. Raises WrongFault."""
    kind, colon, rest = text.partition(":")
    if kind not in KINDS:
        from difflib import get_close_matches

        alike = get_close_matches(kind, KINDS, 1)
        remedy = f"did you mean `{alike[0]}`?" if alike else f"there are {', '.join(KINDS)}"
        raise WrongFault(text, 0, f"there is no fault `{kind}`", remedy)
    remedy = f"write it as `{_EXAMPLES[kind]}`"
    if not colon:
        raise WrongFault(text, len(kind), "what it is about is missing", remedy)
    start = len(kind) + 1
    if kind in OF_SERVICES:
        return Fault(kind, (_names(text, start, rest, remedy),))
    sides, colon, amount = rest.partition(":")
    connection = _connection(kind, text, start + len(sides), colon, amount, remedy)
    return _between(kind, text, start, sides, connection, remedy)


def _between(kind: Kind, text: str, start: int, sides: str, connection: Connection, remedy: str) -> Fault:
    if "|" in sides and ">" in sides:
        at = start + max(sides.index("|"), sides.index(">"))
        raise WrongFault(text, at, "`|` is for both directions, `>` for one: not both", remedy)
    separator = ">" if ">" in sides else "|"
    parts = sides.split(separator)
    if len(parts) < 2:
        raise WrongFault(text, start + len(sides), "the other side is missing", remedy)
    if len(parts) > 2 and kind != "partition":
        at = start + len(parts[0]) + 1 + len(parts[1])
        raise WrongFault(text, at, f"a {kind} has two sides; several services on one are separated by `,`", remedy)
    groups, at = [], start
    for part in parts:
        groups.append(_names(text, at, part, remedy))
        at += len(part) + 1
    try:
        return Fault(kind, tuple(groups), connection, one_way=separator == ">")
    except ValueError as error:
        raise WrongFault(text, start, str(error), remedy) from None


def _names(text: str, at: int, part: str, remedy: str) -> tuple[str, ...]:
    names = part.split(",")
    for name in names:
        if not _NAME.fullmatch(name):
            raise WrongFault(text, at, f"`{name}` is no service's name" if name else "a service is missing", remedy)
        at += len(name) + 1
    return tuple(names)


def _connection(kind: str, text: str, at: int, colon: str, amount: str, remedy: str) -> Connection:
    """What the amount at the end says; the fault's kind may need none."""
    if kind not in ("delay", "loss"):
        if colon:
            raise WrongFault(text, at, f"a {kind} has no amount", remedy)
        return BLOCKED
    if kind == "delay":
        if found := _DELAY.fullmatch(amount):
            mean, unit, deviation, its_unit = found.groups()
            return delayed(float(mean) * _MS[unit], float(deviation or 0) * _MS[its_unit or "ms"])
        wanted = "a delay ends with a time, as `200ms` or `0.2s+-20ms`"
        raise WrongFault(text, at + len(colon), wanted, remedy)
    if (found := _PERCENT.fullmatch(amount)) and float(found[1]) <= 100:
        return lossy(float(found[1]))
    raise WrongFault(text, at + len(colon), "a loss ends with a percentage of at most 100, as `30%`", remedy)
