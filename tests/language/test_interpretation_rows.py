"""The rows of behaviour.md §10 that one text decides: what it yields, or the error it ends in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from pytest_enclave.errors import InterpretationError
from pytest_enclave.plan.values import Struct, to_repr


@dataclass(frozen=True)
class Row:
    """`prints` are the messages of the plan's prints, `output` the repr of what `run` returns, `error` a regex."""

    number: str
    text: str
    args: Mapping[str, Any] = field(default_factory=dict)
    prints: Sequence[str] | None = None
    output: str | None = None
    error: str = ""
    main: str = "run"


ARGS = "def run(plan, args):\n    plan.print(args['number'])\n"
PORT = "def run(plan):\n    return PortSpec({})\n"
DIRECTORY = "def run(plan):\n    return Directory({})\n"
CONFIG = "def run(plan):\n    return ServiceConfig({})\n"

ROWS = [
    Row("1", 'def run(plan):\n    plan.print("Hello")\n', prints=["Hello"]),
    Row(
        "2",
        'def deploy(plan, svc, args):\n    plan.print(svc)\n    plan.print(args["a"])\n    plan.print("done")\n'
        "    return svc\n",
        {"svc": "db", "args": {"a": 1}},
        prints=["db", "1", "done"],
        output='"db"',
        main="deploy",
    ),
    Row("3", "def join(a, b):\n    return a + b\n", {"a": "x", "b": "y"}, prints=[], output='"xy"', main="join"),
    Row(
        "4",
        'def run(plan):\n    d = {"a": [1]}\n    plan.print(d)\n    d["a"].append(2)\n    plan.print(d)\n',
        prints=['{"a": [1]}', '{"a": [1, 2]}'],
    ),
    Row("5", "nothing()\n", error=r"<source>:1:1: undefined name `nothing`"),
    Row("7", 'load("x.star")\n\ndef run(plan):\n    pass\n', error=r"<source>:1:1: `load` is not available"),
    Row("8", 'load("github.com/a/b/c.star", "a")\n', error=r"<source>:1:1: `load` is not available"),
    Row("9", "x = 1\n", error=r"script `<source>` has no function `run` in <source>"),
    Row("12", "def run(plan):\n    pass\n", prints=[], output="None"),
    Row("13", "def run(plan):\n    pass\n", {"x": 1}, error=r"`run` takes no argument `x`"),
    Row("14", ARGS, {"number": 4}, prints=["4"]),
    Row("15", 'def run(plan, args):\n    plan.print(hasattr(args, "number"))\n', prints=["False"]),
    Row("16", "def run(plan, args, other):\n    pass\n", error=r"`run` misses 2 arguments: `args`, `other`"),
    Row("17", "def run(plan, a, b):\n    pass\n", {"a": 1}, error=r"`run` misses argument `b`"),
    Row("18", "def run(plan, a, b=1):\n    return a + b\n", {"a": 1}, output="2"),
    Row("19", ARGS, error=r'<source>:2:16: key "number" is not in the dict'),
    Row(
        "20", "def run(args, plan):\n    pass\n", error=r"the first parameter of `run` must be named `plan`, not `args`"
    ),
    Row("21", "def run():\n    pass\n", prints=[]),
    Row("22", "run = 3\n", error=r"`run` is of type int, not a function"),
    Row("23", 'def run(plan):\n    print("x")\n', error=r"<source>:2:10: `print` is not available in packages"),
    Row("24", "def run(plan):\n    return time.now()\n", error=r"`time.now\(\)` is not available"),
    Row("24-duration", 'def run(plan):\n    return time.parse_duration("5s").seconds\n', output="5.0"),
    Row("25-while", "def run(plan):\n    while True:\n        pass\n", error=r"<source>:2:5: Starlark has no `while`"),
    Row("25-recursion", "def f(x):\n    return f(x)\n", error=r"<source>:2:12: `f` calls itself"),
    Row("25-mutual", "def f():\n    g()\ndef g():\n    f()\n", error=r"`f` calls itself \(`f` → `g` → `f`\)"),
    Row("25-for", "for x in []:\n    pass\n", error=r"<source>:1:1: `for` is not allowed at the top level of a file"),
    Row("25-if", "if True:\n    x = 1\n", error=r"<source>:1:1: `if` is not allowed at the top level"),
    Row("25-reassign", "x = 1\nx = 2\n", error=r"<source>:2:1: global `x` is assigned again \(first on line 1\)"),
    Row("25-augmented", "x = 1\nx += 2\n", error=r"<source>:2:1: global `x` is assigned again"),
    Row("25-set", "x = set([1])\n", error=r"<source>:1:5: undefined name `set`"),
    Row("26", "x = []\ndef run(plan):\n    x.append(1)\n", error=r"<source>:3:5: this value is frozen"),
    Row(
        "28",
        "def run(plan, args):\n    plan.print(args.a.b)\n    return type(args)\n",
        {"_kurtosis_parser": "struct", "a": {"b": 7}},
        prints=["7"],
        output='"struct"',
    ),
    Row("29", "def run(plan, d):\n    return d\n", {"d": {"z": [1, 2.5, None], "a": True}}, output=None),
    Row("30", "def run(plan):\n    return lambda x: x\n", output='"<function lambda>"'),
    Row("40", "# nothing here\n", error=r"has no function `run`"),
    Row(
        "45",
        'x = import_module("./y.star")\n',
        error=r'<source>:1:18: cannot import "./y.star": .*not part of a package',
    ),
    Row("58", CONFIG.format('cmd = ["x"]'), error=r"<source>:2:25: ServiceConfig: `image` is missing"),
    Row("59", PORT.format('1, "TCPK"'), error=r'must be one of "TCP", "UDP", "SCTP", not "TCPK"'),
    Row("60", PORT.format('"1234"'), error=r"`number` must be an integer between 1 and 65535, not \"1234\""),
    Row("61-low", PORT.format("0"), error=r"integer between 1 and 65535, not 0"),
    Row("61-high", PORT.format("number = 65536"), error=r"integer between 1 and 65535, not 65536"),
    Row("62", PORT.format("80"), output="PortSpec(number = 80)"),
    Row("63", PORT.format('80, wait = ""'), error=r"`wait` "),
    Row("64", PORT.format("80, wait = None"), output="PortSpec(number = 80, wait = None)"),
    Row(
        "65",
        PORT.format('80, application_protocol = "http s"'),
        error=r"`application_protocol` must be a protocol name",
    ),
    Row(
        "69",
        CONFIG.format('"img", cpu_allocation = 100, memory_allocation = 64'),
        output='ServiceConfig(image = "img", cpu_allocation = 100, memory_allocation = 64)',
    ),
    Row("70", CONFIG.format('"img", memory_allocation = 5'), error=r"integer of megabytes of at least 6, not 5"),
    Row("71", CONFIG.format('"img", env_vars = {"A": 1}'), error=r'`env_vars\["A"\]` must be a string, not 1 \(int\)'),
    Row("72-list", CONFIG.format('"img", cmd = ["a", 1]'), error=r"`cmd\[1\]` must be a string, not 1"),
    Row("72-key", CONFIG.format('"img", ports = {"x": 80}'), error=r'`ports\["x"\]` must be a PortSpec, not 80'),
    Row("78", "def run(plan):\n    ExecRecipe([1])\n", error=r"`command\[0\]` must be a string"),
    Row(
        "79", 'def run(plan):\n    ExecRecipe(["x"], extract = {"a": 1})\n', error=r'`extract\["a"\]` must be a string'
    ),
    Row(
        "80-both",
        DIRECTORY.format('artifact_names = ["a"], persistent_key = "b"'),
        error=r"<source>:2:21: Directory: `persistent_key` cannot be given together with `artifact_names`",
    ),
    Row(
        "80-neither",
        DIRECTORY.format("size = 10"),
        error=r"<source>:2:21: Directory: one of `artifact_names` and `persistent_key` has to be given",
    ),
    Row("80-none", DIRECTORY.format("artifact_names = []"), error=r"`artifact_names` must be a non-empty list"),
    Row("80-size", DIRECTORY.format('persistent_key = "b", size = 0'), error=r"integer of megabytes of at least 1"),
    Row("80-key", DIRECTORY.format('persistent_key = ""'), error=r"`persistent_key` must be a non-empty string"),
    Row(
        "80",
        DIRECTORY.format('persistent_key = "b", size = 10'),
        output='Directory(persistent_key = "b", size = 10)',
    ),
    Row(
        "80-mounted",
        CONFIG.format('"img", files = {"/a": "x", "/b": Directory(["x", "y"])}'),
        output='ServiceConfig(image = "img", files = {"/a": "x", "/b": Directory(artifact_names = ["x", "y"])})',
    ),
    Row(
        "80-else",
        CONFIG.format('"img", files = {"/a": ["x"]}'),
        error=r'`files\["/a"\]` must be the name of a files artifact or a Directory, not \["x"\] \(list\)',
    ),
    Row("86", "def run(plan):\n    plan.print(message = 1)\n", error=r"print: `message` is not an argument it takes"),
    Row("87", CONFIG.format("image = 1, cmd = 2"), error=r"`image` must be .*; `cmd` must be "),
]


