"""yaml_args.json: argument texts and kurtosis.yml files as Kurtosis reads them."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_enclave.golang import yaml

GOLDEN = Path(__file__).parent.parent / "golden" / "yaml_args.json"
CASES: list[dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]

# Refused as in Go, in other words: Go's show its own representation of the value.
OTHER_WORDS = {
    "?": "Unsupported map key of type: %!s(<nil>), key: <nil>",
    "null: x": "Unsupported map key of type: %!s(<nil>), key: <nil>",
    "? [1,2]\n: x": "yaml: invalid map key: a list or map",
}


def cases(kind: str) -> list[dict[str, Any]]:
    return [case for case in CASES if case["kind"] == kind]


def manifest(text: str) -> yaml.StrictDocument:
    return yaml.load_strict(text, texts=("name", "description"), maps=("replace",))


@pytest.mark.parametrize("case", cases("args"), ids=lambda case: repr(case["in"]))
def test_arguments_become_the_json_that_kurtosis_makes(case: dict[str, Any]) -> None:
    if case["out"] is not None:
        assert yaml.args_json(case["in"]) == case["out"]
        return
    with pytest.raises(yaml.YamlError) as caught:
        yaml.args_json(case["in"])
    assert str(caught.value) == OTHER_WORDS.get(case["in"], case["error"])


@pytest.mark.parametrize("case", cases("kurtosis.yml"), ids=lambda case: repr(case["in"]))
def test_a_manifest_is_read_strictly(case: dict[str, Any]) -> None:
    if case["out"] is not None:
        document = manifest(case["in"])
        fields = {"name": document.texts.get("name", ""), "description": document.texts.get("description", "")}
        assert {**fields, "replace": document.maps.get("replace")} == json.loads(case["out"])
        return
    with pytest.raises(yaml.YamlError) as caught:
        manifest(case["in"])
    expected = case["error"].replace(" in type main.KurtosisYaml", "").replace("main.KurtosisYaml", "a mapping")
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1, "b": 1.0, "c": 1e3}', {"a": 1, "b": 1.0, "c": 1000.0}),
        ("a: 1\nb: 1.0\nc: 1e3", {"a": 1, "b": 1, "c": 1000}),
        ("k: yes", {"k": True}),
        ("k: 0777", {"k": 511}),
        ("", None),
        ("- 12:30\n- 2024-01-02", ["12:30", "2024-01-02"]),
        ('{"n": 123456789012345678901234567890}', {"n": 123456789012345678901234567890}),
    ],
)
def test_arguments_become_plain_values(text: str, value: object) -> None:
    loaded = yaml.loads_args(text)
    assert loaded == value
    assert repr(loaded) == repr(value)  # 1 and 1.0 are not the same argument


def test_every_problem_of_a_manifest_is_reported_with_its_place() -> None:
    with pytest.raises(yaml.StrictYamlError) as caught:
        manifest("name: a\n  \nbogus: 1\nreplace:\n  x: y\n  x: [z]\n")
    assert [(problem.text, str(problem.position)) for problem in caught.value.problems] == [
        ("field bogus not found", "3:1"),
        ('key "x" already set in map', "6:3"),
    ]


def test_the_places_of_values_are_known() -> None:
    document = manifest("name: a\nreplace:\n  x: ../y\n")
    assert str(document.positions["name",]) == "1:7"
    assert str(document.positions["replace", "x"]) == "3:6"


def billion_laughs() -> str:
    lines = ["a: &a [lol]"]
    for name, before in zip("bcdefghij", "abcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        billion_laughs(),
        "&a [*a]",
        "[" * 100_000,
        "- " * 100_000,
        "? " * 5_000,
        "a: &a {<<: *a}",
        "!!binary é",
        "k: " + "9" * 100_000,
    ],
    ids=lambda text: text[:12],
)
def test_a_hostile_document_is_refused_or_read_quickly(text: str) -> None:
    started = time.monotonic()
    with contextlib.suppress(yaml.YamlError):
        yaml.loads_args(text)
    assert time.monotonic() - started < 3


def test_pure_python_parser_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml as pyyaml

    monkeypatch.delattr(pyyaml, "CSafeLoader", raising=False)
    # Its scanner does not take a tab for a blank.
    readable = [case for case in cases("args") if case["out"] is not None and case["in"] != "k: \tx"]
    assert [case["in"] for case in readable if yaml.args_json(case["in"]) != case["out"]] == []


@given(st.text(alphabet="ab:-?[]{},&*!|>'\"#%@` \n1.0xyn~<\t", max_size=40))
def test_any_text_is_read_or_refused_with_a_yaml_error(text: str) -> None:
    with contextlib.suppress(yaml.YamlError):
        yaml.loads_args(text)
