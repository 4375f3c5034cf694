"""The marker: outer and inner ones are merged; a wrong one ends the session before anything runs."""

from __future__ import annotations

import pytest

from tests.face.conftest import RunPytest, WritePackage

ISOLATE = 'True, False, "module", "class" or "fork"'


def test_markers_of_module_class_and_function_merge_argument_by_argument(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package("one", 'return "one {}".format(n)', parameters="n = 0")
    package("two", 'return "two {}".format(n)', parameters="n = 0")
    pytester.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.enclave("one", args={"n": 1})

        def test_of_module(enclave):
            assert enclave.output == "one 1"

        @pytest.mark.enclave("two")
        class TestClass:
            def test_of_class(self, enclave):
                assert enclave.output == "two 1"

            @pytest.mark.enclave(args={"n": 3})
            def test_of_function(self, enclave):
                assert enclave.output == "two 3"
        """
    )
    run().assert_outcomes(passed=3)


def test_the_marker_names_another_main_function(pytester: pytest.Pytester, run: RunPytest) -> None:
    (pytester.path / "it.star").write_text('def run(plan):\n    pass\n\ndef other(plan):\n    return "other"\n')
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.enclave("it.star", main="other")
        def test_it(enclave):
            assert enclave.output == "other"
        """
    )
    run().assert_outcomes(passed=1)


def test_arguments_in_a_file_are_found_beside_the_test(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package("shop", "return size", parameters="size = 0")
    (pytester.path / "shop/few.yaml").write_text("size: 7")
    pytester.makepyfile(
        **{
            "shop/test_it": """
            import pytest

            @pytest.mark.enclave(args="@few.yaml")
            def test_it(enclave):
                assert enclave.output == 7
            """
        }
    )
    run().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("marker", "text"),
    [
        ('"a", "b"', "the marker enclave() takes one positional argument, the package"),
        ('"a", package="b"', "the marker enclave() is given the package twice"),
        ("pakage='a'", "the marker enclave() takes no argument 'pakage'; did you mean 'package'?"),
        ("isolated=True", "the marker enclave() takes no argument 'isolated'; did you mean 'isolate'?"),
        (
            "image='a'",
            "the marker enclave() takes no argument 'image'; it takes package, args, main, share, isolate",
        ),
        ("package=1", "enclave(package=1): package must be a path or a Source"),
        ("''", "enclave(package=''): package must be a path or a Source"),
        ("args=[1]", "enclave(args=[1]): args must be a dict, or JSON or YAML text"),
        ("main=run", "enclave(main=<function run>): main must be the name of a function"),
        ("main=''", "enclave(main=''): main must be the name of a function"),
        ("share=True", "enclave(share=True): share must be a name"),
        ("share=''", "enclave(share=''): share must be a name"),
        ("isolate='knife'", f"enclave(isolate='knife'): isolate must be {ISOLATE}"),
        ("isolate='session'", f"enclave(isolate='session'): isolate must be {ISOLATE}"),
        ("isolate=1", f"enclave(isolate=1): isolate must be {ISOLATE}"),
        ("isolate='class'", 'enclave(isolate="class"): the test is in no class'),
        ("share='a', isolate=True", "a test cannot both share an enclave and be isolated from all others"),
        (
            "share='a', isolate='module'",
            "a test cannot both share an enclave and be isolated from those of other modules",
        ),
        (
            "share='a', isolate='class'",
            "a test cannot both share an enclave and be isolated from those of other classes",
        ),
        (
            "args={'a': {1}}",
            "enclave(args=…): args['a'] is a set: packages take None, bool, int, float, str, lists and dicts only",
        ),
        (
            "args='[1]'",
            "enclave(args=…): <arguments>: the arguments must be an object of names and values, not a list",
        ),
    ],
)
def test_a_wrong_marker_is_a_usage_error_that_names_the_test(
    pytester: pytest.Pytester, run: RunPytest, marker: str, text: str
) -> None:
    pytester.makepyfile(
        test_it=f"""
        import pytest

        class run:
            def __repr__(self):
                return "<function run>"

        run = run()

        def test_fine():
            open("ran", "w")

        @pytest.mark.enclave({marker})
        def test_wrong(enclave): ...
        """
    )
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line] == [f"ERROR: test_it.py::test_wrong: {text}"]
    assert not (pytester.path / "ran").exists()


def test_all_wrong_markers_are_told_at_once_each_fault_once(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package()
    pytester.makepyfile(
        test_it="""
        import pytest

        def test_fine(enclave): ...

        @pytest.mark.parametrize("n", range(20))
        @pytest.mark.enclave(isolate="class")
        def test_many(enclave, n): ...

        @pytest.mark.enclave(pakage=".")
        def test_one(enclave): ...

        @pytest.mark.enclave(share="a")
        class TestIt:
            @pytest.mark.enclave(isolate=True)
            def test_inner(self, enclave): ...
        """
    )
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line] == [
        'ERROR: test_it.py::test_many[0] and 19 more: enclave(isolate="class"): the test is in no class',
        "ERROR: test_it.py::test_one: the marker enclave() takes no argument 'pakage'; did you mean 'package'?",
        "ERROR: test_it.py::TestIt::test_inner: a test cannot both share an enclave and be isolated from all others",
    ]


CLOSED = """
closed = []

def pytest_enclave_teardown(enclave):
    closed.append(enclave.name)
"""

GONE = """
import time
import pytest
from conftest import closed

names = []

def gone(count):
    deadline = time.monotonic() + 10
    while len(closed) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return closed
"""


