"""What static passes made of files, kept from one process to the next: they take most of the time of a large package.

An entry is named by all that it depends on: the file's text, the names it finds predeclared, the code of the passes and
the version of Python, whose parser reads it. It is JSON behind a digest of itself. Whatever cannot be read, is damaged
or cannot be written is made anew, in silence. Only files in which there is nothing to refuse are kept.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pytest_enclave import cache
from pytest_enclave.errors import EnclaveError
from pytest_enclave.language.edits import Edit, Edited
from pytest_enclave.language.module import Import, Module
from pytest_enclave.source import Location

SHORTEST = 500
"""Characters from which on a text is worth an entry."""

LARGEST = 1 << 20
"""Bytes that an entry may have."""

ROOM = 8 << 20
"""Bytes that all entries whose names begin with the same digit may have; there are sixteen such groups."""


PASSES = (
    *("caution", "columns", "contents", "desugar", "edits", "grammar", "growth", "inlining", "kept", "module"),
    *("normalise", "recursion", "results", "rules", "scopes", "syntax", "tree"),
)
"""The files of this room that make modules of texts."""


class KeptModules:
    """The entries below `root`, if there is such a place. Safe to use from several threads and processes."""

    def __init__(self, root: Path | None) -> None:
        self._root = root

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> KeptModules:
        """Those of the user with this environment."""
        try:
            return cls(cache.directory(environ, "starlark"))
        except EnclaveError:
            return cls(None)

    def find(self, name: str, text: str, predeclared: Collection[str]) -> Module | None:
        """The module that was made of this text, under the name it has now."""
        if self._root is None or len(text) < SHORTEST:
            return None
        try:
            # Without blocking: whatever is in the place of an entry is no reason to wait.
            descriptor = os.open(self._path(self._root, text, predeclared), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                digest, _, body = file.read(LARGEST + 1).partition(b"\n")
            if digest.decode() != hashlib.sha256(body).hexdigest():
                return None
            return _module(name, text, json.loads(body))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None

    def keep(self, module: Module, predeclared: Collection[str]) -> None:
        """Write the entry of a module, if there is room, or old entries can make it."""
        if self._root is None or len(module.text) < SHORTEST:
            return
        with contextlib.suppress(OSError, ValueError):
            body = json.dumps(_data(module), separators=(",", ":")).encode()
            if len(body) < LARGEST - 100:
                path = self._path(self._root, module.text, predeclared)
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _make_room(path.parent)
                _write(path, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)

    @staticmethod
    def _path(root: Path, text: str, predeclared: Collection[str]) -> Path:
        known = "\0".join((_code(), *sorted(predeclared), text))
        digest = hashlib.sha256(known.encode("utf-8", "surrogatepass")).hexdigest()
        return root / digest[0] / digest[1:]


@functools.cache
def _code() -> str:
    """What the passes are, by their content: installed files may have equal times and sizes, whatever is in them."""
    digest = hashlib.sha256(repr(sys.version_info[:3]).encode())
    for name in PASSES:
        source = Path(__file__).with_name(f"{name}.py").read_bytes()
        digest.update(b"%d:" % len(source) + source)
    return digest.hexdigest()


def _make_room(group: Path) -> None:
    entries = sorted((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in os.scandir(group))
    excess = sum(size for _, size, _ in entries) - ROOM
    for _, size, path in entries:
        if excess <= 0:
            return
        os.unlink(path)
        excess -= size


def _write(path: Path, content: bytes) -> None:
    """All at once: whoever reads finds the whole entry or none."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _data(module: Module) -> dict[str, Any]:
    return {
        "normalised": _edited_data(module.normalised),
        "evaluated": _edited_data(module.evaluated),
        "calls": [[line, callee, columns] for (line, callee), columns in module.calls.items()],
        "names": module.names,
        "imports": [[each.locator, each.place.line, each.place.column, each.eager] for each in module.imports],
        "risky": module.risky,
    }


def _module(name: str, text: str, data: Any) -> Module:
    return Module(
        name=name,
        text=text,
        normalised=_edited(data["normalised"]),
        evaluated=_edited(data["evaluated"]),
        calls={(line, callee): tuple(columns) for line, callee, columns in data["calls"]},
        names=tuple(data["names"]),
        imports=tuple(
            Import(locator, Location(name, line, column), eager) for locator, line, column, eager in data["imports"]
        ),
        risky=data["risky"],
    )


def _edited_data(edited: Edited) -> list[Any]:
    edits = [[edit.line, edit.column, edit.removed, edit.inserted] for each in edited.edits.values() for edit in each]
    return [edited.text, edits]


def _edited(data: Any) -> Edited:
    text, edits = data
    by_line: dict[int, list[Edit]] = {}
    for edit in edits:
        by_line.setdefault(edit[0], []).append(Edit(*edit))
    return Edited(text, by_line)
