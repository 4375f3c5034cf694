"""`--enclave-explain`: the section at the end that says why instructions ran again."""

from __future__ import annotations

import re
import sys

import pytest

from pytest_enclave.face.explaining import Explaining, wrapped
from tests.face.conftest import RunPytest, WritePackage

DB = """
    plan.add_service("db", ServiceConfig(image = IMAGE, env_vars = {"MODE": mode}))
    plan.print("db is there")
"""
TESTS = """
    import pytest

    @pytest.mark.enclave(share="orders")
    def test_first(enclave): ...

    @pytest.mark.enclave(share="orders", args={"mode": "prod"})
    def test_other_mode(enclave): ...

    @pytest.mark.enclave(share="orders", args={"mode": "prod"})
    def test_same_mode(enclave):
        enclave.services["db"].kill()

    @pytest.mark.enclave(share="orders", args={"mode": "prod"})
    def test_after_the_kill(enclave): ...

    @pytest.mark.enclave(isolate=True)
    def test_alone(enclave): ...
"""
TITLE = "enclave: why instructions ran again"
EXPECTED = """\
test_orders.py::test_first: first run in enclave orders-N: everything runs
test_orders.py::test_other_mode: enclave orders-N: 1 of 2 instructions ran
  add_service("db") at main.star:2, updated
    config.env_vars["MODE"]: "dev" → "prod"
test_orders.py::test_after_the_kill: enclave orders-N: 1 of 2 instructions ran
  add_service("db") at main.star:2, updated
    service `db` was killed (exit code 137)
"""


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """No paragraph takes more than one line."""
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def orders(pytester: pytest.Pytester, package: WritePackage) -> None:
    """A package whose service has a mode, and tests that want it in two."""
    package(".", DB.replace("IMAGE", '"db:1"'), parameters='mode = "dev"')
    pytester.makepyfile(test_orders=TESTS)


def section(result: pytest.RunResult) -> str:
    """The section's lines, without the digits of enclaves' names."""
    lines = result.outlines
    begin = next(index for index, line in enumerate(lines) if TITLE in line) + 1
    end = next(index for index, line in enumerate(lines) if index > begin and re.match(r"=|enclave: |\d+ passed", line))
    return re.sub(r"-[0-9a-f]{6}\b", "-N", "\n".join(lines[begin:end]) + "\n")


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("how", [["--enclave-explain"], ["--enclave-explain", "-q"], ["-o", "enclave_explain=true"]])
def test_each_run_in_which_something_ran_is_told_with_its_test(run: RunPytest, how: list[str]) -> None:
    result = run(*how)
    result.assert_outcomes(passed=5)
    told = section(result)
    assert told.startswith(EXPECTED)
    assert re.fullmatch(
        r"test_orders.py::test_alone: first run in enclave [a-z0-9-]+-N: everything runs\n"
        r"everything was reused in 1 more run\n",
        told.removeprefix(EXPECTED),
    )


@pytest.mark.usefixtures("orders")
def test_nothing_is_told_that_was_not_asked_for(run: RunPytest) -> None:
    assert TITLE not in run("-v").stdout.str()


@pytest.mark.usefixtures("orders")
def test_without_tests_that_need_an_enclave_there_is_no_section(run: RunPytest) -> None:
    assert TITLE not in run("--enclave-explain", "--collect-only").stdout.str()


@pytest.mark.usefixtures("orders")
def test_what_runs_in_workers_of_xdist_is_told_by_their_controller(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "--enclave-engine=simulated", "--enclave-explain", "-n1"
    )
    result.assert_outcomes(passed=5)
    assert section(result).startswith(EXPECTED)


@pytest.mark.usefixtures("orders")
def test_without_the_cache_one_line_says_why_everything_runs(run: RunPytest) -> None:
    assert section(run("--enclave-explain", "--enclave-no-cache")) == (
        "--enclave-no-cache: every test gets a new enclave, in which everything runs\n"
    )


