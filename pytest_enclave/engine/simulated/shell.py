"""The commands that a simulated service understands without a script.

`echo`, `true`, `false`, `sleep N` and `cat PATH…`, each also as `sh -c TEXT` where the text is one plain
command: enough for examples to do what they say, and too little to be mistaken for a shell.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

import msgspec

from pytest_enclave.engine.protocol import ExecResult, NotReached

SHELLS = frozenset({"sh", "bash", "/bin/sh", "/bin/bash"})
BEYOND = frozenset("$`;&|<>()\n")
"""What makes a shell's text more than one plain command; such texts are not understood."""


class Performed(msgspec.Struct, frozen=True):
    """A command's result, and how many seconds it spent beyond what any command takes."""

    result: ExecResult
    seconds: float = 0.0


def perform(command: Sequence[str], content: Callable[[str], bytes]) -> Performed | None:
    """Carry out a command, or None where it is not one of those understood.

    `content` gives a file's content by path, and raises NotReached with the reason where it has none.
    """
    match list(command):
        case ["echo", "-n", *words]:
            return Performed(ExecResult(0, " ".join(words)))
        case ["echo", *words]:
            return Performed(ExecResult(0, " ".join(words) + "\n"))
        case ["true", *_]:
            return Performed(ExecResult(0, ""))
        case ["false", *_]:
            return Performed(ExecResult(1, ""))
        case ["sleep", duration]:
            return _sleep(duration)
        case ["cat", *paths] if paths:
            return Performed(_cat(paths, content))
        case [shell, "-c", text] if shell in SHELLS and not BEYOND.intersection(text):
            return perform(_words(text), content)
    return None


def _sleep(duration: str) -> Performed:
    if duration.replace(".", "", 1).isdecimal():
        return Performed(ExecResult(0, ""), float(duration))
    return Performed(ExecResult(1, f"sleep: invalid time interval '{duration}'\n"))


def _cat(paths: Sequence[str], content: Callable[[str], bytes]) -> ExecResult:
    shown = [_show(path, content) for path in paths]
    return ExecResult(max(each.code for each in shown), "".join(each.output for each in shown))


def _show(path: str, content: Callable[[str], bytes]) -> ExecResult:
    try:
        return ExecResult(0, content(path).decode(errors="replace"))
    except NotReached as reason:
        return ExecResult(1, f"cat: {path}: {reason}\n")


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # a quote that is never closed
        return []
