"""Starlark as Go has it, on an interpreter that differs (interpreter.md §2)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_enclave.errors import InterpretationError

GOLDEN = json.loads((Path(__file__).parent / "testdata" / "expressions.json").read_text("utf-8"))["cases"]


@pytest.mark.parametrize(("expression", "expected"), GOLDEN)
def test_expressions_give_what_go_gives(evaluated: Callable[[str], Any], expression: str, expected: str) -> None:
    assert evaluated(f"repr({expression})") == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("str(struct(b = 1, a = 'x'))", 'struct(a = "x", b = 1)'),
        ("'{}'.format(struct(a = 1.0))", "struct(a = 1.0)"),
        ("json.encode(struct(b = 1, a = [1.0, None]))", '{"a":[1.0,null],"b":1}'),
        ("json.encode({'b': 1, 'a': 'é<>'})", '{"a":"é<>","b":1}'),
        ('json.decode(\'{"z": 1, "a": 2.0}\')', {"z": 1, "a": 2.0}),
        ('json.decode(\'{"z": 1, "a": 2}\').keys()', ["z", "a"]),
        ("json.decode('nope', 5)", 5),
        ("json.indent('{\"b\":1,\"a\":[]}', indent = '  ')", '{\n  "b": 1,\n  "a": []\n}'),
        ("type(struct(a = 1))", "struct"),
        ("type(plan)", "plan"),
        ("type(json)", "module"),
        ("type(PortSpec(1))", "PortSpec"),
        ("type(ServiceConfig('i').image)", "string"),
        ("dir(PortSpec(1))", ["number"]),
        ("hasattr(PortSpec(1), 'wait')", False),
        ("PortSpec(1) == PortSpec(1)", True),
        ("PortSpec(1) == PortSpec(2)", False),
        ("bool(PortSpec(1))", True),
        ("str([PortSpec(1, 'UDP')])", '[PortSpec(number = 1, transport_protocol = "UDP")]'),
        ("struct(format = lambda x: x + 1).format(1)", 2),
        ("struct(update = lambda x: x).update(3)", 3),
        ("time.parse_duration('1h30m').minutes", 90.0),
        ("time.second.nanoseconds", 1_000_000_000),
        ("hasattr(plan, 'assert') and hasattr(plan, 'verify')", True),
        ("'a\tb'", "a\tb"),
        ("len(' x ' + 'assert')", 9),
        ("[i for i in [1, 2] if i % 2 == 1]", [1]),
        ("('%s' % 1) + ('%s' % ('%s' % 2))", "12"),
        ("'{}'.format('%s' % '{}'.format(3))", "3"),
        ("'é%s' % 'ü' + '{}é'.format(1.0)", "éü1.0é"),
        ("'%s'  # 50% sure\n        % 1 if True else 2", "1"),
        ("('a'\n    .format())", "a"),
    ],
)
def test_expressions_beyond_the_core(evaluated: Callable[[str], Any], expression: str, expected: object) -> None:
    assert evaluated(f"({expression})") == expected


def test_tabs_are_indentation_and_columns_stay_the_users_own(plan_of: Callable[..., Any]) -> None:
    text = "def run(plan):\n\tif True:\n\t\tx\t=\t1\n\t\tplan.print(x,\t1)\n"
    with pytest.raises(InterpretationError) as caught:
        plan_of(text)
    assert str(caught.value.location) == "<source>:4:13"
    assert caught.value.sources["<source>"] == text


def test_eight_spaces_are_one_tab(plan_of: Callable[..., Any]) -> None:
    assert plan_of("def run(plan):\n\tx = 1\n        y = 2\n\treturn x + y\n").output == 3


def test_windows_line_ends(plan_of: Callable[..., Any]) -> None:
    assert plan_of('def run(plan):\r\n    x = """a\r\nb"""\r\n    return x\r\n').output == "a\nb"


def test_rewriting_leaves_columns_behind_it_exact(plan_of: Callable[..., Any]) -> None:
    text = 'def run(plan):\n    x = "{} é".format(1.0) + "%s" % 2.0; plan.print(x); y = [][0]\n'
    with pytest.raises(InterpretationError) as caught:
        plan_of(text)
    assert caught.value.location is not None
    assert caught.value.location.column == text.split("\n")[1].index("[]") + 1


def test_remainder_assignment(plan_of: Callable[..., Any]) -> None:
    assert plan_of(
        'def run(plan):\n    x = "%s!"\n    x %= 1.5\n    y = 7\n    y %= 4\n    return [x, y]\n'
    ).output == [
        "1.5!",
        3,
    ]


def test_module_level_dicts_take_methods_that_change_nothing(plan_of: Callable[..., Any]) -> None:
    text = 'd = {"a": 1}\n\ndef run(plan):\n    d.update({})\n    return d.setdefault("a", 2)\n'
    assert plan_of(text).output == 1


def test_assert_is_a_name_like_any_other(plan_of: Callable[..., Any]) -> None:
    text = 'def run(plan):\n    plan.assert("a", "==", "a")\n    p = plan; p.assert("b", "!=", target_value = "c")\n'
    plan = plan_of(text)
    assert [(call.name, str(call.location)) for call in plan.instructions] == [
        ("verify", "<source>:2:16"),
        ("verify", "<source>:3:23"),
    ]
    assert plan.sources["<source>"] == text


@pytest.mark.parametrize("quotes", ['"""', "'''"])
def test_tabs_inside_texts_stay(plan_of: Callable[..., Any], quotes: str) -> None:
    assert plan_of(f"def run(plan):\n\treturn {quotes}a\n\tb\\\\{quotes}\n").output == "a\n\tb\\"
