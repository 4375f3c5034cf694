"""What Starlark unit tests have beyond packages: expectations, mocks, a look at the plan."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent, indent
from typing import Any

import pytest

from pytest_enclave.errors import ExpectationFailed, InterpretationError, ScriptFailed
from pytest_enclave.plan.instruction import Plan

LIB = """
constant = 3

def add(x = 1, *others, **named):
    return x + constant

def use(plan, name):
    return plan.run_sh(run = "echo " + name)

def give_up(message):
    fail(message)

def add_twice(x):
    return add(x) + add(x)
"""

SERVICE = """
plan.add_service("db", ServiceConfig(
    image = "postgres",
    ports = {"sql": PortSpec(number = 5432)},
    files = {"/a": "schema", "/b": Directory(persistent_key = "data")},
    max_cpu = 15,
))
config = get_service_config(service_name = "db")
"""

REFUSED = "mock: only functions of imported modules and of `plan` can be mocked"

Tested = Callable[..., Plan]


@pytest.fixture
def tested(plan_of: Callable[..., Plan]) -> Tested:
    """The plan of one unit test with this body, in a package that has the module LIB."""

    def plan(body: str, before: str = "", parameters: str = "plan", **files: str) -> Plan:
        lines = indent(dedent(body).strip("\n"), "    ")
        text = f'lib = import_module("/lib.star")\n{before}\ndef test_it({parameters}):\n{lines}\n'
        package = {
            "lib.star": LIB,
            "main.star": text,
            "a_test.star": text,
            **{f"{n}.star": t for n, t in files.items()},
        }
        return plan_of(package, main="test_it", unit_test=True, test_file="a_test.star")

    return plan


@pytest.fixture
def plan_of(write: Callable[..., Any]) -> Callable[..., Plan]:
    from pytest_enclave.instructions.registry import built_in
    from pytest_enclave.language.interpret import interpret
    from pytest_enclave.package.load import load

    def interpreted(files: dict[str, str], test_file: str, **options: Any) -> Plan:
        return interpret(load(write(files) / test_file), built_in(), {}, **options).plan

    return interpreted


def failure(tested: Tested, body: str, kind: type[InterpretationError] = ExpectationFailed, **more: str) -> Any:
    with pytest.raises(kind) as raised:
        tested(body, **more)
    assert type(raised.value) is kind
    return raised.value


# expectations


@pytest.mark.parametrize(
    "line",
    [
        "expect.eq(1, 1)",
        "expect.eq({'a': [1, (2,)]}, {'a': [1, (2,)]})",
        "expect.eq(1, 1.0)",
        "expect.eq(PortSpec(number = 80), PortSpec(80))",
        "expect.eq(lib.add, lib.add)",
        "expect.eq(plan, plan)",
        "expect.ne(1, 2)",
        "expect.ne([True], [1])",
        "expect.ne([lambda: 1], [lambda: 1])",
        "expect.lt(1, 2)",
        "expect.contains([1, 2], 2)",
        "expect.contains('text', 'ex')",
        "expect.contains({'a': 1}, 'a')",
        "expect.true(1)",
        "expect.true([0], 'it has one')",
        "expect.false('')",
        "assert.eq(1, 1)",
        "assert.true(True)",
        "kurtosistest.expect.eq(1, 1)",
    ],
)
def test_expectations_that_hold(tested: Tested, line: str) -> None:
    assert tested(line).instructions == ()


@pytest.mark.parametrize(
    ("line", "message", "comparison"),
    [
        ("expect.eq(1, '1')", 'expect.eq: 1 is not "1"', (1, "==", "1")),
        ("expect.ne(1, 1.0)", "expect.ne: 1 is 1.0", (1, "!=", 1.0)),
        ("expect.lt(2, 2)", "expect.lt: 2 is not less than 2", (2, "<", 2)),
        ("expect.contains([1], 2)", "expect.contains: [1] does not contain 2", ([1], "contains", 2)),
        ("expect.true([])", "expect.true: [] is not true", None),
        ("expect.true(0, 'no replicas')", "expect.true: 0 is not true: no replicas", None),
        ("expect.false('x', 'why')", 'expect.false: "x" is not false: why', None),
        ("expect.fail('oh', 1)", "expect.fail: oh 1", None),
        ("expect.fail()", "expect.fail: `expect.fail()` was called", None),
        ("expect.eq('x' * 100, '')", "expect.eq: the values differ", ("x" * 100, "==", "")),
        ("expect.ne([0] * 50, [0] * 50)", "expect.ne: the values are equal", ([0] * 50, "!=", [0] * 50)),
    ],
)
def test_expectations_that_do_not_hold_say_so_at_their_place(
    tested: Tested, line: str, message: str, comparison: object
) -> None:
    error = failure(tested, line)
    assert error.message == message
    assert error.comparison == comparison
    assert str(error.location) == f"a_test.star:4:{4 + len('expect.') + line.index('(') - len('expect.') + 1}"
    assert isinstance(error, AssertionError)


def test_an_expectation_in_a_helper_tells_who_called_it(tested: Tested) -> None:
    error = failure(tested, "check(2)", before="def check(x):\n    expect.eq(x, 1)\n")
    assert str(error.location) == "a_test.star:3:14"
    assert [str(frame.location) for frame in error.frames] == ["a_test.star:6:10", "a_test.star:3:14"]


# expect.fails


@pytest.mark.parametrize(
    "call",
    [
        "lambda: lib.give_up('oh no'), 'oh n'",
        "lambda: lib.give_up('oh no'), '^oh no$'",
        "lambda: lib.give_up('oh no')",
        "lambda: {}['x'], 'key \"x\" is not in the dict'",
        "lambda: plan.exec('db'), '`recipe`'",
        "lambda: PortSpec(number = 0), 'PortSpec'",
        "lambda: expect.eq(1, 2), '1 is not 2'",
        "lambda: expect.fails(lambda: 1), 'nothing failed'",
        "lambda: lib.add(x = 'a'), 'not supported|operation'",
    ],
)
def test_what_is_to_fail_and_fails_so_is_well(tested: Tested, call: str) -> None:
    tested(f"expect.fails({call})")


def test_the_test_goes_on_behind_what_fails(tested: Tested) -> None:
    plan = tested("""
        seen = []
        for n in range(5):
            expect.fails(lambda: lib.give_up("no {}".format(n)), "no {}".format(n))
            seen.append(n)
        plan.print(str(seen))
    """)
    assert [call.arguments["msg"] for call in plan.instructions] == ["[0, 1, 2, 3, 4]"]


def test_what_failed_leaves_nothing_in_the_plan(tested: Tested) -> None:
    before = "def half(plan):\n    plan.print('half')\n    fail('no')\n"
    plan = tested("expect.fails(lambda: half(plan), 'no')\nplan.print('done')", before=before)
    assert [call.arguments["msg"] for call in plan.instructions] == ["done"]


def test_failures_within_failures_are_each_their_own(tested: Tested) -> None:
    before = "def inner():\n    expect.fails(lambda: lib.give_up('a'), 'a')\n    fail('b')\n"
    tested("expect.fails(inner, 'b')", before=before)


NESTED = "def inner():\n    expect.fails(lambda: lib.give_up('a'), 'a')\n    fail('b')\n"


def test_a_failure_within_another_is_not_taken_for_that_of_a_later_call(tested: Tested) -> None:
    error = failure(tested, "expect.fails(inner, 'b')\nexpect.fails(lambda: None, 'a')", before=NESTED)
    assert (error.message, error.location.line) == ("expect.fails: nothing failed", 8)


def test_calls_behind_nested_failures_are_made(tested: Tested) -> None:
    plan = tested(
        """
        expect.fails(outer, "^c$")
        expect.fails(inner, "^b$")
        expect.fails(lambda: lib.give_up("d"), "^d$")
        plan.print("done")
        """,
        before=NESTED + "def outer():\n    expect.fails(inner, '^b$')\n    expect.fails(inner, '^b$')\n    fail('c')\n",
    )
    assert [call.arguments["msg"] for call in plan.instructions] == ["done"]


def test_the_second_of_two_calls_within_another_is_its_own(tested: Tested) -> None:
    before = "def outer():\n    expect.fails(inner, 'b')\n    expect.fails(lambda: None)\n"
    tested("expect.fails(outer, 'nothing failed')\nexpect.fails(inner, '^b$')", before=NESTED + before)


def test_a_mock_within_what_fails_is_undone_with_it(tested: Tested) -> None:
    before = "def half():\n    mock(lib, 'add').mock_return_value(0)\n    expect.eq(lib.add(1), 0)\n    fail('no')\n"
    tested("expect.fails(half, '^no$')\nexpect.eq(lib.add(1), 4)", before=before)


@pytest.mark.parametrize("confined", [False, True])
def test_a_failure_is_not_taken_for_that_in_a_file_that_is_imported_later(tested: Tested, confined: bool) -> None:
    body = f"""
        expect.fails(lambda: lib.give_up("a"), "a")
        {"[x for x in range(70000)]" if confined else "pass"}
        import_module("/b_{{}}.star".format("test"))
    """
    error = failure(tested, body, b_test="expect.fails(lambda: None, 'a')\n")
    assert (error.message, error.location.file) == ("expect.fails: nothing failed", "b_test.star")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("lambda: 1", "expect.fails: nothing failed"),
        ("lambda: lib.give_up('x'), 'y+'", 'expect.fails: it fails with "x", which does not match `y+`'),
    ],
)
def test_what_is_to_fail_and_does_not_is_a_failure(tested: Tested, call: str, message: str) -> None:
    assert failure(tested, f"expect.fails({call})").message == message


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("'('", "expect.fails: `(` is no regular expression: missing ), unterminated subpattern at position 0"),
        ("3", "expect.fails: the pattern must be a string, not 3"),
    ],
)
def test_a_pattern_has_to_be_one(tested: Tested, pattern: str, message: str) -> None:
    assert failure(tested, f"expect.fails(lambda: fail('x'), {pattern})", InterpretationError).message == message


def test_a_failure_outside_is_not_caught(tested: Tested) -> None:
    error = failure(tested, "expect.fails(lambda: fail('a'), 'a')\nfail('b')", ScriptFailed)
    assert (error.message, error.location.line) == ("b", 5)


def test_a_loop_without_end_is_not_what_fails(tested: Tested, plan_of: Callable[..., Plan]) -> None:
    text = "def spin():\n    for _ in range(100000):\n        [x for x in range(100000)]\n"
    text += "def test_it(plan):\n    expect.fails(spin)\n"
    with pytest.raises(InterpretationError, match=r"took longer than 0\.3 s"):
        plan_of({"main.star": "", "a_test.star": text}, "a_test.star", main="test_it", unit_test=True, timeout=0.3)


# mocks


def test_a_mock_gives_what_it_is_told(tested: Tested) -> None:
    tested("""
        made = mock(lib, "add").mock_return_value(16)
        expect.eq(lib.add(2), 16)
        made.mock_return_value({"a": [1]})
        expect.eq(lib.add(2), {"a": [1]})
        made.mock_return_value(None)
        expect.eq(lib.add(2), None)
        made.mock_return_value()
        expect.eq(lib.add(2), 5)
        expect.eq(made.original(7), 10)
        expect.eq(type(made), "mock")
    """)


def test_a_mock_remembers_its_calls(tested: Tested) -> None:
    tested("""
        made = kurtosistest.mock(lib, "add")
        expect.eq(made.calls(), [])
        lib.add(2, PortSpec(number = 80), plan, flag = True)
        made.mock_return_value("x")
        lib.add(x = (1, 2), what = plan)
        expect.eq(made.calls(), [
            struct(args = [2, PortSpec(number = 80), plan], kwargs = {"flag": True}, return_value = 5),
            struct(args = [], kwargs = {"x": (1, 2), "what": plan}, return_value = "x"),
        ])
        expect.true(made.calls()[0].args[2] == plan)
        made.calls()[0].args[2].print("the plan is itself again")
    """)


def test_instructions_can_be_mocked_for_whoever_has_the_plan(tested: Tested) -> None:
    plan = tested("""
        made = mock(plan, "run_sh")
        result = lib.use(plan, "a")
        made.mock_return_value(struct(output = "mocked"))
        expect.eq(lib.use(plan, "b").output, "mocked")
        expect.eq(made.calls(), [
            struct(args = [], kwargs = {"run": "echo a"}, return_value = result),
            struct(args = [], kwargs = {"run": "echo b"}, return_value = struct(output = "mocked")),
        ])
        made.original(run = "echo c")
    """)
    assert [call.arguments["run"] for call in plan.instructions] == ["echo a", "echo c"]
    assert [str(call.location) for call in plan.instructions] == ["lib.star:8:23", "a_test.star:12:18"]


def test_before_it_is_mocked_a_function_is_itself(tested: Tested) -> None:
    tested("""
        expect.eq(lib.add(1), 4)
        made = mock(lib, "add").mock_return_value(0)
        expect.eq(lib.add(1), 0)
        expect.eq(len(made.calls()), 1)
    """)


def test_calls_inside_the_module_are_not_mocked(tested: Tested) -> None:
    tested('mock(lib, "add").mock_return_value(0)\nexpect.eq(lib.add_twice(1), 8)')


def test_all_who_import_the_module_get_the_mock(tested: Tested) -> None:
    other = 'lib = import_module("./lib.star")\ndef through():\n    return lib.add(1)\n'
    body = 'mock(lib, "add").mock_return_value(0)\nexpect.eq(import_module("/other.star").through(), 0)'
    tested(body, other=other)


def test_a_mock_of_a_mock_still_gives_what_was_told(tested: Tested) -> None:
    tested("""
        mock(lib, "add").mock_return_value(1)
        again = mock(lib, "add")
        expect.eq(lib.add(5), 1)
        again.mock_return_value(2)
        expect.eq(lib.add(5), 2)
        expect.eq(len(again.calls()), 2)
    """)


def test_what_fails_in_a_mocked_function_is_told_at_its_place(tested: Tested) -> None:
    error = failure(tested, 'mock(lib, "give_up")\nlib.give_up("no")', ScriptFailed)
    assert [str(frame.location) for frame in error.frames] == ["a_test.star:5:16", "lib.star:11:9"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("mock(lib, 'nothing')", 'mock: `lib.star` has no function "nothing"'),
        ("mock(plan, 'nothing')", 'mock: `plan` has no function "nothing"'),
        ("mock(lib, 'constant')", "mock: `constant` of `lib.star` is not a function, it is 3"),
        ("mock(struct(a = 1), 'a')", f"{REFUSED}, not of struct(a = 1)"),
        ("mock(json, 'encode')", f"{REFUSED}, not of <module>"),
        ("mock(lib, 'add').mock_return_value(1, 2)", "mock_return_value: takes one value, or none, not 2"),
        (
            "mock(lib, 'add').mock_return_value([lib.use])",
            "mock_return_value: <function use> (function) cannot be what a mock returns",
        ),
    ],
)
def test_what_cannot_be_mocked_is_refused(tested: Tested, call: str, message: str) -> None:
    assert failure(tested, call, InterpretationError).message == message


# the plan so far


def test_a_services_config_has_all_its_fields(tested: Tested) -> None:
    tested(
        SERVICE
        + """
