"""Whatever comes in, there is a result or a clear error: no traceback, no hang, no crash of the process."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_enclave.errors import EnclaveError
from pytest_enclave.golang import json_text, layouts, yaml
from pytest_enclave.golang.jq import JqProcess
from pytest_enclave.golang.jq_process import ExtractionError
from pytest_enclave.golang.template import Template, TemplateError
from pytest_enclave.instructions.registry import built_in
from pytest_enclave.language.interpret import interpret
from pytest_enclave.package.load import load
from pytest_enclave.package.package import Source

ROOT = Path(__file__).parents[2]
CORPUS = sorted(
    {
        text
        for file in (*ROOT.glob("tests/**/*.star"), *ROOT.glob("example_packages/**/*.star"))
        for text in file.read_text("utf-8").split("---\n")
    }
)
EXPRESSIONS = json.loads((ROOT / "tests/language/testdata/go_expressions.json").read_text("utf-8"))["expressions"]
PIECE = re.compile(r"\s+|\w+|.")
"""What a mutation takes out, puts in, or doubles."""

FUZZED = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def mutants(draw: Callable[[Any], Any], corpus: list[str]) -> str:
    """A text of the corpus after some edits with pieces of another."""
    pieces = PIECE.findall(draw(st.sampled_from(corpus)))
    others = PIECE.findall(draw(st.sampled_from(corpus))) or [""]
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(pieces)))
        end = draw(st.integers(at, min(at + 4, len(pieces))))
        kind = draw(st.sampled_from(["out", "in", "twice", "text"]))
        if kind == "out":
            pieces[at:end] = []
        elif kind == "twice":
            pieces[at:at] = pieces[at:end] * draw(st.sampled_from([1, 2, 300]))
        else:
            pieces[at:at] = [draw(st.sampled_from(others)) if kind == "in" else draw(st.text(max_size=3))]
    return "".join(pieces)


def told(work: Callable[[], object], *errors: type[Exception]) -> str:
    """What `work` says is wrong, if anything; any other exception comes through."""
    try:
        work()
    except errors as error:
        return str(error)
    return ""


def is_clear(message: str) -> bool:
    return not re.search(r"Traceback|native_|operator_[a-z]+__|<prelude>|PanicException", message)


@given(mutants(CORPUS))
@FUZZED
def test_sources(text: str) -> None:
    assert is_clear(told(lambda: interpret(load(Source(text)), built_in(), {}, timeout=2), EnclaveError))


@given(st.lists(mutants(EXPRESSIONS), min_size=1, max_size=4))
@FUZZED
def test_expressions(expressions: list[str]) -> None:
    body = "".join(f"    x = {expression}\n" for expression in expressions)
    text = f"def run(plan):\n    x = [1]\n    for _ in range(4):\n{body.replace('    x', '        x')}    return x\n"
    assert is_clear(told(lambda: interpret(load(Source(text)), built_in(), {}, timeout=2), EnclaveError))


MANIFESTS = [
    "name: github.com/a/b\n",
    'name: "github.com/a/b/c"\ndescription: |-\n  text\nreplace:\n'
    "  github.com/c/d: ../d # here\n  github.com/e/f: github.com/e/g@v1\n",
]


@given(mutants(MANIFESTS) | st.text())
@FUZZED
def test_manifests(text: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kurtosis.yml").write_bytes(text.encode("utf-8", "surrogatepass"))
        (folder / "main.star").write_text("def run(plan):\n    pass\n")
        assert is_clear(told(lambda: interpret(load(folder), built_in(), {}), EnclaveError))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.just("\x00"), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text() | st.sampled_from(["a", "b", "_kurtosis_parser"]), VALUES, max_size=4))
@FUZZED
@pytest.mark.parametrize(
    "text", ["def run(plan, args):\n    return args\n", "def run(plan, a = 1, **b):\n    return (a, b)\n"]
)
def test_arguments(text: str, arguments: dict[str, Any]) -> None:
    assert is_clear(told(lambda: interpret(load(Source(text)), built_in(), arguments), EnclaveError))


@given(mutants(["a: 1\nb: [x, y]\n", '{"a": {"b": 1.5e3}}', "a: &x 0o7\nb: *x\n", "? a\n: !!int 3\n"]) | st.text())
@FUZZED
def test_arguments_as_text(text: str) -> None:
    told(lambda: yaml.loads_args(text), yaml.YamlError)


@given(
    mutants(
        [
            "{{ .A }} {{- if eq .B 1 }}x{{ else }}{{ len .C }}{{ end }}",
            '{{ range $i, $x := .C }}{{ printf "%d" $i }}{{ end }}',
        ]
    )
)
@FUZZED
def test_templates(text: str) -> None:
    data = '{"A": "x", "B": 1, "C": [1, 2.5, null, {"D": true}]}'
    told(lambda: Template.parse(text).render(data), TemplateError)


@pytest.fixture(scope="module")
def queries() -> Iterator[JqProcess]:
    with JqProcess(0.5) as process:
        yield process


@given(mutants([".a[0] | length", 'split("?") | .[0]', "if . then 1 else fromjson end", "[.[] | tonumber] | add"]))
@settings(FUZZED, max_examples=60)
def test_jq(queries: JqProcess, query: str) -> None:
    told(lambda: queries.extract(query, '{"a": [1, "2?3"]}'), ExtractionError)


@given(st.text() | mutants(["2006-01-02T15:04:05.999Z07:00", "Mon Jan _2 2006 3PM MST"]), st.text())
@FUZZED
def test_layouts_of_times(layout: str, text: str) -> None:
    clock = layouts.Clock(2024, 2, 29, 13, 5, 6, 700, -3600)
    told(lambda: layouts.read(layout, text), layouts.LayoutError)
    told(lambda: layouts.read(layout, layouts.render(layout, clock)), layouts.LayoutError)


@given(st.text() | mutants(['{"a": [1, 2.5e3, null, true, "\\u00e9"]}']))
@FUZZED
def test_json(text: str) -> None:
    told(lambda: json_text.loads(text, float), json_text.JsonError)
