"""From the interpreter's error texts to errors in the words, lines and columns of the user's own files.

The interpreter gives its errors as text only: a traceback with a line for each call, the message behind `error: `, and
the innermost place behind ` --> `. Frames of the prelude and of generated code are left out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from pytest_enclave.errors import InterpretationError
from pytest_enclave.language.module import Module
from pytest_enclave.source import Frame, Location

_CALL = re.compile(r"^  \* (?P<file>.+):(?P<line>\d+), in (?P<function>.+)$", re.MULTILINE)
_PLACE = re.compile(r"^ *--> (?P<file>.+):(?P<line>\d+):(?P<column>\d+)$", re.MULTILINE)
_CANCELLED = "Evaluation cancelled"
_OVERFLOW = "Starlark call stack overflow"

TOO_DEEP = "the value contains itself or is nested too deeply"

_REWORDED: Sequence[tuple[re.Pattern[str], str, str]] = [
    (
        re.compile(r"Immutable"),
        "this value is frozen and cannot be changed",
        "values of a file's top level are frozen once it is loaded: make a copy, or build the value in a function",
    ),
    (
        re.compile(r"This operation mutates an iterable for an iterator while iterating\."),
        "a collection cannot be changed while it is iterated over",
        "iterate over a copy: `for x in list(things):`",
    ),
    (
        re.compile(_OVERFLOW),
        "calls are nested too deeply",
        "Starlark has no recursion: loop over a list or a range instead",
    ),
    (re.compile(r"Key `(?P<a>.*)` was not found", re.DOTALL), "key {a} is not in the dict", ""),
    (re.compile(r"Index `(?P<a>.*)` is out of bound"), "index {a} is out of range", ""),
    (re.compile(r"Missing parameter `(?P<a>.*)` for call to `.*\.(?P<b>[^.]+)`"), "`{b}` misses argument `{a}`", ""),
    (
        re.compile(r"Found `(?P<a>.*)` extra named parameter\(s\) for call to .*\.(?P<b>[^.]+)"),
        "`{b}` takes no argument `{a}`",
        "",
    ),
    (
        re.compile(r"Found (?P<a>\d+) extra positional argument\(s\) for call to .*\.(?P<b>[^.]+)"),
        "`{b}` was given {a} positional argument(s) too many",
        "",
    ),
    (
        re.compile(r"Operation `\(iter\)` not supported on type `(?P<a>.*)`"),
        "a value of type {a} cannot be iterated over",
        "",
    ),
    (re.compile(r"Operation `call\(\)` not supported on type `(?P<a>.*)`"), "a value of type {a} cannot be called", ""),
    (re.compile(r"Parse error: (?P<a>.*?), expected .*", re.DOTALL), "syntax error: {a}", ""),
    (re.compile(r"Parse error: (?P<a>.*)", re.DOTALL), "syntax error: {a}", ""),
    (re.compile(r"Local variable `(?P<a>.*)` referenced before assignment"), "`{a}` is used before it is assigned", ""),
]

_ATTRIBUTE = re.compile(
    r"Object of type `(?P<type>.*)` has no attribute `(?P<name>[^`]*)`(?P<hint>, did you mean `.*`\?)?"
)
_EXPECTATIONS = ("contains", "eq", "fail", "fails", "false", "lt", "ne", "true")
"""What `expect` has in files of unit tests."""

_HINT = re.compile(r",? did you mean `(?P<near>.*)`\?")


class Call(msgspec.Struct, frozen=True):
    """One line of a traceback: where a call stands, and the function it stands in."""

    file: str
    line: int
    function: str


class Diagnosis(msgspec.Struct, frozen=True):
    """The interpreter's error text, taken apart. `place` is file, line and column, if it names one."""

    message: str
    calls: tuple[Call, ...]
    place: tuple[str, int, int] | None

    @property
    def cancelled(self) -> bool:
        """Whether the evaluation was stopped from outside."""
        return self.message == _CANCELLED


def read(text: str) -> Diagnosis:
    """Take the interpreter's error text apart."""
    head, separator, tail = ("\n" + text).partition("\nerror: ")
    if not separator:
        head, tail = "", text
    places = list(_PLACE.finditer(tail))
    message = tail[: places[-1].start()] if places else tail
    place = (places[-1]["file"], int(places[-1]["line"]), int(places[-1]["column"])) if places else None
    return Diagnosis(message.strip(), tuple(_calls(head)), place)


