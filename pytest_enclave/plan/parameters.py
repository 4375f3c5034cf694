"""Arguments: declared once per instruction or type, bound the same way everywhere (behaviour.md §1.0)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from pytest_enclave.plan.checks import NON_EMPTY_STRING, Check
from pytest_enclave.plan.values import Value


class Substitution(Enum):
    """How future references inside an argument are replaced before execution (behaviour.md §4.2)."""

    NONE = "stay as they are"
    TEXT = "by their text"
    TYPED = "by the value itself where the argument is exactly one reference, else by their text"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One declared argument; a parameter that is not required and not given is absent, its `default` is what holds.

    `identity` is False for what may differ between equivalent instructions, such as a description (design §4.1).
    `image` is True for the name of an image, which may be that of a file of the package.
    """

    name: str
    check: Check
    required: bool = False
    default: Value = None
    substitution: Substitution = Substitution.NONE
    identity: bool = True
    image: bool = False


DESCRIPTION = Parameter("description", NON_EMPTY_STRING, identity=False)
"""Accepted, last, by every instruction and every type: told to users in place of a generated sentence."""


class BindingError(ValueError):
    """Arguments do not fit: `findings` maps the argument's name (with a path into it) to the reason."""

    def __init__(self, callee: str, findings: Mapping[str, str]) -> None:
        listed = "; ".join(f"`{name}` {reason}" for name, reason in findings.items())
        super().__init__(f"{callee}: {listed}")
        self.callee = callee
        self.findings = dict(findings)


def bind(
    callee: str, parameters: Sequence[Parameter], positional: Sequence[Value], keywords: Mapping[str, Value]
) -> dict[str, Value]:
    """Lay arguments over parameters, as a dict in declared order of those that were given.

    Raises BindingError with everything that does not fit: too many, unknown, twice, missing, wrong.
    """
    accepted = (*parameters, DESCRIPTION) if all(p.name != "description" for p in parameters) else tuple(parameters)
    findings: dict[str, str] = {}
    given: dict[str, Value] = {}
    for parameter, value in zip(accepted, positional, strict=False):
        given[parameter.name] = value
    if len(positional) > len(accepted):
        findings[callee] = f"takes at most {len(accepted)} arguments, {len(positional)} were given"
    names = [parameter.name for parameter in accepted]
    for name, value in keywords.items():
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            known = ", ".join(f"`{known}`" for known in names)
            findings[name] = "is not an argument it takes" + (
                f" — did you mean `{near[0]}`?" if near else f" (it takes {known})"
            )
        elif name in given:
            findings[name] = "was given twice"
        else:
            given[name] = value
    for parameter in accepted:
        if parameter.name in given:
            for path, reason in parameter.check(given[parameter.name]):
                findings[parameter.name + path] = reason
        elif parameter.required:
            findings[parameter.name] = "is missing"
    if findings:
        raise BindingError(callee, findings)
    return {name: given[name] for name in names if name in given}
