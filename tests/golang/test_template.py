"""Every case of go_template.json: output, partial output and error text of Go's own text/template."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_enclave.golang import json_text
from pytest_enclave.golang.template import Template, TemplateError, TemplateExecutionError, TemplateSyntaxError

GOLDEN = Path(__file__).parent.parent / "golden" / "go_template.json"
CASES: list[dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]
GROUPS = sorted({case["group"] for case in CASES})


def exact(output: str) -> bytes:
    return output.encode("utf-8", "surrogateescape")


def outcome(case: dict[str, Any]) -> tuple[str, bytes, str | None]:
    """Stage, output and error, by the same steps as in Kurtosis: prepare the data, parse, execute."""
    try:
        prepared = json_text.dumps(json_text.loads_floats(case["data"]))
        assert prepared == case["prepared"]
        template = Template.parse(case["template"], "tmpl")
        return "ok", exact(template.render(prepared)), None
    except json_text.JsonError as error:
        return "data", b"", str(error)
    except TemplateSyntaxError as error:
        return "parse", b"", str(error)
    except TemplateExecutionError as error:
        return "exec", exact(error.partial_output), str(error)


@pytest.mark.parametrize("group", GROUPS)
def test_templates_render_and_fail_as_in_go(group: str) -> None:
    different = []
    for case in CASES:
        if case["group"] != group:
            continue
        output = base64.b64decode(case["output_b64"]) if case.get("output_b64") else case["output"].encode()
        expected = (case["stage"], output, case.get("error"))
        if (actual := outcome(case)) != expected:
            different.append(f"{case['id']}: {case['template']!r}\n  expected {expected}\n  actual   {actual}")
    assert not different, "\n".join(different)


@pytest.mark.parametrize(
    "source",
    [
        "{{range 1000000000}}{{end}}",
        "{{range 1000000000}}x{{end}}",
        "{{range 99999}}{{range 99999}}{{len $.l}}{{end}}{{end}}",
        '{{define "a"}}{{template "b"}}{{end}}{{define "b"}}{{template "a"}}{{end}}{{template "a"}}',
        '{{define "a"}}{{template "a"}}{{template "a"}}{{end}}{{template "a"}}',
        '{{$x := "x"}}{{range 99}}{{$x = print $x $x}}{{end}}',
        '{{range 99999}}{{$x := printf "%999999d" 1}}{{end}}',
        '{{range 999999}}{{printf "%.999999f" 1.0}}{{end}}',
        "{{range 9999999}}{{slice $.s 0}}{{end}}",
    ],
)
def test_a_runaway_template_ends_with_an_error(source: str) -> None:
    template = Template.parse(source)
    started = time.monotonic()
    with pytest.raises(TemplateExecutionError, match=r"more than|depth"):
        template.render(json.dumps({"l": [1], "s": "x" * 10_000}))
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    "source",
    [
        "{{" + "(" * 100_000 + "1" + ")" * 100_000 + "}}",
        "{{if 1}}" * 20_000 + "x" + "{{end}}" * 20_000,
        "{{if 0}}" + "{{else if 0}}" * 20_000 + "x{{end}}",
        "{{$x := 1}}" * 20_000 + "{{$x}}" * 20_000,
        "{{" + "1 |" * 20_000 + "print}}",
        "{{print " + "$ " * 50_000 + "}}",
        '{{block "a" .}}' * 2_000 + "{{end}}" * 2_000,
        "{{/*" * 50_000,
        "{{- " * 50_000,
        "{{.a" + ".a" * 50_000 + "}}",
    ],
    ids=lambda source: source[:12],
)
def test_a_large_or_deep_template_is_handled_in_linear_time(source: str) -> None:
    started = time.monotonic()
    with contextlib.suppress(TemplateError):
        Template.parse(source).render("{}")
    assert time.monotonic() - started < 10


def test_deep_data_is_printed_or_refused_but_never_crashes() -> None:
    template = Template.parse("{{.}}")
    assert template.render("[" * 100 + "]" * 100) == "[" * 100 + "]" * 100
    with pytest.raises(TemplateExecutionError):
        template.render("[" * 100_000 + "]" * 100_000)


def test_a_template_can_be_rendered_again_with_other_data() -> None:
    template = Template.parse("{{$x := .n}}{{range .l}}{{$x}}{{.}} {{end}}")
    assert template.render('{"n": 1, "l": ["a", "b"]}') == "1a 1b "
    assert template.render('{"n": 2, "l": []}') == ""


def test_a_syntax_error_knows_its_line() -> None:
    with pytest.raises(TemplateSyntaxError) as caught:
        Template.parse("one\ntwo {{.x}}\n{{nope}}\n", "config.yml")
    assert caught.value.line == 3
    assert str(caught.value) == 'template: config.yml:3: function "nope" not defined'


@given(st.text(alphabet="{}-/* .$xif()rangeend|\"'`:=,1\n%vsq\\é", max_size=60))
def test_any_text_is_parsed_or_refused_with_a_template_error(source: str) -> None:
    with contextlib.suppress(TemplateError):
        Template.parse("{{" + source + "}}").render('{"x": [1, {"i": "é"}]}')


@given(st.text(max_size=30))
def test_any_printf_format_yields_text_within_the_budget(template_format: str) -> None:
    template = Template.parse("{{printf .f 1 2.5 .f .m}}")
    with contextlib.suppress(TemplateExecutionError):
        assert isinstance(template.render(json.dumps({"f": "%" + template_format, "m": {"a": [1]}})), str)
