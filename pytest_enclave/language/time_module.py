"""Starlark's `time` as Go has it: times and lengths of time, their fields, text and arithmetic.

Here a length of time is a whole number of nanoseconds, a time an `Instant`. The prelude knows both as structs with
the fields of Go's values; what tells them apart crosses under the key `INSTANT`. There is no `now`: see `natives.py`.
"""

from __future__ import annotations

import functools
import json
import operator
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from pytest_enclave.golang import duration, layouts
from pytest_enclave.language import wire
from pytest_enclave.plan.values import Opaque, Struct, to_repr, type_name

INSTANT = "\x00instant"
TEXT = "\x00text"
TYPE = "\x00type"

_SECOND = 10**9
_EPOCH = datetime(1970, 1, 1)
_UNITS = {
    "nanosecond": 1,
    "microsecond": 10**3,
    "millisecond": 10**6,
    "second": _SECOND,
    "minute": 60 * _SECOND,
    "hour": 3600 * _SECOND,
}
_NAMES = {"Length": "time.duration", "Instant": "time.time"}


_INSTANT = re.compile("(-?[0-9]+) (.+)")
_OF_NO_PLACE = ("", "UTC", "Local", "localtime")
"""Names that stand for UTC: what is local where the tests run is nothing that a plan may depend on."""


class TimeError(ValueError):
    """A time cannot be had, or not be calculated with; the message says why."""


class Length(int):
    """A length of time, in nanoseconds."""


class Instant(msgspec.Struct, frozen=True):
    """A point in time, in nanoseconds since 1970 in UTC, seen from a place: a zone's name, or `+01:00`."""

    nanoseconds: int
    place: str = "UTC"


def units() -> Mapping[str, object]:
    """The constants of the module, ready for the prelude."""
    return {name: _shown(Length(length)) for name, length in _UNITS.items()}


def call(crossing: str) -> str:
    """Carry out an operation of the prelude: `[name, [arguments]]`. Raises TimeError, DurationError."""
    name, arguments = json.loads(crossing)
    given = [_given(argument) for argument in arguments]
    try:
        return json.dumps(_shown(_FUNCTIONS[name](*given) if name in _FUNCTIONS else _calculated(name, *given)))
    except (OverflowError, ZeroDivisionError):
        raise TimeError(f"{name}: there is no such time") from None
    except layouts.LayoutError as error:
        raise TimeError(f"{name}: {error}") from None


def _given(value: Any) -> Any:
    if isinstance(value, dict) and INSTANT in value:
        match value[TYPE], value[INSTANT]:
            case "time.time", str(held) if known := _INSTANT.fullmatch(held):
                return Instant(int(known[1]), known[2])
            case "time.duration", int(nanoseconds):
                return Length(nanoseconds)
        raise TimeError("a struct has a field with a reserved name: none may begin with a NUL character")
    return wire.Decoder(())(json.dumps(value)) if isinstance(value, (dict, list)) else value


def _parse_duration(text: Any) -> Length:
    return Length(duration.parse(_text("parse_duration", text)))


def _parse_time(text: Any, layout: Any, place: Any) -> Instant:
    place = _zone_name(place)
    read = layouts.read(_text("parse_time", layout), _text("parse_time", text))
    clock = read.clock
    try:
        moment = datetime(clock.year or 1, clock.month, clock.day, clock.hour, clock.minute, clock.second)
        if clock.day_of_year:
            moment = moment.replace(month=1, day=1) + timedelta(days=clock.day_of_year - 1)
    except ValueError as error:
        raise TimeError(f"parse_time: {to_repr(text)}: {error}") from None
    if read.offset is not None:
        place = "UTC" if read.offset == 0 else _fixed(read.offset)
    elif read.zone == "UTC":
        place = "UTC"
    nanoseconds = _since_epoch(moment.replace(tzinfo=_zone(place))) * _SECOND + clock.nanosecond
    return Instant(nanoseconds, place)


def _from_timestamp(seconds: Any, nanoseconds: Any) -> Instant:
    return Instant(_whole("from_timestamp", seconds) * _SECOND + _whole("from_timestamp", nanoseconds))


def _is_valid_timezone(name: Any) -> bool:
    try:
        _zone(_text("is_valid_timezone", name))
    except TimeError:
        return False
    return True


def _time(year: Any, month: Any, day: Any, hour: Any, minute: Any, second: Any, nanosecond: Any, place: Any) -> Instant:
    """As Go's `time.Date`: what is beyond its range goes over into the next larger unit."""
    place = _zone_name(place)
    numbers = [_whole("time", number) for number in (year, month, day, hour, minute, second, nanosecond)]
    years, months = divmod(numbers[0] * 12 + numbers[1] - 1, 12)
    if not 1 <= years <= 9998:
        raise TimeError(f"time: the year {years} is not one from 1 to 9998")
    moment = datetime(years, months + 1, 1) + timedelta(days=numbers[2] - 1)
    moment += timedelta(hours=numbers[3], minutes=numbers[4], seconds=numbers[5])
    return Instant(_since_epoch(moment.replace(tzinfo=_zone(place))) * _SECOND + numbers[6], place)


def _in_location(instant: Instant, place: Any) -> Instant:
    return Instant(instant.nanoseconds, _zone_name(place))


def _format(instant: Instant, layout: Any) -> str:
    return layouts.render(_text("format", layout), _clock(instant))


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "parse_duration": _parse_duration,
    "parse_time": _parse_time,
    "from_timestamp": _from_timestamp,
    "is_valid_timezone": _is_valid_timezone,
    "time": _time,
    "in_location": _in_location,
    "format": _format,
}
_COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {"==": operator.eq, "<": operator.lt}


