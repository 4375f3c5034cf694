"""The arguments of a run: a dict, text in JSON or YAML, or a file of it (behaviour.md §3.3, rows 27 and 32)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pytest_enclave.errors import PackageError
from pytest_enclave.package.files import read_text
from pytest_enclave.plan.values import Value, with_article
from pytest_enclave.source import Location

_LINE = r"(?:yaml: )?line (\d+): "
_SURROGATE = "[\ud800-\udfff]"
_HALF = "holds half of a surrogate pair, which is no character"
_REMEDY = 'pass whole characters, for example `text.encode("utf-8", "replace").decode()`'
_EXAMPLE = 'write an object, for example `{"replicas": 3}`'


def parse_arguments(value: object) -> dict[str, Value]:
    """A run's arguments as a new dict of plain values.

    `value` is None (no arguments), a mapping, text in JSON or YAML, or `@path` for a file of such text, relative to
    the working directory. Integers stay int, other numbers float. Raises PackageError, with the place where known.
    """
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return {_key(key, "args"): _plain(item, f"args[{key!r}]") for key, item in value.items()}
    if not isinstance(value, str):
        raise PackageError(
            f"arguments cannot be {with_article(type(value).__name__)}", remedy="pass a dict, or text in JSON or YAML"
        )
    if value.startswith("@"):
        path = Path(value[1:])
        text, _ = read_text(path, str(path))
        return _parse(text, str(path))
    return _parse(value, "<arguments>")


def _parse(text: str, shown: str) -> dict[str, Value]:
    if not text.strip():
        return {}
    # Most tests give none, or a dict.
    from pytest_enclave.golang.yaml import YamlError, loads_args

    try:
        parsed = loads_args(text)
    except YamlError as error:
        line = re.match(_LINE, str(error))
        reason = re.sub(_LINE, "", str(error), count=1).removeprefix("yaml: ")
        raise PackageError(
            f"the arguments {'repeat a key' if 'is there twice' in reason else 'are neither JSON nor YAML'}: {reason}",
            location=Location(shown, int(line[1]) if line else 0),
            remedy=_EXAMPLE,
        ) from None
    if not isinstance(parsed, dict):
        raise PackageError(
            f"the arguments must be an object of names and values, not {_kind(parsed)}",
            location=Location(shown),
            remedy=_EXAMPLE,
        )
    return parsed


def _kind(value: object) -> str:
    names = {list: "a list", str: "a string", int: "a number", float: "a number", bool: "a bool", type(None): "null"}
    return names[type(value)]


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise PackageError(f"{where} has the key {key!r}: keys must be strings", remedy=f"write {str(key)!r}")
    if not _is_text(key):
        raise PackageError(f"{where} has the key {key!r}, which {_HALF}", remedy=_REMEDY)
    return key


def _is_text(value: str) -> bool:
    return value.isascii() or not re.search(_SURROGATE, value)


def _plain(value: object, where: str) -> Value:
    """A copy of plain data; anything else is refused, by its path."""
    if isinstance(value, str) and not _is_text(value):
        raise PackageError(f"{where} {_HALF}", remedy=_REMEDY)
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {_key(key, where): _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    kind = with_article(type(value).__name__)
    raise PackageError(
        f"{where} is {kind}: packages take None, bool, int, float, str, lists and dicts only",
        remedy="pass its text, for example `str(value)`",
    )
