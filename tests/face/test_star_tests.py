"""Unit tests in Starlark are test items."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from tests.face.conftest import RunPytest

MAIN = """
def run(plan, tables = 4):
    if tables < 4:
        fail("the shop needs at least 4 tables, not {}".format(tables))
    plan.add_service("db", ServiceConfig(image = "postgres", env_vars = {"TABLES": str(tables)}))
    return tables

def check(plan):
    plan.verify("a", "==", "b")

def clean(plan):
    plan.remove_service("nobody")
"""

TESTS = """
shop = import_module("./main.star")

def test_tables(plan, tables = 5):
    expect.eq(shop.run(plan, tables), 5)
    expect.eq(get_service_config("db").env_vars["TABLES"], "5")

def test_wrong(plan):
    calls = [{"name": "a"}, {"name": "b"}]
    expect.eq(calls, [{"name": "a"}, {"name": "c"}])

def helper(plan):
    fail("this is no test")
"""

Star = Callable[..., Path]


@pytest.fixture
def star(pytester: pytest.Pytester) -> Star:
    """Write a package `shop` with a file of unit tests."""

    def write(
        text: str = TESTS, name: str = "shop_test.star", directory: str = "shop", *, package: bool = True
    ) -> Path:
        root = pytester.path / directory
        root.mkdir(exist_ok=True)
        if package:
            (root / "kurtosis.yml").write_text("name: github.com/me/shop\n")
            (root / "main.star").write_text(MAIN)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
        return path

    return write


# collecting


def test_each_function_is_an_item(star: Star, run: RunPytest) -> None:
    star()
    result = run("-v")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["shop/shop_test.star::test_tables PASSED*", "shop/shop_test.star::test_wrong FAILED*"], consecutive=True
    )


def test_files_in_directories_of_the_package_are_found(star: Star, run: RunPytest) -> None:
    star('lib = import_module("/main.star")\ndef test_it(plan):\n    lib.run(plan)\n', "tests/unit/it_test.star")
    result = run("-v")
    result.stdout.fnmatch_lines(["shop/tests/unit/it_test.star::test_it PASSED*"])


def test_beside_other_tests_they_are_collected_as_well(star: Star, run: RunPytest, pytester: pytest.Pytester) -> None:
    star()
    pytester.makepyfile(test_py="def test_it(): ...")
    run("-k", "not wrong").assert_outcomes(passed=2, deselected=1)


@pytest.mark.parametrize(
    ("arguments", "passed", "failed"),
    [
        (["shop/shop_test.star"], 1, 1),
        (["shop/shop_test.star::test_tables"], 1, 0),
        (["-k", "wrong"], 0, 1),
        (["shop/shop_test.star", "--deselect", "shop/shop_test.star::test_wrong"], 1, 0),
    ],
)
def test_they_are_selected_as_any_test(
    star: Star, run: RunPytest, arguments: list[str], passed: int, failed: int
) -> None:
    star()
    outcomes = run(*arguments).parseoutcomes()
    assert (outcomes.get("passed", 0), outcomes.get("failed", 0)) == (passed, failed)


def test_collecting_lists_them_and_runs_nothing(star: Star, run: RunPytest) -> None:
    star()
    result = run("--collect-only", "-q")
    assert result.outlines[:2] == ["shop/shop_test.star::test_tables", "shop/shop_test.star::test_wrong"]
    run("--setup-plan").assert_outcomes()


def test_the_last_failed_run_first_again(star: Star, pytester: pytest.Pytester) -> None:
    star()
    pytester.runpytest_inprocess().assert_outcomes(passed=1, failed=1)
    pytester.runpytest_inprocess("--lf").assert_outcomes(failed=1)


def test_workers_of_xdist_share_them_out(star: Star, pytester: pytest.Pytester) -> None:
    star()
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--enclave-engine=simulated", "-n2", "shop")
    outcomes = result.parseoutcomes()
    assert (outcomes["passed"], outcomes["failed"]) == (2, 1)  # the package's own run is the third
    result.stdout.fnmatch_lines(["error?E103?: expect.eq: *", "  --> shop_test.star:10:14"])


def test_outside_of_packages_they_are_left_alone(star: Star, run: RunPytest) -> None:
    star("def test_it(plan):\n    pass\n", package=False)
    run().assert_outcomes()
    run("shop").assert_outcomes()


def test_outside_of_packages_they_can_be_named(star: Star, run: RunPytest) -> None:
    star("def test_it(plan):\n    pass\n", package=False)
    run("shop/shop_test.star").assert_outcomes(passed=1)


@pytest.mark.parametrize("places", ["shop", "sh*", ". elsewhere"])
def test_outside_of_packages_they_are_found_below_testpaths(
    star: Star, run: RunPytest, pytester: pytest.Pytester, places: str
) -> None:
    star("def test_it(plan):\n    pass\n", "deep/it_test.star", package=False)
    pytester.makeini(f"[pytest]\ntestpaths = {places}\n")
    run().assert_outcomes(passed=1)
    run(pytester.path).assert_outcomes(passed=1)


def test_a_script_of_such_a_name_without_tests_is_run_as_ever(star: Star, run: RunPytest) -> None:
    star("def run(plan):\n    pass\n", "load_test.star")
    result = run("shop/load_test.star", "-v")
    result.stdout.fnmatch_lines(["shop/load_test.star::run PASSED*"])


def test_a_named_file_without_tests_is_a_mistake(star: Star, run: RunPytest) -> None:
    star("def tset_it(plan):\n    pass\n", "b_test.star")
    result = run("shop/b_test.star")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR collecting shop/b_test.star*",
            "error?E100?: there is no function `test_…` in it",
            "  --> b_test.star",
            "   = help: write `def test_…(plan)`, or for a script that is to be run `def run(plan)`",
        ]
    )


def test_a_file_without_tests_that_was_not_named_is_none_of_our_business(star: Star, run: RunPytest) -> None:
    star("def helper(plan):\n    pass\n")
    run().assert_outcomes()


@pytest.mark.parametrize("text", [TESTS, "def helper(plan):\n    pass\n"])
def test_where_they_are_left_out_a_named_file_is_no_package_either(star: Star, run: RunPytest, text: str) -> None:
    star(text)
    result = run("shop/shop_test.star", "--enclave-star-tests=off")
    result.assert_outcomes()
    assert "::run" not in result.stdout.str()
    star("def run(plan):\n    pass\n", "load_test.star")
    run("shop/load_test.star", "--enclave-star-tests=off").assert_outcomes(passed=1)


def test_they_can_be_left_out(star: Star, run: RunPytest) -> None:
    star()
    run("--enclave-star-tests=off").assert_outcomes()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def test_it(plan):\n    x = \n", ["error?E101?: syntax error: invalid syntax", "  --> it_test.star:2:9"]),
        ("def test_it(plan):\n    y\n", ["error?E101?: undefined name `y`", "  --> it_test.star:2:5"]),
        (
            'def test_it(plan):\n    fail()  ### "("\n',
            ["error?E101?: `(` is no regular expression:*", "  --> it_test.star:2:13"],
        ),
    ],
)
def test_a_mistake_in_the_file_is_a_collection_error(star: Star, run: RunPytest, text: str, told: list[str]) -> None:
    star(text, "it_test.star")
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ERROR collecting shop/it_test.star*", *told])


def test_a_broken_manifest_is_a_collection_error(star: Star, run: RunPytest) -> None:
    star().with_name("kurtosis.yml").write_text("nome: x\n")
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ERROR collecting shop/shop_test.star*", "error?E100?: *"])


# running


def test_a_failure_shows_source_place_and_both_values(star: Star, run: RunPytest) -> None:
    star()
    result = run("-k", "wrong")
    result.stdout.fnmatch_lines(
        [
            "*_ test_wrong _*",
            'error?E103?: expect.eq: ?{"name": "a"}, {"name": "b"}? is not ?{"name": "a"}, {"name": "c"}?',
            "  --> shop_test.star:10:14",
            "   |",
            " 8 | def test_wrong(plan):",
            '10 |     expect.eq(calls, ?{"name": "a"}, {"name": "c"}?)',
            "   |     ^^^^^^^^^",
            "   |",
            '   = value:      ?{"name": "a"}, {"name": "b"}? (list)',
            '   = expected:   == ?{"name": "a"}, {"name": "c"}? (list)',
            '   = difference: at ?1???name??: "b" (string), not "c" (string)',
            "   = phase: interpretation; nothing was started",
        ],
        consecutive=True,
    )
    result.stdout.fnmatch_lines(["FAILED shop/shop_test.star::test_wrong - E103 expect.eq: *"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_the_plan_is_executed(star: Star, run: RunPytest) -> None:
    star("""
        def test_it(plan):
            plan.add_service("a", ServiceConfig(image = "i"))
            done = plan.exec("a", ExecRecipe(["x"]))
            plan.print("code {}".format(done["code"]))
            plan.verify(done["code"], "==", 1)
    """)
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["error?E301?: verify failed: `code` == 1 does not hold, it is 0", "*code 0"])


def test_a_plan_that_cannot_work_fails(star: Star, run: RunPytest) -> None:
    star("def test_it(plan):\n    plan.remove_service('nobody')\n")
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["error?E201?: *", "  --> shop_test.star:2:24"])


def test_no_services_are_started_whatever_the_engine(star: Star, pytester: pytest.Pytester) -> None:
    star("def test_it(plan):\n    plan.add_service('a', ServiceConfig(image = 'nowhere.invalid/i'))\n")
    arguments = ("-p", "no:cacheprovider", "--enclave-engine=docker", "--enclave-docker-host=unix:///nowhere.sock")
    pytester.runpytest_inprocess(*arguments).assert_outcomes(passed=1)


def test_tests_do_not_see_each_others_services(star: Star, run: RunPytest) -> None:
    star("""
        def test_a(plan):
            plan.add_service("a", ServiceConfig(image = "i"))
        def test_b(plan):
            plan.remove_service("a")
    """)
    run().assert_outcomes(passed=1, failed=1)


def test_with_plan_only_the_function_is_called(star: Star, run: RunPytest) -> None:
    star("""
        def test_passing(plan):
            plan.remove_service("nobody")
        def test_failing(plan):
            expect.true(False)
    """)
    result = run("--enclave-star-tests=plan")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("enclave: *executed*")


def test_with_engine_they_run_on_the_sessions_engine(star: Star, run: RunPytest, pytester: pytest.Pytester) -> None:
    star("""
        def test_it(plan):
            plan.add_service("a", ServiceConfig(image = "i"))
            done = plan.exec("a", ExecRecipe(["whoami"]))
            plan.verify(done["output"], "==", "shop")
    """)
    pytester.makeconftest("""
        from pytest_enclave import Script, SimulatedEngine
        from pytest_enclave.engine.protocol import ExecResult

        def pytest_enclave_engine():
            return SimulatedEngine(Script().on_exec("a", None, ExecResult(0, "shop")))
    """)
    run().assert_outcomes(failed=1)
    run("--enclave-star-tests=engine").assert_outcomes(passed=1)
    pytester.makeini("[pytest]\nenclave_star_tests = engine\n")
    run().assert_outcomes(passed=1)


def test_without_an_engine_that_is_told_or_the_test_skipped(star: Star, pytester: pytest.Pytester) -> None:
    star("def test_it(plan):\n    fail('x')  ### \"x\"\ndef test_b(plan):\n    plan.print('x')  ### \"x\"\n")
    arguments = ("-p", "no:cacheprovider", "--enclave-engine=docker", "--enclave-docker-host=unix:///nowhere.sock")
    on_engine = (*arguments, "--enclave-star-tests=engine")
    result = pytester.runpytest_inprocess(*on_engine)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["error?E401?: *"])
    pytester.runpytest_inprocess(*on_engine, "--enclave-unavailable=skip").assert_outcomes(skipped=2)


def test_what_a_test_debugs_is_shown_where_it_fails(star: Star, run: RunPytest) -> None:
    star("def test_it(plan):\n    kurtosistest.debug([1])\n    fail('x')\n")
    run().stdout.fnmatch_lines(["*Captured stdout call*", "shop_test.star:2: ?1?"])


def test_what_an_expected_failure_debugs_is_shown_once(star: Star, run: RunPytest) -> None:
    star("def test_it(plan):\n    kurtosistest.debug(1)\n    fail('x')  ### \"x\"\n")
    result = run("-rP")
    result.assert_outcomes(passed=1)
    assert result.outlines.count("shop_test.star:2: 1") == 1


def test_a_mock_lasts_for_one_test(star: Star, run: RunPytest) -> None:
    star("""
        shop = import_module("./main.star")
        def test_a(plan):
            mock(shop, "run").mock_return_value("mocked")
            expect.eq(shop.run(plan), "mocked")
        def test_b(plan):
            expect.eq(shop.run(plan), 4)
    """)
    run().assert_outcomes(passed=2)


def test_a_changed_file_is_read_again_by_the_next_session(star: Star, run: RunPytest) -> None:
    path = star("def test_it(plan):\n    expect.eq(1, 2)\n")
    run().assert_outcomes(failed=1)
    path.write_text("def test_it(plan):\n    expect.eq(1, 1)\n")
    run().assert_outcomes(passed=1)


def test_other_plugins_see_ordinary_items(star: Star, run: RunPytest, pytester: pytest.Pytester) -> None:
    star()
    pytester.makeconftest("""
        import pytest

        @pytest.fixture(autouse=True)
        def everywhere():
            yield

        def pytest_collection_modifyitems(items):
            for item in items:
                if item.path.suffix == ".star" and "wrong" in item.name:
                    item.add_marker(pytest.mark.skip("later"))
    """)
    result = run("--junitxml=report.xml", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*later"])
    assert 'name="test_tables"' in (pytester.path / "report.xml").read_text()


# expected failures


@pytest.mark.parametrize(
    "body",
    [
        'shop.run(plan, 3)  ### "at least 4 tables, not 3"',
        'fail("x")  ### "^x$"',
        'expect.eq(1, 2)  ### "1 is not 2"',
        'plan.remove_service("nobody")  ### "nobody"',
        'plan.verify("a", "==", "b")  ### `verify failed.*"b"`',
        'shop.check(plan)  ### "verify failed"',
        'shop.clean(plan)  ### "nobody"',
    ],
)
def test_a_failure_that_is_expected_passes(star: Star, run: RunPytest, body: str) -> None:
    star(f'shop = import_module("./main.star")\ndef test_it(plan):\n    plan.print("x")\n    {body}\n')
    run().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            'shop.run(plan, 4)  ### "tables"',
            ["error?E103?: the test was to fail with a message that matches `tables` in line 4, and passed",
             "  --> shop_test.star:4:24", "*", "*def test_it(plan):", '*shop.run(plan, 4)  ### "tables"',
             "   = phase: execution"],
        ),
        (
            'shop.run(plan, 3)  ### "chairs"',
            ["error?E103?: *matches `chairs` in line 4, and failed there with another one: the shop needs *",
             "  --> main.star:4:13", "*", "   = phase: interpretation; nothing was started"],
        ),
        (
            'x = 1  ### "tables"\n    shop.run(plan, 3)',
            ["error?E103?: *matches `tables` in line 4, and failed at main.star:4:13: the shop needs *"],
        ),
        (
            'x = 1  ### "verify"\n    plan.verify("a", "==", "b")',
            ["error?E103?: *matches `verify` in line 4, and failed at shop_test.star:5:16: verify failed*",
             "   = phase: execution"],
        ),
        (
            'x = 1  ### "verify"\n    plan.remove_service("nobody")',
            ["error?E103?: *matches `verify` in line 4, and failed *: 1 problem in the plan: *",
             "   = phase: validation; nothing was started"],
        ),
    ],
)  # fmt: skip
def test_anything_else_is_a_failure_that_says_so(star: Star, run: RunPytest, body: str, told: list[str]) -> None:
    star(f'shop = import_module("./main.star")\ndef test_it(plan):\n    plan.print("x")\n    {body}\n')
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(told)


def test_where_plans_are_only_made_a_test_that_passes_was_not_executed(star: Star, run: RunPytest) -> None:
    star('def test_it(plan):\n    plan.print("x")  ### "x"\n')
    result = run("--enclave-star-tests=plan")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["error?E103?: *, and passed", "   = phase: interpretation; nothing was started"])


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ('{"http": PortSpec(80)}, {"http": PortSpec(81)}', 'at ["http"].number: 80 (int), not 81 (int)'),
        ('ServiceConfig("a"), ServiceConfig("b")', 'at .image: "a" (string), not "b" (string)'),
        ('ServiceConfig("a", cmd = ["c"]), ServiceConfig("a", cmd = ["d"])',
         'at .cmd[0]: "c" (string), not "d" (string)'),
        ('{"a": 1}, {}', 'at ["a"]: 1 (int), but none is expected'),
        ('{}, {"a": 1}', 'at ["a"]: there is none, but 1 (int) is expected'),
    ],
)  # fmt: skip
def test_where_values_begin_to_differ_is_told(star: Star, run: RunPytest, values: str, told: str) -> None:
    star(f"def test_it(plan):\n    expect.eq({values})\n")
    assert f"   = difference: {told}" in run().outlines


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ('ServiceConfig("a", ports = {"http": PortSpec(80)})', 'at .image: "i" (string), not "a" (string)'),
        ('ServiceConfig("i", ports = {"http": PortSpec(80)})', 'at .ports["http"].number: 8080 (int), not 80 (int)'),
        ('ServiceConfig("i", ports = {"http": PortSpec(8080)}, cmd = ["x"])',
         'at .cmd: [] (list), not ["x"] (list)'),
    ],
)  # fmt: skip
def test_a_config_of_the_plan_differs_from_a_written_one_where_it_does(
    star: Star, run: RunPytest, written: str, told: str
) -> None:
    star(f"""
        def test_it(plan):
            plan.add_service("a", ServiceConfig("i", ports = {{"http": PortSpec(8080)}}))
            expect.eq(get_service_config("a"), {written})
    """)
    assert f"   = difference: {told}" in run().outlines