@pytest.mark.parametrize("row", [pytest.param(row, id=f"row-{row.number}") for row in ROWS])
def test_interpretation(plan_of: Callable[..., Any], row: Row) -> None:
    if row.error:
        with pytest.raises(InterpretationError) as caught:
            plan_of(row.text, row.args, main=row.main)
        assert re.search(row.error, str(caught.value))
        assert caught.value.location is not None
        assert caught.value.sources == {"<source>": row.text}
        return
    plan = plan_of(row.text, row.args, main=row.main)
    if row.prints is not None:
        printed = [call.get("msg") for call in plan.instructions]
        assert [text if isinstance(text, str) else to_repr(text) for text in printed] == row.prints
    if row.output is not None:
        assert to_repr(plan.output) == row.output


@pytest.mark.parametrize("row", [pytest.param(6, id="row-6")])
def test_all_undefined_names_are_told_together(plan_of: Callable[..., Any], row: int) -> None:
    with pytest.raises(InterpretationError) as caught:
        plan_of("a()\n\ndef run(plan):\n    b(1)\n    plan.print(c)\n")
    assert [str(problem.location) for problem in caught.value.problems] == [
        "<source>:1:1",
        "<source>:4:5",
        "<source>:5:16",
    ]
    assert caught.value.message == (
        "3 mistakes: undefined name `a` (line 1); undefined name `b` (line 4); undefined name `c` (line 5)"
    )


