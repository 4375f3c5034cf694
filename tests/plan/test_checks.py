"""What an argument may be, and what users read where it is not."""

from __future__ import annotations

import pytest

from pytest_enclave.plan import checks
from pytest_enclave.plan.checks import Check
from pytest_enclave.plan.values import Opaque, Struct, Value

RUN = Opaque("function", "<function run>")


@pytest.mark.parametrize(
    ("check", "value", "finding"),
    [
        (checks.STRING, 1, ("", "must be a string, not 1 (int)")),
        (checks.STRING, None, ("", "must be a string, not None")),
        (checks.NON_EMPTY_STRING, "", ("", 'must be a non-empty string, not "" (string)')),
        (checks.BOOL, 1, ("", "must be a bool, not 1 (int)")),
        (checks.COMPARABLE, None, ("", "must be a value that can be compared, not None")),
        (checks.integer(), True, ("", "must be an integer, not True (bool)")),
        (checks.integer(1, 65535), "1234", ("", 'must be an integer between 1 and 65535, not "1234" (string)')),
        (checks.integer(1, 65535), 0, ("", "must be an integer between 1 and 65535, not 0 (int)")),
        (checks.integer(6, unit="megabytes"), 5, ("", "must be an integer of megabytes of at least 6, not 5 (int)")),
        (checks.matching("[a-z]+", "letters"), "a1", ("", 'must be letters, not "a1" (string)')),
        (checks.one_of(["A", "B"]), "C", ("", 'must be one of "A", "B", not "C" (string)')),
        (checks.instance("ExecRecipe"), 1, ("", "must be an ExecRecipe, not 1 (int)")),
        (checks.instance("PortSpec"), "x", ("", 'must be a PortSpec, not "x" (string)')),
        (checks.instance("A", "B"), 1, ("", "must be one of A, B, not 1 (int)")),
        (checks.STRINGS, "ab", ("", 'must be a list, each item a string, not "ab" (string)')),
        (checks.STRINGS, ["a", 2], ("[1]", "must be a string, not 2 (int)")),
        (checks.list_of(checks.BOOL, non_empty=True), [], ("", "must be a non-empty list of bools, not [] (list)")),
        (checks.NON_EMPTY_STRINGS, [], ("", "must be a non-empty list of strings, not [] (list)")),
        (checks.HEADER_NAME, "a b", ("", 'must be the name of an HTTP header (RFC 9110), not "a b" (string)')),
        (
            checks.HEADER_VALUE,
            "a\r\nb",
            ("", 'must be text in Latin-1 without line breaks or NUL, not "a\\r\\nb" (string)'),
        ),
        (
            checks.HEADER_VALUE,
            "\u0100",
            ("", 'must be text in Latin-1 without line breaks or NUL, not "\u0100" (string)'),
        ),
        (checks.ANY, {"a": [RUN]}, ('["a"][0]', "must be a value, not <function run> (function)")),
        (checks.COMPARABLE, [RUN], ("[0]", "must be a value that can be compared, not <function run> (function)")),
        (checks.STRING, RUN, ("", "must be a string, not <function run> (function)")),
        (checks.STRING_DICT, {"a": 1}, ('["a"]', "must be a string, not 1 (int)")),
        (checks.STRING_DICT, {1: "a"}, (" key 1", "must be a string, not 1 (int)")),
        (checks.list_of(checks.STRINGS), [["a"], ["b", 3]], ("[1][1]", "must be a string, not 3 (int)")),
        (checks.optional(checks.BOOL), 1, ("", "must be None or a bool, not 1 (int)")),
        (checks.duration(), 10, ("", "must be a duration such as `10s`, not 10 (int)")),
        (checks.duration(), "-1s", ("", 'must be zero or longer, not "-1s"')),
        (checks.duration(positive=True), "0", ("", 'must be longer than zero, not "0"')),
    ],
)
def test_row_77_what_is_wrong_is_told_with_the_path_to_it(check: Check, value: Value, finding: tuple[str, str]):
    assert list(check(value)) == [finding]


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (checks.STRING, ""),
        (checks.ANY, None),
        (checks.PRINTABLE, [RUN]),
        (checks.HEADER_NAME, "X-Request_ID"),
        (checks.HEADER_VALUE, "caf\u00e9, \t1"),
        (checks.COMPARABLE, False),
        (checks.integer(1, 2), 2),
        (checks.integer(), 10**30),
        (checks.matching("a*", "a"), ""),
        (checks.one_of(["A"]), "A"),
        (checks.instance("A", "B"), Struct("B", {})),
        (checks.STRINGS, []),
        (checks.STRING_DICT, {}),
        (checks.optional(checks.BOOL), None),
        (checks.duration(), "0"),
        (checks.duration(positive=True), "1m30s"),
    ],
)
def test_row_77_what_is_right_passes(check: Check, value: Value):
    assert list(check(value)) == []


def test_a_bad_duration_comes_with_examples():
    (finding,) = checks.duration()("10")
    assert finding[1].endswith('(write for example "500ms", "10s" or "1m30s")')


def test_every_wrong_item_of_a_list_is_found():
    assert [path for path, _ in checks.STRINGS([1, "a", 2])] == ["[0]", "[2]"]


def test_a_long_value_is_shown_in_part():
    ((_, reason),) = checks.BOOL("x" * 100)
    assert reason == 'must be a bool, not "' + "x" * 56 + "… (string)"
