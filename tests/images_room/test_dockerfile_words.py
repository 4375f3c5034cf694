"""Words of Dockerfiles: variables, quotes, escapes."""

from __future__ import annotations

import pytest

from pytest_enclave.images.dockerfile.words import expand, listed, split
from pytest_enclave.images.faults import ImageFault

VARIABLES = {"NAME": "ann", "EMPTY": "", "PLACE": "/opt/x y"}


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("plain", "plain"),
        ("$NAME", "ann"),
        ("${NAME}", "ann"),
        ("a$NAME.b", "aann.b"),
        ("$NAMED", ""),
        ("$MISSING${MISSING}", ""),
        ("${NAME:-other}", "ann"),
        ("${EMPTY:-other}", "other"),
        ("${EMPTY-other}", ""),
        ("${MISSING-other}", "other"),
        ("${MISSING:-}", ""),
        ("${NAME:+there}", "there"),
        ("${EMPTY:+there}", ""),
        ("${EMPTY+there}", "there"),
        ("${MISSING:+there}", ""),
        ("${MISSING:-$NAME}", "ann"),
        ("${MISSING:-${MISSING:-${NAME}}}", "ann"),
        ("${NAME:?is wanted}", "ann"),
        ("\\$NAME", "$NAME"),
        ("\\\\", "\\"),
        ("'$NAME'", "$NAME"),
        ('"$NAME"', "ann"),
        ('"\\$NAME \\" \\n"', '$NAME " \\n'),
        ("a'b'\"c\"d", "abcd"),
        ("''", ""),
        ("$", "$"),
        ("$.", "$."),
        ("a$", "a$"),
        ("$PLACE", "/opt/x y"),
        ("end\\", "end\\"),
    ],
)
def test_what_a_word_means(word: str, meaning: str):
    assert expand(word, VARIABLES) == meaning


def test_another_character_may_escape():
    assert expand("`$NAME C:\\", VARIABLES, "`") == "$NAME C:\\"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("'open", "`'open`: a `'` is missing"),
        ('"open', '`"open`: a `"` is missing'),
        ("${NAME", "`${NAME`: a `}` is missing"),
        ("${NAME:-x", "`${NAME:-x`: a `}` is missing"),
        ("${}", "`${}`: what follows `${` is no variable that is known here"),
        ("${NAME#a}", "`${NAME#a}`: `${NAME#a}` is not supported"),
        ("${MISSING:?is wanted}", "`MISSING`: is wanted"),
        ("${MISSING?}", "`MISSING`: it has no value"),
    ],
)
def test_what_means_nothing_is_told(word: str, message: str):
    with pytest.raises(ImageFault) as caught:
        expand(word, VARIABLES)
    assert caught.value.meaning == message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  a\tb  c ", ["a", "b", "c"]),
        ("'a b' \"c d\" e", ["'a b'", '"c d"', "e"]),
        ("a=b\\ c d", ["a=b\\ c", "d"]),
        ("a='x \"y' z", ["a='x \"y'", "z"]),
        ('"a \\" b" c', ['"a \\" b"', "c"]),
        ("'a\\' b", ["'a\\'", "b"]),
        ("open 'a b", ["open", "'a b"]),
        ("a\\", ["a\\"]),
    ],
)
def test_spaces_part_words_outside_of_quotes(text: str, words: list[str]):
    assert split(text) == words


@pytest.mark.parametrize(
    ("text", "strings"),
    [
        ('["a", "b c"]', ["a", "b c"]),
        (" []", []),
        ("['a']", None),
        ('["a", 1]', None),
        ('"a"', None),
        ("[ -f x ] && y", None),
    ],
)
def test_a_list_is_one_of_strings(text: str, strings: list[str] | None):
    assert listed(text) == strings


def test_lists_in_lists_without_end_are_text():
    assert listed("[" * 200_000) is None
    assert listed("[" * 200_000 + "]" * 200_000) is None


def test_variables_stand_in_each_other_only_so_deep():
    assert expand("${a:-" * 100 + "x" + "}" * 100, {}) == "x"
    with pytest.raises(ImageFault, match="variables stand in each other more than 100 deep"):
        expand("${a:-" * 101 + "x" + "}" * 101, {})
    assert expand("${a:-x}" * 500, {}) == "x" * 500
