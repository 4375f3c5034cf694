"""Starlark's `time`, as Go's library has it."""

from __future__ import annotations

import sys
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_enclave.errors import InterpretationError
from pytest_enclave.golang import layouts
from pytest_enclave.language import time_module

MOMENT = "time.from_timestamp(1700000000, 5)"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("str(5 * time.second)", "5s"),
        ("str(time.minute + 30 * time.second)", "1m30s"),
        ("str(time.hour - time.minute)", "59m0s"),
        ("str(time.hour / 7)", "8m34.285714285s"),
        ("time.hour / time.minute", 60.0),
        ("time.hour // (7 * time.minute)", 8),
        ("time.second < time.minute and time.minute >= 60 * time.second", True),
        ("time.second == time.parse_duration('1s')", True),
        ("time.second != time.parse_duration(time.second)", False),
        ("time.second == 1", False),
        ("[1, 'a'] == [1, 'a'] and 1 < 2 and 7 / 2 == 3.5 and 'time' != 'x'", True),
        ("type(time.second)", "time.duration"),
        ("(-time.parse_duration('-1.5s').nanoseconds, time.parse_duration('-1.5ms').milliseconds)", (1500000000, -1)),
        (f"str({MOMENT})", "2023-11-14 22:13:20.000000005 +0000 UTC"),
        (f"type({MOMENT})", "time.time"),
        (f"({MOMENT}.year, {MOMENT}.month, {MOMENT}.day, {MOMENT}.hour)", (2023, 11, 14, 22)),
        (f"({MOMENT}.minute, {MOMENT}.second, {MOMENT}.nanosecond, {MOMENT}.unix)", (13, 20, 5, 1700000000)),
        (f"{MOMENT}.unix_nano", 1700000000000000005),
        (f"str({MOMENT} + 2 * time.hour)", "2023-11-15 00:13:20.000000005 +0000 UTC"),
        (f"str({MOMENT} - time.from_timestamp(1700000000))", "5ns"),
        (f"str({MOMENT}.in_location('Europe/Paris'))", "2023-11-14 23:13:20.000000005 +0100 CET"),
        (f"{MOMENT} == {MOMENT}.in_location('Europe/Paris')", True),
        (f"{MOMENT}.format('Mon, 02 Jan 2006 15:04:05 MST')", "Tue, 14 Nov 2023 22:13:20 UTC"),
        (f"{MOMENT}.format('3:04PM')", "10:13PM"),
        ("str(time.parse_time('2021-02-03T04:05:06Z'))", "2021-02-03 04:05:06 +0000 UTC"),
        ("str(time.parse_time('2021-02-03T04:05:06.5+02:00'))", "2021-02-03 04:05:06.5 +0200 +0200"),
        ("str(time.parse_time('3 Feb 2021', '2 Jan 2006', 'America/New_York'))", "2021-02-03 00:00:00 -0500 EST"),
        ("str(time.time(year = 2021, month = 14, day = 1))", "2022-02-01 00:00:00 +0000 UTC"),
        ("time.is_valid_timezone('Europe/Paris')", True),
        ("time.is_valid_timezone('Mars/Olympus')", False),
        ("dir(time)[:3]", ["from_timestamp", "hour", "is_valid_timezone"]),
        ("'%s, %s' % (time.second, [time.minute])", "1s, [1m0s]"),
    ],
)
def test_times(evaluated: Callable[[str], Any], expression: str, expected: object) -> None:
    assert evaluated(expression) == expected


def test_time_that_is_assigned(plan_of: Callable[..., Any]) -> None:
    text = "def run(plan):\n    t = time.second\n    t += time.minute\n    t *= 2\n    t -= time.second\n"
    text += "    l = [1]\n    m = l\n    l += [2]\n    return (str(t), m)\n"
    assert plan_of(text).output == ("2m1s", [1, 2])


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("time.second + 1", r"<source>:2:24: operation `\+` not supported for types `time.duration` and `int`"),
        ("time.second < 1", r"operation `<` not supported for types `time.duration` and `int`"),
        ("time.second // (time.second - time.second)", "there is no such time"),
        ("time.parse_time('x')", "parse_time: `x` is not a time written like"),
        ("time.time(year = 99999, month = 1)", "the year 99999 is not one from 1 to 9998"),
        ("time.from_timestamp(1 << 62)", "there is no such time|times go from"),
        ("time.from_timestamp(0).in_location('../../etc/passwd')", "there is no time zone"),
        ("time.parse_duration(5)", "parse_duration: must be given a string, not 5"),
    ],
)
def test_errors_of_times(evaluated: Callable[[str], Any], expression: str, message: str) -> None:
    with pytest.raises(InterpretationError, match=message):
        evaluated(expression)


