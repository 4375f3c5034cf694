"""Go's way to write and read times: a layout is an example, `2006-01-02T15:04:05Z07:00`.

Each piece of a layout that stands for something is found by its looks, the longest first, as in Go's `time` package.
Source of the rules: `Time.Format` and `time.Parse`.
"""

from __future__ import annotations

import functools
import itertools
import re

import msgspec

MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_PIECE = re.compile(
    r"January|Jan|Monday|Mon|MST|2006|__2|002|01|02|03|04|05|06|15|_2(?!006)|PM|pm"
    r"|-07:00:00|-070000|-07:00|-0700|-07|Z07:00:00|Z070000|Z07:00|Z0700|Z07|[.,](?:0+|9+)(?![0-9])|1|2|3|4|5"
)
_READ = {
    "2006": r"(?P<year>[0-9]{4})",
    "06": r"(?P<short_year>[0-9]{2})",
    "01": r"(?P<month>[0-9]{2})",
    "1": r"(?P<month>[0-9]{1,2})",
    "Jan": r"(?P<month_name>[A-Za-z]{3})",
    "January": rf"(?P<month_name>(?i:{'|'.join(MONTHS)})|[A-Za-z]{{3,9}})",
    "02": r"(?P<day>[0-9]{2})",
    "2": r"(?P<day>[0-9]{1,2})",
    "_2": r" ?(?P<day>[0-9]{1,2})",
    "002": r"(?P<day_of_year>[0-9]{3})",
    "__2": r" {0,2}(?P<day_of_year>[0-9]{1,3})",
    "Mon": r"[A-Za-z]{3}",
    "Monday": rf"(?i:{'|'.join(DAYS)})",
    "15": r"(?P<hour>[0-9]{1,2})",
    "03": r"(?P<half_hour>[0-9]{2})",
    "3": r"(?P<half_hour>[0-9]{1,2})",
    "04": r"(?P<minute>[0-9]{2})",
    "4": r"(?P<minute>[0-9]{1,2})",
    "05": r"(?P<second>[0-9]{2})",
    "5": r"(?P<second>[0-9]{1,2})",
    "PM": r"(?P<half>AM|PM)",
    "pm": r"(?P<half>am|pm)",
    "MST": r"(?P<zone>[A-Z]{3,5}|[+-][0-9]{2})",
}


_MOST = 10_000

_FRACTION = re.compile("[.,][0-9]+")
"""What may follow seconds, whether the layout has it or not."""


class LayoutError(ValueError):
    """The text is no time of that layout."""


class Clock(msgspec.Struct, frozen=True):
    """A time as calendars and clocks in one place show it. `offset` is in seconds east of UTC."""

    year: int
    month: int
    day: int
    hour: int = 0
    minute: int = 0
    second: int = 0
    nanosecond: int = 0
    offset: int = 0
    zone: str = "UTC"
    weekday: int = 0
    day_of_year: int = 0


class Reading(msgspec.Struct, frozen=True):
    """What a text says: `offset` and `zone` are None where it does not say them."""

    clock: Clock
    offset: int | None
    zone: str | None


def render(layout: str, clock: Clock) -> str:
    """The time as the layout shows it."""
    return _PIECE.sub(lambda piece: _shown(piece[0], clock), layout)


def _shown(piece: str, clock: Clock) -> str:
    if piece[0] in ".,":
        digits = f"{clock.nanosecond:09d}"[: len(piece) - 1]
        if piece[1] == "9":
            digits = digits.rstrip("0")
        return piece[0] + digits if digits else ""
    if piece[0] == "Z" or piece.startswith("-0"):
        return _offset(piece, clock.offset)
    half = clock.hour % 12 or 12
    shown = {
        "2006": f"{clock.year:04d}",
        "06": f"{clock.year % 100:02d}",
        "01": f"{clock.month:02d}",
        "1": str(clock.month),
        "Jan": MONTHS[clock.month - 1][:3],
        "January": MONTHS[clock.month - 1],
        "02": f"{clock.day:02d}",
        "_2": f"{clock.day:2d}",
        "2": str(clock.day),
        "002": f"{clock.day_of_year:03d}",
        "__2": f"{clock.day_of_year:3d}",
        "Mon": DAYS[clock.weekday][:3],
        "Monday": DAYS[clock.weekday],
        "15": f"{clock.hour:02d}",
        "03": f"{half:02d}",
        "3": str(half),
        "04": f"{clock.minute:02d}",
        "4": str(clock.minute),
        "05": f"{clock.second:02d}",
        "5": str(clock.second),
        "PM": "PM" if clock.hour >= 12 else "AM",
        "pm": "pm" if clock.hour >= 12 else "am",
        "MST": clock.zone,
    }
    return shown[piece]