@pytest.mark.parametrize("row", [pytest.param(29, id="row-29")])
def test_output_is_the_value_that_the_arguments_held(plan_of: Callable[..., Any], row: int) -> None:
    given = {"d": {"z": [1, 2.5, None, {"y": []}], "a": True, "m": {"2": "é", "1": 10**30}}}
    output = plan_of("def run(plan, d):\n    return d\n", given).output
    assert output == given["d"]
    assert list(output) == ["z", "a", "m"]
    assert [type(item) for item in output["z"][:3]] == [int, float, type(None)]


@pytest.mark.parametrize("row", [pytest.param(69, id="row-69")])
def test_deprecated_fields_warn_once_per_run(plan_of: Callable[..., Any], row: int) -> None:
    config = 'ServiceConfig("img", cpu_allocation = 100, memory_allocation = 64)'
    plan = plan_of(f"def run(plan):\n    x = {config}\n    y = {config}\n")
    assert [(warning.message, warning.remedy) for warning in plan.warnings] == [
        ("`cpu_allocation` of ServiceConfig is deprecated", "use `max_cpu`"),
        ("`memory_allocation` of ServiceConfig is deprecated", "use `max_memory`"),
    ]
    assert [str(warning.location) for warning in plan.warnings] == ["<source>:2:22"] * 2


SERVICE = """\
def run(plan):
    db = plan.add_service("db", ServiceConfig("img", ports = {
        "bare": PortSpec(5432),
        "web": PortSpec(80, application_protocol = "http", wait = None),
    }))
"""


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        pytest.param(
            'str(db.ports["bare"])', 'PortSpec(number = 5432, transport_protocol = "TCP", wait = "2m0s")', id="row-66"
        ),
        pytest.param('db.ports["web"].number', 80, id="row-67-number"),
        pytest.param('db.ports["web"].transport_protocol', "TCP", id="row-67-transport"),
        pytest.param('db.ports["web"].application_protocol', "http", id="row-67-application"),
        pytest.param('hasattr(db.ports["bare"], "application_protocol")', False, id="row-68-hasattr"),
        pytest.param("type(db)", "Service", id="service-type"),
        pytest.param("dir(db)", ["hostname", "ip_address", "name", "ports"], id="service-fields"),
    ],
)
def test_service_values(plan_of: Callable[..., Any], expression: str, expected: object) -> None:
    output = plan_of(f"{SERVICE}    return {expression}\n").output
    assert (sorted(output) if isinstance(output, list) else output) == expected


