"""The marker: outer and inner ones are merged; a wrong one ends the session before anything runs."""

from __future__ import annotations

import pytest

from tests.face.conftest import RunPytest, WritePackage


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
        (
            "pakage='a'",
            "the marker enclave() takes no argument 'pakage'; it takes package, args, main, share, isolate",
        ),
        ("package=1", "enclave(package=1): package must be a path or a Source"),
        ("''", "enclave(package=''): package must be a path or a Source"),
        ("args=[1]", "enclave(args=[1]): args must be a dict, or JSON or YAML text"),
        ("main=run", "enclave(main=<function run>): main must be the name of a function"),
        ("main=''", "enclave(main=''): main must be the name of a function"),
        ("share=True", "enclave(share=True): share must be a name"),
        ("share=''", "enclave(share=''): share must be a name"),
        ("isolate='knife'", "enclave(isolate='knife'): isolate must be True, False or \"fork\""),
        ("isolate=1", 'enclave(isolate=1): isolate must be True, False or "fork"'),
        ("share='a', isolate=True", "a test cannot both share an enclave and be isolated from all others"),
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
