"""Times as Go writes and reads them: in proportion to the text, whatever it is."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_enclave.golang.layouts import Clock, LayoutError, read, render

LONG = 100_000

PATIENCE = 5.0
"""Seconds that are far too long for any of these, and too short for whatever tries all ways."""

PIECES = [
    *("January", "Jan", "Monday", "Mon", "MST", "2006", "__2", "002", "01", "02", "03", "04", "05", "06", "15", "_2"),
    *("PM", "pm", "-07:00:00", "-070000", "-07:00", "-0700", "-07", "Z07:00:00", "Z070000", "Z07:00", "Z0700", "Z07"),
    *(".000", ",999", ".9", "1", "2", "3", "4", "5", " ", ":", "T"),
]


def taken(layout: str, text: str) -> float:
    started = time.perf_counter()
    with contextlib.suppress(LayoutError):
        read(layout, text)
    return time.perf_counter() - started


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        ("15" * 30, "1" * 45 + "x"),
        ("5" * 40, "1" * 60 + "x"),
        ("_2 " * 20, " " * 200),
        (".9" * 2000, ".1" * 3000 + "x"),
        ("." + "9" * LONG, "." + "1" * LONG + "x"),
        ("." + "0" * LONG + "1", "." + "0" * LONG),
        ("15" * (LONG // 2), "1" * LONG),
        ("5" * LONG, "1.1" * (LONG // 3)),
        ("Z07:00" * (LONG // 6), "Z" * LONG),
        ("__2" * (LONG // 3), " " * LONG),
        ("05", "05." + "9" * LONG + "x"),
        ("January" * (LONG // 7), "a" * LONG),
    ],
    ids=lambda value: value[:8],
)
def test_reading_takes_time_in_proportion(layout: str, text: str) -> None:
    assert taken(layout, text) < PATIENCE


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=6), st.text("01 9.:,+-ZTapmM", min_size=1, max_size=8))
def test_no_layout_and_no_text_of_100_kb_take_long(pieces: list[str], text: str) -> None:
    layout = "".join(pieces)
    repeated, long = layout * (LONG // len(layout)), text * (LONG // len(text))
    assert min(taken(repeated, long) for _ in range(2)) < PATIENCE
    assert min(taken(layout, long) for _ in range(2)) < PATIENCE


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), max_size=5),
    st.builds(
        Clock,
        year=st.integers(1969, 2068),
        month=st.integers(1, 12),
        day=st.integers(1, 28),
        hour=st.integers(0, 23),
        minute=st.integers(0, 59),
        second=st.integers(0, 59),
        day_of_year=st.integers(1, 365),
    ),
)
def test_what_is_written_with_separators_is_read(pieces: list[str], clock: Clock) -> None:
    layout = "|".join(piece for piece in pieces if piece[0] not in ".,")
    found = read(layout, render(layout, clock)).clock
    for piece, name in (("2006", "year"), ("06", "year"), ("02", "day"), ("04", "minute"), ("05", "second")):
        if piece in layout.split("|"):
            assert getattr(found, name) == getattr(clock, name)


@pytest.mark.parametrize(
    ("layout", "text", "second", "nanosecond"),
    [
        ("05", "07.25", 7, 250_000_000),
        ("05.999", "07.25", 7, 250_000_000),
        ("05.000", "07.250", 7, 250_000_000),
        ("05,999999999", "07,000000001", 7, 1),
        ("05.999", "07", 7, 0),
        ("05", "07", 7, 0),
        ("5", "7.123456789123", 7, 123_456_789),
    ],
)
def test_fractions_of_seconds(layout: str, text: str, second: int, nanosecond: int) -> None:
    clock = read(layout, text).clock
    assert (clock.second, clock.nanosecond) == (second, nanosecond)


@pytest.mark.parametrize("text", ["Monday May 5", "monday MAY 5", "Wednesday September 5"])
def test_names_of_days_and_months(text: str) -> None:
    assert read("Monday January 2", text).clock.month in (5, 9)


@pytest.mark.parametrize(
    ("layout", "text"), [("2006-01-02", "2006-01-02x"), ("05.000", "07.25"), ("Monday", "Moonday"), ("15:04", "15.04")]
)
def test_what_is_not_of_the_layout(layout: str, text: str) -> None:
    with pytest.raises(LayoutError) as caught:
        read(layout, text)
    assert str(caught.value) == f"`{text}` is not a time written like `{layout}`"