@pytest.mark.parametrize("row", [pytest.param(68, id="row-68")])
def test_reading_a_field_that_was_not_set_fails(plan_of: Callable[..., Any], row: int) -> None:
    with pytest.raises(InterpretationError, match=r"`db.ports\[\"bare\"\]` has no field `application_protocol`"):
        plan_of(f'{SERVICE}    return db.ports["bare"].application_protocol\n')


@pytest.mark.parametrize(
    ("value", "change"),
    [
        pytest.param('["a"]', 'x.append("b")', id="row-84-list"),
        pytest.param('{"k": ["a"]}', 'x["k"].append("b")', id="row-84-nested"),
        pytest.param('(["a"],)', 'x[0].append("b")', id="row-84-tuple"),
        pytest.param('struct(k = ["a"])', 'x.k.append("b")', id="row-84-struct"),
    ],
)
def test_later_changes_of_an_argument_are_not_seen(plan_of: Callable[..., Any], value: str, change: str) -> None:
    before, after = (
        plan_of(f"def run(plan):\n    x = {value}\n    plan.print(x)\n    {line}\n").instructions[0].text
        for line in ("pass", change)
    )
    assert before == after


def test_later_changes_of_what_a_type_was_made_from_are_not_seen(plan_of: Callable[..., Any]) -> None:
    plan = plan_of(
        "def run(plan):\n"
        '    env = {"A": "1"}\n'
        '    config = ServiceConfig("img", env_vars = env)\n'
        '    env["A"] = 2\n'
        '    plan.add_service("a", config)\n'
        '    config.env_vars["A"] = 3\n'
        '    plan.add_service("b", config)\n'
    )
    assert [call.get("config").fields["env_vars"] for call in plan.instructions] == [{"A": "1"}] * 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param("None", "None", id="row-85-none"),
        pytest.param("True", "True", id="row-85-bool"),
        pytest.param("'a\"b'", '"a\\"b"', id="row-85-string"),
        pytest.param("-12345678901234567890", "-12345678901234567890", id="row-85-int"),
        pytest.param("1.0", "1.0", id="row-85-float"),
        pytest.param("1e10", "1e+10", id="row-85-float-large"),
        pytest.param("[1, [2]]", "[1, [2]]", id="row-85-list"),
        pytest.param("(1,)", "(1,)", id="row-85-tuple"),
        pytest.param("{'b': 1, 'a': {'d': 1, 'c': 2}}", '{"a": {"c": 2, "d": 1}, "b": 1}', id="row-85-dict"),
        pytest.param("{2: 1, 1: 2}", "{1: 2, 2: 1}", id="row-85-int-keys"),
        pytest.param("struct(b = 1, a = 2)", "struct(a=2, b=1)", id="row-85-struct"),
        pytest.param("float('inf')", "+inf", id="row-85-infinity"),
    ],
)
def test_canonical_text(plan_of: Callable[..., Any], value: str, text: str) -> None:
    assert plan_of(f"def run(plan):\n    plan.print({value})\n").instructions[0].text == f"print(msg={text})"


def test_functions_and_the_like_can_be_shown_and_returned_as_text(plan_of: Callable[..., Any]) -> None:
    plan = plan_of(
        "def run(plan):\n    plan.print([run, plan])\n    return {'f': run, 'r': (range(3),), 's': struct(f = run)}\n"
    )
    assert plan.instructions[0].text == "print(msg=[<function run>, <plan>])"
    fields = {"f": "<function run>"}
    assert plan.output == {"f": "<function run>", "r": ("range(3)",), "s": Struct("struct", fields)}


def test_a_copy_of_a_result_may_be_changed(plan_of: Callable[..., Any]) -> None:
    body = (
        '    x = plan.exec("db", ExecRecipe(command = ["x"]))\n    y = dict(x)\n    y["foo"] = 1\n    return y["foo"]\n'
    )
    assert plan_of(f"def run(plan):\n{body}").output == 1


def test_a_main_function_that_no_name_can_call_is_not_advised(plan_of: Callable[..., Any]) -> None:
    with pytest.raises(InterpretationError) as caught:
        plan_of("def run(plan):\n    pass\n", main="a b")
    assert "def" not in caught.value.remedy
