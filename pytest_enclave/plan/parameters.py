"""Arguments: declared once per instruction or type, bound the same way everywhere (behaviour.md §1.0)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from enum import Enum

import msgspec

from pytest_enclave.plan.checks import NON_EMPTY_STRING, Check
from pytest_enclave.plan.values import Value


class Substitution(Enum):
    """How future references inside an argument are replaced before execution (behaviour.md §4.2)."""

    NONE = "stay as they are"
    TEXT = "by their text"
    TYPED = "by the value itself where the argument is exactly one reference, else by their text"


class Parameter(msgspec.Struct, frozen=True):
    """One declared argument; a parameter that is not required and not given is absent, its `default` is what holds.

    `identity` is False for what may differ between equivalent instructions, such as a description (design §4.1).
    `image` is True for the name of an image, which may be that of a file of the package; `context` for the directory
    that an image is built from, whose content belongs to the value.
    """

    name: str
    check: Check
    required: bool = False
    default: Value = None
    substitution: Substitution = Substitution.NONE
    identity: bool = True
    image: bool = False
    context: bool = False


DESCRIPTION = Parameter("description", NON_EMPTY_STRING, identity=False)
"""Accepted, last, by every instruction and every type: told to users in place of a generated sentence."""


class BindingError(ValueError):
    """Arguments do not fit: `findings` maps the argument's name (with a path into it) to the reason."""

    def __init__(self, callee: str, findings: Mapping[str, str]) -> None:
        listed = "; ".join(f"`{name}` {reason}" for name, reason in findings.items())
        super().__init__(f"{callee}: {listed}")
        self.callee = callee
        self.findings = dict(findings)


class Binder:
    """Lays arguments over the parameters of one callee, again and again.

    What fits is told by the predicates of the checks alone; only where something does not, findings are collected.
    """

    def __init__(self, callee: str, parameters: Sequence[Parameter]) -> None:
        described = any(parameter.name == "description" for parameter in parameters)
        self._callee = callee
        self._accepted = tuple(parameters) if described else (*parameters, DESCRIPTION)
        self._names = tuple(parameter.name for parameter in self._accepted)
        self._order = {name: index for index, name in enumerate(self._names)}.__getitem__
        self._accepts = {parameter.name: parameter.check.accepts for parameter in self._accepted}
        self._required = frozenset(parameter.name for parameter in self._accepted if parameter.required)

    def __call__(self, positional: Sequence[Value], keywords: Mapping[str, Value]) -> dict[str, Value]:
        """The arguments as a dict in declared order of those that were given.

        Raises BindingError with everything that does not fit: too many, unknown, twice, missing, wrong.
        """
        given = {**dict(zip(self._names, positional, strict=False)), **keywords} if positional else keywords
        if len(given) == len(positional) + len(keywords) and self._required <= given.keys():
            accepts = self._accepts
            for name, value in given.items():
                if name not in accepts or not accepts[name](value):
                    break
            else:
                return {name: given[name] for name in sorted(given, key=self._order)}
        raise BindingError(self._callee, self._findings(positional, keywords))

    def _findings(self, positional: Sequence[Value], keywords: Mapping[str, Value]) -> dict[str, str]:
        findings: dict[str, str] = {}
        given: dict[str, Value] = dict(zip(self._names, positional, strict=False))
        if len(positional) > len(self._names):
            findings[self._callee] = f"takes at most {len(self._names)} arguments, {len(positional)} were given"
        for name, value in keywords.items():
            if name not in self._names:
                near = difflib.get_close_matches(name, self._names, 1)
                known = ", ".join(f"`{known}`" for known in self._names)
                findings[name] = "is not an argument it takes" + (
                    f" — did you mean `{near[0]}`?" if near else f" (it takes {known})"
                )
            elif name in given:
                findings[name] = "was given twice"
            else:
                given[name] = value
        for parameter in self._accepted:
            if parameter.name in given:
                for path, reason in parameter.check(given[parameter.name]):
                    findings[parameter.name + path] = reason
            elif parameter.required:
                findings[parameter.name] = "is missing"
        return findings


def bind(
    callee: str, parameters: Sequence[Parameter], positional: Sequence[Value], keywords: Mapping[str, Value]
) -> dict[str, Value]:
    """Lay arguments over parameters once; see `Binder`."""
    return Binder(callee, parameters)(positional, keywords)