def test_a_layout_reads_what_it_writes() -> None:
    clock = layouts.Clock(2024, 2, 29, 13, 5, 6, 123_000_000, 3600, "CET", 3, 60)
    for layout in ("2006-01-02T15:04:05.000Z07:00", "Jan _2 2006 03:04:05.999 PM -0700", "06 002 15h04m05,9 Z07"):
        read = layouts.read(layout, layouts.render(layout, clock))
        assert (read.clock.hour, read.clock.minute, read.offset) == (13, 5, 3600)


def test_shifts_beyond_32_bits(evaluated: Callable[[str], Any]) -> None:
    assert evaluated("[1 << n for n in [0, 30, 31, 32, 63]] + [-3 << 31]") == [
        *(1, 1 << 30, 1 << 31, 1 << 32, 1 << 63, -3 << 31)
    ]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (f"[{MOMENT}] == [{MOMENT}]", True),
        (f"{{'at': ({MOMENT}, 1)}} == {{'at': ({MOMENT}, 1)}}", True),
        (f"struct(at = {MOMENT}) == struct(at = {MOMENT})", True),
        (f"{MOMENT} in [1, {MOMENT}]", True),
        (f"[1, {MOMENT}].index({MOMENT})", 1),
        (f"{{{MOMENT}: 7}}[{MOMENT}]", 7),
        ("[time.second] == [time.parse_duration('1s')]", True),
        (f"[{MOMENT}] == [{MOMENT} + time.second]", False),
        (f"[at.format('15:04') for at in [{MOMENT}, {MOMENT}.in_location('Europe/Paris')]]", ["22:13", "23:13"]),
        (f"{MOMENT}.format(layout = '15') + {MOMENT}.in_location(locname = 'Europe/Paris').format('15')", "2223"),
        ("struct(format = lambda x: x, in_location = lambda: 3).in_location()", 3),
        ("struct(format = lambda x: x).format(4)", 4),
    ],
)
def test_times_are_equal_wherever_they_are(evaluated: Callable[[str], Any], expression: str, expected: object) -> None:
    assert evaluated(expression) == expected


@pytest.mark.parametrize("name", ["Local", "localtime", "", "UTC"])
def test_what_is_local_is_utc(evaluated: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    assert evaluated(f"str({MOMENT}.in_location({name!r}))") == "2023-11-14 22:13:20.000000005 +0000 UTC"
    assert evaluated(f"time.is_valid_timezone({name!r})")


def test_a_machine_without_zones_says_so(
    evaluated: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    time_module._zone.cache_clear()
    zoneinfo.ZoneInfo.clear_cache()
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath([str(tmp_path)])
    monkeypatch.setitem(sys.modules, "tzdata", None)
    try:
        with pytest.raises(InterpretationError) as caught:
            evaluated(f"{MOMENT}.in_location('Europe/Paris')")
    finally:
        zoneinfo.reset_tzpath(before)
        time_module._zone.cache_clear()
    assert caught.value.message == (
        'there is no time zone "Europe/Paris": this machine has no time zone data; install the Python package tzdata'
    )


RESERVED = "a struct has a field with a reserved name: none may begin with a NUL character"


@pytest.mark.parametrize(
    "expression",
    [
        "str(struct(**{'\\0handle': 99}))",
        "str([struct(**{'\\0handle': -1, '\\0type': 'PortSpec'})])",
        "plan.print(struct(**{'\\0handle': 5}))",
        "time.second + struct(**{'\\0instant': 5})",
        "time.second + struct(**{'\\0instant': 'x', '\\0type': 'time.duration'})",
        "time.second + struct(**{'\\0instant': ['x', 5], '\\0type': 'time.time'})",
        "time.second + struct(**{'\\0instant': [], '\\0type': 'time.time'})",
        "time.second == struct(**{'\\0instant': {'\\0instant': 1}, '\\0type': 7})",
    ],
)
def test_values_made_by_hand_are_refused(evaluated: Callable[[str], Any], expression: str) -> None:
    with pytest.raises(InterpretationError) as caught:
        evaluated(expression)
    assert caught.value.message == RESERVED
    assert caught.value.location is not None
    assert caught.value.location.line == 2


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ("'\\0handle': 'x'", "struct("),
        ("'\\0type': 5", "struct("),
        ("'\\0type': 'x', '\\0text': 5", "<x>"),
        ("'\\0handle': None, 'a': 1", "struct("),
        ("'\\0': 'struct', 'fields': 3", "struct("),
    ],
)
def test_other_values_made_by_hand_are_shown_somehow(evaluated: Callable[[str], Any], fields: str, shown: str) -> None:
    assert evaluated(f"str(struct(**{{{fields}}}))").startswith(shown)
