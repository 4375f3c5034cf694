"""Names with wildcards: what they fit, how long that takes, and what is none."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_enclave.package.wildcards import Wildcards

FIT = [
    ("a.txt", "a.txt"),
    ("*", ""),
    ("*", "any"),
    ("*.md", ".md"),
    ("a*b*c", "a-b-b-c"),
    ("?", "ä"),
    ("[a-c]x", "bx"),
    ("[^a-c]x", "dx"),
    ("[!a]", "!"),
    ("[[]id].tsx", "[id].tsx"),
    (r"\*", "*"),
    (r"[\]\-]", "]"),
    (r"[a\-z]", "-"),
]
OTHER = [("a", "A"), ("a", "ab"), ("?", ""), ("*.md", "md"), ("[^a-c]x", "bx"), ("[!a]", "b"), (r"\*", "a"), ("", "a")]


@pytest.mark.parametrize(("pattern", "name"), FIT)
def test_names_that_fit(pattern: str, name: str):
    assert Wildcards.of(pattern).fit(name)


@pytest.mark.parametrize(("pattern", "name"), OTHER)
def test_names_that_do_not(pattern: str, name: str):
    assert not Wildcards.of(pattern).fit(name)


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_what_fits_is_what_a_regular_expression_says(pattern: str, name: str):
    expression = re.sub(r"\*+", ".*", pattern).replace("?", ".")
    assert Wildcards.of(pattern).fit(name) == (re.fullmatch(expression, name) is not None)


def test_a_pattern_of_many_stars_takes_no_time():
    began = time.monotonic()
    assert not Wildcards.of("*a" * 14 + "*b").fit("a" * 60)
    assert not Wildcards.of("*a" * 120 + "*b").fit("a" * 255)
    assert Wildcards.of("*" * 100_000).fit("a" * 255)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("[z-a]", "`z-a` runs backwards"),
        ("[", "a `]` is missing"),
        ("x[a", "a `]` is missing"),
        ("[a-", "a `]` is missing"),
        ("[]a]", r"between `[` and `]`, `]` is written `\]`"),
        ("[-a]", r"between `[` and `]`, `-` is written `\-`"),
        ("a\\", "nothing follows its `\\`"),
    ],
)
def test_what_is_no_pattern_is_told(pattern: str, reason: str):
    with pytest.raises(ValueError, match=re.escape(reason)):
        Wildcards.of(pattern)
