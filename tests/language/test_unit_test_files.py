"""Which unit tests a file has, and how they are to fail."""

from __future__ import annotations

from textwrap import dedent

import pytest

from pytest_enclave.errors import ExecutionError, InterpretationError, Problem, ScriptFailed, ValidationError
from pytest_enclave.language.unit_test_files import ExpectedFailure, unit_tests_of
from pytest_enclave.source import Frame, Location

FILE = "a_test.star"


def at(line: int, file: str = FILE) -> Location:
    return Location(file, line, 5)


def failed(message: str, *frames: Location) -> InterpretationError:
    return ScriptFailed(message, location=frames[-1], frames=[Frame(place, "f") for place in frames])


def executed(message: str, place: Location) -> ExecutionError:
    error = ExecutionError(message)
    error.location = place
    return error


def expected_in(text: str) -> dict[str, tuple[int, str] | None]:
    """By test: the line and the expression of its comment."""
    tests = unit_tests_of(FILE, dedent(text))
    return {test.name: (test.failure.place.line, test.failure.pattern) if test.failure else None for test in tests}


def test_tests_are_the_top_level_functions_of_that_name_in_their_order() -> None:
    text = """\
        def test_b(plan):
            def test_inner():
                pass

        def helper(plan):
            pass

        def test_a(plan, n = 1):
            pass

        test_c = helper
        """
    tests = unit_tests_of(FILE, dedent(text))
    assert [(test.name, test.line) for test in tests] == [("test_b", 1), ("test_a", 8)]


def test_a_file_without_tests_has_none() -> None:
    assert unit_tests_of(FILE, "x = 1\n") == []


def test_a_comment_says_where_and_how_a_test_fails() -> None:
    text = r"""
        def test_a(plan):
            fail("one")  ### "o.e"
        def test_b(plan):
            fail(
                "a \"quoted\" text",
            )  ###   "a \"quoted\""
        def test_c(plan):
            fail("7")  ### `^\d$`
        def test_d(plan):
            fail("7")  ### "^\d$"
        def test_e(plan):
            ### a heading
            # ### "neither" this
            x = 1  ## "nor this"
            fail("x")
        """
    assert expected_in(text) == {
        "test_a": (3, "o.e"),
        "test_b": (7, 'a "quoted"'),
        "test_c": (9, r"^\d$"),
        "test_d": (11, r"^\d$"),
        "test_e": None,
    }


def test_a_test_cannot_fail_twice() -> None:
    text = 'def test_a(plan):\n    fail("a")  ### "a"\n    fail("b")  ### "b"\n'
    with pytest.raises(InterpretationError) as raised:
        unit_tests_of(FILE, text)
    assert str(raised.value) == "a_test.star:3:16: `test_a` is to fail in line 2 and in line 3"
    assert raised.value.remedy == "a test ends where it fails first: make two tests of it, or use `expect.fails`"
    assert raised.value.sources == {FILE: text}


def test_an_expression_has_to_be_one() -> None:
    with pytest.raises(InterpretationError) as raised:
        unit_tests_of(FILE, 'def test_a(plan):\n    fail("a")  ### "("\n')
    told = "a_test.star:2:16: `(` is no regular expression: missing ), unterminated subpattern at position 0"
    assert str(raised.value) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def test_a(plan:\n    pass\n", "a_test.star:1:11: syntax error: '(' was never closed"),
        ("def test_a(plan):\n    x\n", "a_test.star:2:5: undefined name `x`"),
    ],
)
def test_a_mistake_in_the_file_is_told_at_its_place(text: str, told: str) -> None:
    with pytest.raises(InterpretationError) as raised:
        unit_tests_of(FILE, text)
    assert str(raised.value) == told
    assert raised.value.sources == {FILE: text}


@pytest.mark.parametrize(
    "error",
    [
        failed("no tables", at(7)),
        failed("no tables", at(7), at(3, "main.star")),
        failed("no tables", at(7), at(2), at(3, "main.star")),
        executed("no tables", at(7)),
        ValidationError([Problem("other", at(6)), Problem("no tables", at(7))]),
        InterpretationError("2 mistakes", problems=[Problem("no tables", at(7))]),
    ],
)
def test_a_failure_in_the_line_or_called_from_it_is_the_expected_one(error: InterpretationError) -> None:
    assert ExpectedFailure(at(7), "tab.es").is_met_by(error)


@pytest.mark.parametrize(
    "error",
    [
        failed("no tables", at(8)),
        failed("no tables", at(7, "main.star")),
        failed("no chairs", at(7)),
        ValidationError([Problem("no tables", at(6)), Problem("other", at(7))]),
        ExecutionError("no tables"),
    ],
)
def test_any_other_failure_is_not(error: InterpretationError) -> None:
    assert not ExpectedFailure(at(7), "tables").is_met_by(error)


def test_what_the_line_called_for_may_fail_when_it_is_executed() -> None:
    there, expected = at(3, "main.star"), ExpectedFailure(at(7), "tables")
    for error in (executed("no tables", there), ValidationError([Problem("no tables", there)])):
        assert not expected.is_met_by(error)
        assert expected.is_met_by(error, {there: (Frame(at(7), "test_it"), Frame(there, "run"))})
        assert not expected.is_met_by(error, {there: (Frame(at(8), "test_it"),)})


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (None, "a_test.star:7:5: the test was to fail with a message that matches `x` in line 7, and passed"),
        (
            failed("y", at(7)),
            "a_test.star:7:5: the test was to fail with a message that matches `x` in line 7, "
            "and failed there with another one: y",
        ),
        (
            failed("x", at(8)),
            "a_test.star:8:5: the test was to fail with a message that matches `x` in line 7, "
            "and failed at a_test.star:8:5: x",
        ),
        (
            ExecutionError("x"),
            "a_test.star:7:5: the test was to fail with a message that matches `x` in line 7, and failed elsewhere: x",
        ),
    ],
)
def test_what_happened_instead_is_told(error: InterpretationError | None, told: str) -> None:
    assert str(ExpectedFailure(at(7), "x").otherwise(error)) == told


@pytest.mark.parametrize("comment", ["### 'must fail'", "### must fail", '### "abc', "###"])
def test_a_comment_beside_code_that_names_no_expression_is_told(comment: str) -> None:
    with pytest.raises(InterpretationError) as caught:
        unit_tests_of(FILE, f"def test_a(plan):\n    fail(1)  {comment}\n")
    assert str(caught.value).startswith(
        "a_test.star:2:14: a comment `###` beside code says how the test is to fail, and this one does not"
    )
    assert "double quotes or backquotes" in caught.value.remedy


def test_headings_and_texts_are_no_such_comments() -> None:
    text = 'def test_a(plan):\n    ### Start\n    x = "### y"  # ### z\n    #### The end\n'
    assert expected_in(text) == {"test_a": None}