def _offset(piece: str, offset: int) -> str:
    if piece[0] == "Z" and offset == 0:
        return "Z"
    parts = [abs(offset) // 3600, abs(offset) // 60 % 60, abs(offset) % 60]
    count = sum(c.isdigit() for c in piece) // 2
    return ("-" if offset < 0 else "+") + (":" if ":" in piece else "").join(f"{part:02d}" for part in parts[:count])


def read(layout: str, text: str) -> Reading:
    """The time that the text shows in this layout. Raises LayoutError.

    Each piece takes what it can, and nothing is tried twice, as in Go: reading takes time in proportion.
    """
    found: dict[str, str] = {}
    pieces = list(itertools.islice(_PIECE.finditer(layout), _MOST + 1))
    if len(pieces) > _MOST:
        raise LayoutError(f"a layout has at most {_MOST:,} pieces that stand for something")
    at = behind = 0
    for number, piece in enumerate(pieces, start=1):
        at = _behind_literal(layout[behind : piece.start()], layout, text, at)
        match = _reader(piece[0]).match(text, at)
        if match is None:
            raise _unlike(layout, text)
        at, behind = match.end(), piece.end()
        for name, value in match.groupdict().items():
            if value is not None:
                found.setdefault(name, value)
        fraction = _FRACTION.match(text, at)
        own = number < len(pieces) and pieces[number][0][0] in ".,"
        if fraction and piece[0] in ("05", "5") and not own:
            at = fraction.end()
            found.setdefault("fraction", fraction[0][1:])
    if _behind_literal(layout[behind:], layout, text, at) != len(text):
        raise _unlike(layout, text)
    return Reading(_clock(found, text), _read_offset(found.get("offset")), found.get("zone"))


def _behind_literal(literal: str, layout: str, text: str, at: int) -> int:
    if not text.startswith(literal, at):
        raise _unlike(layout, text)
    return at + len(literal)


def _unlike(layout: str, text: str) -> LayoutError:
    return LayoutError(f"`{text}` is not a time written like `{layout}`")


@functools.lru_cache(maxsize=256)
def _reader(piece: str) -> re.Pattern[str]:
    if piece[0] in ".,":
        exact = rf"[.,](?P<fraction>[0-9]{{{len(piece) - 1}}})"
        return re.compile(exact if piece[1] == "0" else r"(?:[.,](?P<fraction>[0-9]+))?")
    if piece[0] == "Z" or piece.startswith("-0"):
        count = sum(c.isdigit() for c in piece) // 2
        digits = (":" if ":" in piece else "").join(["[0-9]{2}"] * count)
        return re.compile(f"(?P<offset>{'Z|' if piece[0] == 'Z' else ''}[+-]{digits})")
    return re.compile(_READ[piece])


def _clock(found: dict[str, str], text: str) -> Clock:
    year = int(found.get("year", 0))
    if "short_year" in found:
        short = int(found["short_year"])
        year = short + (1900 if short >= 69 else 2000)
    month = int(found.get("month", 1))
    if "month_name" in found:
        names = [name for name in MONTHS if found["month_name"].lower() in (name.lower(), name[:3].lower())]
        if not names:
            raise LayoutError(f"`{text}`: there is no month `{found['month_name']}`")
        month = MONTHS.index(names[0]) + 1
    hour = int(found.get("hour", found.get("half_hour", 0)))
    half = found.get("half", "").upper()
    if half == "PM" and hour < 12:
        hour += 12
    elif half == "AM" and hour == 12:
        hour = 0
    return Clock(
        year=year,
        month=month,
        day=int(found.get("day", 1)),
        hour=hour,
        minute=int(found.get("minute", 0)),
        second=int(found.get("second", 0)),
        nanosecond=int(found.get("fraction", "0")[:9].ljust(9, "0")),
        day_of_year=int(found.get("day_of_year", 0)),
    )


def _read_offset(text: str | None) -> int | None:
    if text is None or text == "Z":
        return None if text is None else 0
    digits = text[1:].replace(":", "").ljust(6, "0")
    seconds = int(digits[:2]) * 3600 + int(digits[2:4]) * 60 + int(digits[4:6])
    return -seconds if text[0] == "-" else seconds