def test_the_tests_of_a_module_share_an_enclave_that_goes_with_the_module(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package()
    package("other")
    pytester.makeconftest(CLOSED)
    pytester.makepyfile(
        test_1=f"""
        {GONE.replace(chr(10), chr(10) + "        ")}
        pytestmark = pytest.mark.enclave(isolate="module")

        def test_first(enclave):
            names.append(enclave.name)
            assert enclave.last_run.executed == 1

        @pytest.mark.enclave("other")
        def test_other(enclave):
            assert enclave.name not in names

        class TestIt:
            def test_second(self, enclave):
                assert enclave.name in names
                assert enclave.last_run.executed == 0
                assert not closed

        @pytest.mark.enclave(isolate=False)
        def test_shared(enclave):
            assert enclave.name not in names
            names.append(enclave.name)

        @pytest.mark.skip
        def test_skipped(enclave): ...
        """,
        test_2="""
        import pytest, test_1

        def test_without():
            assert len(test_1.gone(2)) == 2
            assert test_1.names[0] in test_1.closed

        def test_shared(enclave):
            assert enclave.name == test_1.names[1]

        @pytest.mark.enclave(isolate="module")
        def test_module(enclave):
            assert enclave.name not in test_1.names
        """,
    )
    run("--import-mode=prepend").assert_outcomes(passed=7, skipped=1)


def test_the_tests_of_a_class_share_an_enclave_that_goes_with_the_class(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package()
    pytester.makeconftest(CLOSED)
    pytester.makepyfile(
        f"""
        {GONE.replace(chr(10), chr(10) + "        ")}
        @pytest.mark.enclave(isolate="class")
        class TestOne:
            def test_a(self, enclave):
                names.append(enclave.name)

            def test_b(self, enclave):
                assert [enclave.name] == names
                assert not closed

        def test_between():
            assert gone(1) == names

        @pytest.mark.enclave(isolate="class")
        class TestTwo:
            def test_a(self, enclave):
                assert enclave.name not in names
                names.append(enclave.name)

            class TestInner:
                def test_of_a_class_of_its_own(self, enclave):
                    assert enclave.name not in names

        def test_after():
            assert len(gone(3)) == 3
        """
    )
    run().assert_outcomes(passed=6)


def test_a_module_whose_last_tests_are_deselected_ends_with_the_last_one_that_runs(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package()
    pytester.makeconftest(CLOSED)
    pytester.makepyfile(
        test_1=f"""
        {GONE.replace(chr(10), chr(10) + "        ")}
        @pytest.mark.enclave(isolate="module")
        @pytest.mark.parametrize("n", range(5))
        def test_it(enclave, n):
            assert not closed
        """,
        test_2="import test_1\n\ndef test_it():\n    assert len(test_1.gone(1)) == 1",
    )
    result = run("--import-mode=prepend", "-k", "test_2 or 0 or 2")
    result.assert_outcomes(passed=3, deselected=3)


def test_a_module_that_is_come_back_to_gets_another_enclave(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package()
    pytester.makeconftest(
        """
        def pytest_collection_modifyitems(items):
            items[:] = [items[0], items[2], items[1]]
        """
    )
    pytester.makepyfile(
        test_1="""
        import pytest

        @pytest.mark.enclave(isolate="module")
        @pytest.mark.parametrize("n", range(2))
        def test_it(enclave, n):
            assert enclave.last_run.executed == 1
        """,
        test_2="def test_it(): ...",
    )
    run().assert_outcomes(passed=3)


def test_a_run_that_fails_for_a_module_is_tried_again_for_the_next_one_only(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package(".", 'fail("no")')
    pytester.makeconftest(CLOSED)
    for number in (1, 2):
        pytester.makepyfile(
            **{
                f"test_{number}": """
                import pytest

                @pytest.mark.enclave(isolate="module")
                @pytest.mark.parametrize("n", range(3))
                def test_it(enclave, n): ...
                """
            }
        )
    pytester.makepyfile(test_3=f"{GONE}\ndef test_it():\n    assert len(gone(2)) == 2")
    result = run("--import-mode=prepend")
    result.assert_outcomes(failed=6, passed=1)
    assert sum(line.startswith("the enclave is unavailable") for line in result.outlines) == 4


def test_without_cache_the_tests_of_a_module_share_nothing(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package()
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.enclave(isolate="module")
        @pytest.mark.parametrize("n", range(2))
        def test_it(enclave, n):
            assert enclave.last_run.executed == 1
        """
    )
    run("--enclave-no-cache").assert_outcomes(passed=2)


def test_a_module_s_enclave_is_never_the_one_that_forks_are_made_of(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package(".", 'plan.add_service("db", ServiceConfig("image"))')
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.enclave(isolate="module")
        def test_module(enclave):
            enclave.services["db"].stop()

        @pytest.mark.enclave(isolate="fork")
        def test_fork(enclave):
            assert enclave.run().executed == 0
        """
    )
    run().assert_outcomes(passed=2)


def test_a_marker_of_a_deselected_test_is_no_error(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package()
    pytester.makepyfile(
        """
        import pytest

        def test_fine(enclave): ...

        @pytest.mark.enclave(share=1)
        def test_wrong(enclave): ...
        """
    )
    result = run("-k", "fine")
    result.assert_outcomes(passed=1, deselected=1)


def test_the_marker_is_registered_with_its_signature(run: RunPytest) -> None:
    run("--markers").stdout.fnmatch_lines(
        ["@pytest.mark.enclave(package=None, [*], args=None, main=None, share=None, isolate=False): *"]
    )
