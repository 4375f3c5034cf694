"""The arguments of a run (behaviour.md rows 27 and 32)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_enclave.errors import PackageError
from pytest_enclave.package.arguments import parse_arguments

EXAMPLE = 'write an object, for example `{"replicas": 3}`'


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        (None, {}),
        ("", {}),
        ({"a": (1, 2.0, {"b": None})}, {"a": [1, 2.0, {"b": None}]}),
        ('{"a": 1, "b": 1.0, "c": 1e3}', {"a": 1, "b": 1.0, "c": 1000.0}),
        pytest.param("a: 1\nb: [x, 2.5]\n", {"a": 1, "b": ["x", 2.5]}, id="row-32"),
    ],
)
def test_parsed(given: object, parsed: object) -> None:
    result = parse_arguments(given)
    assert result == parsed
    assert repr(result) == repr(parsed)


def test_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ci.yml").write_text("a: é\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    assert parse_arguments("@ci.yml") == {"a": "é"}


def test_a_dict_is_copied() -> None:
    given: dict[str, list[int]] = {"a": [1]}
    parsed = parse_arguments(given)
    given["a"].append(2)
    assert parsed == {"a": [1]}


@pytest.mark.parametrize(
    ("given", "message", "remedy"),
    [
        pytest.param(
            "[1]", "<arguments>: the arguments must be an object of names and values, not a list", EXAMPLE, id="row-27"
        ),
        ("x", "<arguments>: the arguments must be an object of names and values, not a string", EXAMPLE),
        ("a: [", "<arguments>:1: the arguments are neither JSON nor YAML: ", EXAMPLE),
        ("@nope.json", "`nope.json` does not exist", ""),
        (3, "arguments cannot be an int", "pass a dict, or text in JSON or YAML"),
        ({1: 2}, "args has the key 1: keys must be strings", "write '1'"),
        ("a: 1\nb: 2\na: 3", "<arguments>:3: the arguments repeat a key: the key `a` is there twice", EXAMPLE),
        ("y: 1\non: 3", "<arguments>:2: the arguments repeat a key: the key `true` is there twice", EXAMPLE),
        ({"a": ["\ud800"]}, "args['a'][0] holds half of a surrogate pair, which is no character", "pass whole char"),
        ({"\udfff": 1}, "args has the key '\\udfff', which holds half of a surrogate pair", "pass whole characters"),
        ({"a": {"b": [object()]}}, "args['a']['b'][0] is an object: packages take None, bool", "pass its text"),
    ],
)
def test_refused(given: object, message: str, remedy: str) -> None:
    with pytest.raises(PackageError) as caught:
        parse_arguments(given)
    assert str(caught.value).startswith(message)
    assert remedy in caught.value.remedy