def test_further_runs_of_one_test_are_told_and_unit_tests_in_starlark_are_not(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package(".", DB.replace("IMAGE", "image"), parameters='mode = "dev", image = "db:1"')
    (pytester.path / "main_test.star").write_text('def test_it(plan):\n    plan.print("unit test")\n')
    pytester.makepyfile(
        test_it="""
        def test_update(enclave):
            enclave.run(args={"image": "db:2"})
            enclave.run(args={"image": "db:2"})
        """
    )
    result = run("--enclave-explain", "main_test.star", "test_it.py")
    result.assert_outcomes(passed=2)
    told = section(result).splitlines()
    assert "main_test.star" not in section(result)
    assert told[1].endswith(": 1 of 2 instructions ran")
    assert told[2:] == [
        '  add_service("db") at main.star:2, updated',
        '    config.image: "db:1" → "db:2"',
        "everything was reused in 1 more run",
    ]


def test_secrets_do_not_get_into_the_section(pytester: pytest.Pytester, package: WritePackage, run: RunPytest) -> None:
    package(".", DB.replace("IMAGE", '"db"').replace("MODE", "DB_PASSWORD"), parameters='mode = "sesame-open"')
    pytester.makepyfile('def test_update(enclave):\n    enclave.run(args={"mode": "sesame-shut"})')
    result = run("--enclave-explain")
    assert '    config.env_vars["DB_PASSWORD"]: •••• → •••• (a secret)' in result.outlines
    assert "sesame" not in result.stdout.str()


@pytest.mark.skipif(sys.platform != "linux", reason="the embedded engine needs Linux")
def test_a_service_that_a_test_killed_is_told_on_the_embedded_engine(
    pytester: pytest.Pytester, package: WritePackage
) -> None:
    package(
        ".",
        """
        plan.add_service("db", ServiceConfig(image = "host:/", entrypoint = ["sleep"], cmd = [seconds]))
        plan.exec("db", ExecRecipe(command = ["true"]))
        """,
        parameters='seconds = "1000"',
    )
    pytester.makepyfile(
        test_orders="""
        def test_first(enclave):
            enclave.services["db"].kill()

        def test_after_the_kill(enclave):
            enclave.run(args={"seconds": "2000"})
        """
    )
    result = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "--enclave-engine=embedded", "--enclave-egress=off", "--enclave-explain"
    )
    result.assert_outcomes(passed=2)
    told = section(result).splitlines()
    replaced = '    service `db` was replaced: add_service("db") at main.star:2 was updated, because'
    assert told[2:6] == [
        '  add_service("db") at main.star:2, updated',
        "    service `db` was killed (exit code 137)",
        '  exec("db", $ true) at main.star:3, executed',
        f"{replaced} service `db` was killed (exit code 137)",
    ]
    assert told[7:] == [
        '  add_service("db") at main.star:2, updated',
        '    config.cmd[0]: "1000" → "2000"',
        '  exec("db", $ true) at main.star:3, executed',
        f"{replaced} config.cmd[0] changed",
    ]


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (80, ["    one two three four five six seven eight"]),
        (40, ["    one two three four five six seven", "        eight"]),
        (10, ["    one two three four five six seven", "        eight"]),
    ],
)
def test_paragraphs_fit_the_terminal(width: int, lines: list[str]) -> None:
    assert wrapped(2, "one two three four five six seven eight", width) == lines


def test_a_word_that_is_longer_than_a_line_stays_whole() -> None:
    assert wrapped(1, "x" * 50, 40) == ["  " + "x" * 50]


def test_what_a_worker_hands_over_is_told_as_its_own() -> None:
    packed = {"told": [["a::test: enclave x-1: 1 of 1 instruction ran", [[1, "print(1)"], [2, "why"]]]], "unchanged": 2}
    explaining = Explaining()
    explaining.add(packed)
    assert explaining.lines(80) == [
        "a::test: enclave x-1: 1 of 1 instruction ran",
        "  print(1)",
        "    why",
        "everything was reused in 2 more runs",
    ]
    assert Explaining().lines(80) == []


def test_where_everything_was_reused_the_section_says_just_that() -> None:
    explaining = Explaining()
    explaining.add({"told": [], "unchanged": 1})
    assert explaining.lines(80) == ["everything was reused in 1 run"]


CHANGED_TWICE = """
    import pytest

    @pytest.mark.parametrize("mode", ["one", "two", "three"])
    def test_it(enclave_factory, mode):
        enclave_factory(".", {"mode": mode}, share="shop")
"""
ADDED_TWICE = """
    plan.add_service("db", ServiceConfig("img", cmd = ["first " + mode]))
    plan.remove_service("db")
    plan.add_service("db", ServiceConfig("img", cmd = ["second " + mode]))
"""


def test_old_arguments_are_those_of_the_latest_run_each_at_its_own_call(
    pytester: pytest.Pytester, run: RunPytest, package: WritePackage
) -> None:
    package(".", ADDED_TWICE, parameters="mode")
    pytester.makepyfile(test_twice=CHANGED_TWICE)
    result = run("--enclave-explain", "test_twice.py")
    told = [line.strip() for line in result.outlines if " → " in line]
    assert told == [
        'config.cmd[0]: "first one" → "first two"',
        'config.cmd[0]: "second one" → "second two"',
        'config.cmd[0]: "first two" → "first three"',
        'config.cmd[0]: "second two" → "second three"',
    ]