expect.eq(config.image, "postgres")
expect.eq([config.env_vars, config.labels, config.public_ports], [{}, {}, {}])
expect.eq([config.entrypoint, config.cmd], [[], []])
expect.eq([config.max_cpu, config.cpu_allocation, config.min_cpu, config.max_memory], [15, 15, 0, 0])
expect.eq(config.private_ip_address_placeholder, "KURTOSIS_IP_ADDR_PLACEHOLDER")
expect.eq(config.ready_conditions, None)
expect.eq(type(config), "ServiceConfig")
"""
    )


def test_what_is_inside_a_services_config_has_all_its_fields_too(tested: Tested) -> None:
    tested(
        SERVICE
        + """
port = config.ports["sql"]
expect.eq([port.number, port.transport_protocol, port.application_protocol], [5432, "TCP", None])
expect.eq(config.ports, {"sql": PortSpec(number = 5432)})
expect.eq(config.files["/a"].artifact_names, ["schema"])
expect.eq([config.files["/b"].persistent_key, config.files["/b"].size], ["data", 1024])
"""
    )


def test_the_latest_config_counts(tested: Tested) -> None:
    tested("""
        plan.add_services({"a": ServiceConfig(image = "one")})
        expect.eq(get_service_config("a").image, "one")
        plan.remove_service("a")
        expect.fails(lambda: get_service_config("a"), "no service")
        plan.add_service("a", ServiceConfig(image = "two"))
        expect.eq(kurtosistest.get_service_config("a").image, "two")
    """)


def test_a_service_that_is_not_there_is_told_with_those_that_are(tested: Tested) -> None:
    body = 'plan.add_service("a", ServiceConfig(image = "i"))\nget_service_config("b")'
    error = failure(tested, body, InterpretationError)
    assert error.message == 'get_service_config: the plan has no service "b" so far'
    assert error.remedy == "there are `a`"
    assert str(error.location) == "a_test.star:5:23"


def test_the_plan_knows_who_called_for_its_instructions(tested: Tested) -> None:
    plan = tested("""
        for name in ["a", "b"]:
            lib.use(plan, name)
        plan.print("done")
    """)
    assert {str(place): [str(frame.location) for frame in frames] for place, frames in plan.callers.items()} == {
        "lib.star:8:23": ["a_test.star:5:16", "lib.star:8:23"] * 2,
        "a_test.star:6:15": ["a_test.star:6:15"],
    }


# the rest


def test_debug_writes_where_and_what_once(tested: Tested, capsys: pytest.CaptureFixture[str]) -> None:
    tested('kurtosistest.debug({"a": 1})\nexpect.fails(lambda: fail("x"))\nkurtosistest.debug(value = "text")')
    assert capsys.readouterr().out == 'a_test.star:4: {"a": 1}\na_test.star:6: "text"\n'


def test_debug_writes_before_a_failure_as_well(tested: Tested, capsys: pytest.CaptureFixture[str]) -> None:
    failure(tested, "kurtosistest.debug(1)\nfail('x')", ScriptFailed)
    assert capsys.readouterr().out == "a_test.star:4: 1\n"


def test_default_arguments_hold(tested: Tested) -> None:
    tested("expect.eq([n, text], [3, 'x'])", parameters="plan, n = 3, text = 'x'")


def test_a_test_needs_no_plan(tested: Tested) -> None:
    tested("expect.eq(lib.add(1), 4)", parameters="")


def test_an_argument_without_default_is_missed(tested: Tested) -> None:
    error = failure(tested, "pass", InterpretationError, parameters="plan, n")
    assert error.message == "`test_it` misses argument `n`"


def test_other_files_of_the_package_do_not_know_these_names(tested: Tested) -> None:
    error = failure(tested, 'import_module("/other.star")', InterpretationError, other="x = expect\n")
    assert error.message == "undefined name `expect`"
    assert str(error.location) == "other.star:1:5"


def test_other_test_files_do(tested: Tested) -> None:
    tested('import_module("/b_test.star").check(1)', b_test="def check(x):\n    expect.eq(x, 1)\n")


def test_a_file_may_have_these_names_for_something_else(tested: Tested) -> None:
    tested("expect.eq(mock, 3)", before="mock = 3\n")


def test_a_package_that_is_run_does_not_know_them(write: Callable[..., Any], plan_of: Callable[..., Plan]) -> None:
    with pytest.raises(InterpretationError, match="undefined name `expect`"):
        plan_of({"main.star": "", "a_test.star": "def run(plan):\n    expect.eq(1, 1)\n"}, "a_test.star")


def test_code_that_has_to_be_confined_is_tested_all_the_same(tested: Tested) -> None:
    tested("""
        made = mock(lib, "add").mock_return_value("x" * 70000)
        expect.eq(len(lib.add(1) + lib.add(1)), 140000)
        expect.fails(lambda: lib.give_up("y" * 70000), "y+")
    """)


@pytest.mark.parametrize(
    ("given", "shown"), [("plan.print('x')", "None"), ("'fail'", '"fail"'), ("struct(a = 1)", "struct(")]
)
def test_what_is_no_function_is_not_expected_to_fail(tested: Tested, given: str, shown: str) -> None:
    with pytest.raises(InterpretationError) as caught:
        tested(f"expect.fails({given})")
    start = "expect.fails: the first argument must be a function, as `lambda: …` makes one, not "
    assert caught.value.message.startswith(start + shown)


# what is written wrongly


@pytest.mark.parametrize(
    ("line", "message", "remedy"),
    [
        ("expect.eq(1)", "`eq` misses argument `y`", ""),
        ("mock(plan)", "`mock` misses argument `method_name`", ""),
        ("expect.fails(pattern = 'x')", "`fails` misses argument `f`", ""),
        (
            "expect.equal(1, 1)",
            "`expect` has no field `equal`",
            "there are `contains`, `eq`, `fail`, `fails`, `false`, `lt`, `ne`, `true`",
        ),
        (
            "print(1)",
            "`print` is not available in packages",
            "write `kurtosistest.debug(…)` in a unit test, and `plan.print(…)` elsewhere",
        ),
    ],
)
def test_a_call_that_is_written_wrongly_is_told_by_its_own_name(
    tested: Tested, line: str, message: str, remedy: str
) -> None:
    error = failure(tested, line, InterpretationError)
    assert (error.message, error.remedy) == (message, remedy)


def test_a_comparison_with_a_value_of_the_execution_says_how_it_is_compared(tested: Tested) -> None:
    error = failure(tested, "expect.eq(plan.run_sh(run = 'x').output, 'x')")
    assert error.remedy == (
        "a value that instructions produce is not known while a plan is made: compare it with `plan.verify(…)`"
    )
    assert failure(tested, "expect.eq('y', 'x')").remedy == ""