def callers(stack: str, callee: str, modules: Mapping[str, Module]) -> tuple[Frame, ...]:
    """The calls in the user's files that a call stack's text has, from the outermost to that of `callee`."""
    calls = list(_calls(stack))
    callees = [*(call.function for call in calls[1:]), callee]
    return tuple(_frame(call, name, modules) for call, name in zip(calls, callees, strict=True) if call.file in modules)


def _frame(call: Call, callee: str, modules: Mapping[str, Module]) -> Frame:
    return Frame(modules[call.file].call_place(call.line, callee.strip("_")), call.function)


def caller(call: str) -> Call:
    """The call whose lines of a call stack's text these are."""
    return next(_calls(call))


def _calls(text: str) -> Iterator[Call]:
    for match in _CALL.finditer(text):
        yield Call(match["file"], int(match["line"]), match["function"])


def frames(diagnosis: Diagnosis, modules: Mapping[str, Module]) -> tuple[Frame, ...]:
    """The calls in the user's files from the outermost to the innermost, which is where the error is."""
    calls = list(diagnosis.calls)
    innermost = _innermost(diagnosis, modules)
    if innermost and calls and (calls[-1].file, calls[-1].line) == (innermost.location.file, innermost.location.line):
        calls.pop()
    callees = [call.function for call in calls[1:]] + [innermost.function if innermost else ""]
    found = [
        _frame(call, callee, modules) for call, callee in zip(calls, callees, strict=False) if call.file in modules
    ]
    return (*found, innermost) if innermost else tuple(found)


def _innermost(diagnosis: Diagnosis, modules: Mapping[str, Module]) -> Frame | None:
    """The place that the interpreter names, if it is in a user's file."""
    if diagnosis.place is None or diagnosis.place[0] not in modules:
        return None
    file, line, column = diagnosis.place
    return Frame(modules[file].place(line, column), modules[file].function_at(line))


def explain(diagnosis: Diagnosis, modules: Mapping[str, Module], instructions: Sequence[str]) -> InterpretationError:
    """The error to raise; `instructions` are the names that `plan` has."""
    stack = frames(diagnosis, modules)
    message, remedy = _reworded(diagnosis.message)
    attribute = _ATTRIBUTE.fullmatch(diagnosis.message)
    if attribute:
        message, remedy = _no_attribute(attribute, diagnosis, modules, instructions)
    if diagnosis.message == _OVERFLOW and diagnosis.calls and diagnosis.calls[-1].file not in modules:
        message, remedy = TOO_DEEP, ""  # it was the border that walked the value
    place = stack[-1].location if stack else None
    if place is None and diagnosis.place and diagnosis.place[0] in modules:
        place = Location(diagnosis.place[0], diagnosis.place[1])
    return InterpretationError(message, location=place, remedy=remedy, frames=stack)


def _reworded(message: str) -> tuple[str, str]:
    hint = _HINT.search(message)
    remedy = f"did you mean `{hint['near']}`?" if hint else ""
    plain = _HINT.sub("", message)
    for pattern, words, advice in _REWORDED:
        if match := pattern.fullmatch(plain):
            return words.format(**match.groupdict()), advice or remedy
    return plain[:1].lower() + plain[1:] if plain[1:2].islower() else plain, remedy


def _no_attribute(
    match: re.Match[str], diagnosis: Diagnosis, modules: Mapping[str, Module], instructions: Sequence[str]
) -> tuple[str, str]:
    """What has no such attribute is told as it is written: to the interpreter, most things here are structs."""
    name, kind = match["name"], match["type"]
    file, line, _ = diagnosis.place or ("", 0, 0)
    owner = modules[file].owner_of(line, name) if file in modules else ""
    if owner == "plan":
        near = difflib.get_close_matches(name, instructions, 1)
        known = ", ".join(f"`{known}`" for known in sorted(instructions))
        return f"`plan` has no `{name}`", f"did you mean `{near[0]}`?" if near else f"there are {known}"
    hint = _HINT.search(match["hint"] or "")
    remedy = f"did you mean `{hint['near']}`?" if hint and "\0" not in hint["near"] else ""
    if not remedy and owner in ("expect", "verify") and file.endswith("_test.star"):
        remedy = f"there are {', '.join(f'`{known}`' for known in _EXPECTATIONS)}"
    of_kind = "" if kind == "struct" else f" (of type {kind})" if owner else f" of type {kind}"
    return f"{f'`{owner}`' if owner else 'the value'}{of_kind} has no field `{name}`", remedy