def _calculated(symbol: str, left: Any, right: Any) -> Any:
    """What Go's `Duration` and `Time` define between each other and with numbers."""
    match left, right:
        case (Instant(), Instant()) | (Length(), Length()) if symbol in _COMPARISONS:
            return _COMPARISONS[symbol](_nanoseconds(left), _nanoseconds(right))
        case _ if symbol == "==":
            return False
        case (Length(), Length()):
            results: dict[str, Callable[[], Any]] = {
                "+": lambda: Length(left + right),
                "-": lambda: Length(left - right),
                "/": lambda: int(left) / int(right),
                "//": lambda: int(left) // int(right),
            }
            if symbol in results:
                return results[symbol]()
        case (Instant(), Length()) if symbol in ("+", "-"):
            length = right if symbol == "+" else -right
            return Instant(left.nanoseconds + length, left.place)
        case (Length(), Instant()) if symbol == "+":
            return Instant(right.nanoseconds + left, right.place)
        case (Instant(), Instant()) if symbol == "-":
            return Length(left.nanoseconds - right.nanoseconds)
        case (Length(), int()) | (int(), Length()) if symbol == "*" and not isinstance(left, bool):
            return Length(left * right)
        case (Length(), int() | float()) if symbol == "/" and not isinstance(right, bool):
            return Length(int(left / right))
    raise TimeError(f"operation `{symbol}` not supported for types `{_kind(left)}` and `{_kind(right)}`")


def _nanoseconds(value: Any) -> int:
    return value.nanoseconds if isinstance(value, Instant) else int(value)


def _kind(value: Any) -> str:
    return _NAMES.get(type(value).__name__) or type_name(value)


def _shown(value: Any) -> object:
    """The value as the prelude makes a struct of it."""
    if isinstance(value, Length):
        return {
            TYPE: "time.duration",
            TEXT: duration.render(value),
            INSTANT: int(value),
            "hours": value / 3.6e12,
            "minutes": value / 6e10,
            "seconds": value / 1e9,
            "milliseconds": _cut(value, 10**6),
            "microseconds": _cut(value, 10**3),
            "nanoseconds": int(value),
        }
    if isinstance(value, Instant):
        clock = _clock(value)
        return {
            TYPE: "time.time",
            TEXT: layouts.render("2006-01-02 15:04:05.999999999 -0700 MST", clock),
            INSTANT: f"{value.nanoseconds} {value.place}",
            "unix": value.nanoseconds // _SECOND,
            "unix_nano": value.nanoseconds,
            **{
                name: getattr(clock, name)
                for name in ("year", "month", "day", "hour", "minute", "second", "nanosecond")
            },
        }
    return value


def _cut(value: int, unit: int) -> int:
    return value // unit if value >= 0 else -(-value // unit)


def _clock(instant: Instant) -> layouts.Clock:
    seconds, nanosecond = divmod(instant.nanoseconds, _SECOND)
    try:
        shown = (_EPOCH.replace(tzinfo=timezone.utc) + timedelta(seconds=seconds)).astimezone(_zone(instant.place))
    except OverflowError:
        raise TimeError("times go from the year 1 to the year 9999") from None
    offset = shown.utcoffset() or timedelta()
    return layouts.Clock(
        year=shown.year,
        month=shown.month,
        day=shown.day,
        hour=shown.hour,
        minute=shown.minute,
        second=shown.second,
        nanosecond=nanosecond,
        offset=int(offset.total_seconds()),
        zone=_abbreviation(shown, instant.place),
        weekday=shown.weekday(),
        day_of_year=shown.timetuple().tm_yday,
    )


def _abbreviation(moment: datetime, place: str) -> str:
    """Go shows a zone without a name by its offset."""
    return (
        layouts.render("-0700", layouts.Clock(1, 1, 1, offset=_offset(place)))
        if _is_fixed(place)
        else moment.strftime("%Z")
    )


def _since_epoch(moment: datetime) -> int:
    difference = moment - _EPOCH.replace(tzinfo=timezone.utc)
    return difference.days * 86400 + difference.seconds


def _is_fixed(place: str) -> bool:
    return place[:1] in ("+", "-")


def _fixed(offset: int) -> str:
    return f"{'-' if offset < 0 else '+'}{abs(offset)}"


def _offset(place: str) -> int:
    return int(place)


@functools.lru_cache(maxsize=64)
def _zone(place: str) -> tzinfo:
    if place in _OF_NO_PLACE:
        return timezone.utc
    if _is_fixed(place):
        return timezone(timedelta(seconds=_offset(place)))
    try:
        return ZoneInfo(place)
    except (LookupError, OSError, ValueError):
        known = "" if _has_zones() else ": this machine has no time zone data; install the Python package tzdata"
        raise TimeError(f"there is no time zone {to_repr(place)}{known}") from None


def _has_zones() -> bool:
    try:
        return bool(ZoneInfo("Europe/London"))
    except (LookupError, OSError):
        return False


def _zone_name(place: Any) -> str:
    text = _text("location", place)
    _zone("UTC" if _is_fixed(text) and not text[1:].isdigit() else text)
    if _is_fixed(text):
        raise TimeError(f"there is no time zone {to_repr(text)}")
    return "UTC" if text in _OF_NO_PLACE else text


def _text(function: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TimeError(f"{function}: must be given a string, not {_told(value)}")
    return value


def _whole(function: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, (bool, Length)):
        raise TimeError(f"{function}: must be given an integer, not {_told(value)}")
    return value


def _told(value: Any) -> str:
    return f"a {_kind(value)}" if isinstance(value, (Length, Instant, Struct, Opaque)) else to_repr(value)
