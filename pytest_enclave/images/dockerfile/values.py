"""What `EXPOSE`, `HEALTHCHECK` and `STOPSIGNAL` may be given: what `docker build` takes."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping

from pytest_enclave.golang import duration
from pytest_enclave.images.faults import ImageFault

LARGEST_PORT = 65535

MILLISECOND = 10**6

_PORTS = re.compile(r"(?:\S*:)?([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE | re.ASCII)
_REAL_TIME = re.compile(r"RTMIN(\+([1-9]|1[0-5]))?|RTMAX(-([1-9]|1[0-4]))?")
_FURTHER = ("CLD", "POLL", "STKFLT")
"""Signals that not every Python knows the names of."""

_TIMES = ("interval", "timeout", "start-period", "start-interval")


def exposed(word: str) -> list[str]:
    """The ports that a word of `EXPOSE` means, each with its protocol. Raises ImageFault."""
    parts = _PORTS.fullmatch(word)
    first, last = (int(parts[1]), int(parts[2] or parts[1])) if parts else (0, -1)
    if parts is None or not first <= last <= LARGEST_PORT:
        raise ImageFault(f"`{word}` is no port", "write `80`, `53/udp` or `8000-8010`")
    return [f"{number}/{(parts[3] or 'tcp').lower()}" for number in range(first, last + 1)]


def refuse_wrong_health_check(flags: Mapping[str, str], text: str) -> None:
    """Raise ImageFault where `HEALTHCHECK` names no command, or a flag has a value that it cannot have."""
    kind, _, command = text.partition(" ")
    if kind.upper() not in ("CMD", "NONE"):
        raise ImageFault(f"`{kind}` is no kind of `HEALTHCHECK`", "write `HEALTHCHECK CMD …` or `HEALTHCHECK NONE`")
    if kind.upper() == "NONE" and command.strip():
        raise ImageFault("`HEALTHCHECK NONE` takes no arguments")
    if kind.upper() == "CMD" and not command.strip():
        raise ImageFault("`HEALTHCHECK CMD` names no command")
    for name in _TIMES:
        if name in flags:
            _refuse_wrong_time(name, flags[name])
    retries = flags.get("retries", "0")
    if not re.fullmatch(r"\+?[0-9]{1,9}", retries, re.ASCII):
        raise ImageFault(f"`--retries={retries}` is no number of retries")


def _refuse_wrong_time(name: str, value: str) -> None:
    try:
        nanoseconds = duration.parse(value)
    except duration.DurationError:
        raise ImageFault(f"`--{name}={value}` is no duration", "write one as `30s` or `1m30s`") from None
    if nanoseconds and nanoseconds < MILLISECOND:
        raise ImageFault(f"`--{name}={value}` is less than 1ms")


def stop_signal(word: str) -> str:
    """The word, if it is a signal: its number, or its name with or without `SIG`. Raises ImageFault."""
    name = word.upper().removeprefix("SIG")
    number = int(word) if re.fullmatch("[0-9]{1,3}", word, re.ASCII) else 0
    named = f"SIG{name}" in signal.Signals.__members__ or name in _FURTHER or _REAL_TIME.fullmatch(name)
    if not named and not 0 < number < signal.NSIG:
        raise ImageFault(f"`{word}` is no signal", "write a name or number, as `SIGINT` or `2`")
    return word
