"""Reading what a container wrote. Never attached to: a reader that is too slow would hold the service up."""

from __future__ import annotations

import calendar
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pytest_enclave.engine.docker.translation import translate
from pytest_enclave.engine.protocol import LogLine

if TYPE_CHECKING:
    from docker import APIClient

MARGIN = 0.001
"""Seconds. The engine counts nanoseconds, which a float is too coarse for, so it is asked for a little more."""


def read_logs(
    client: APIClient, service: str, container: str, since: float | None, *, whole: bool = False
) -> list[LogLine]:
    """The lines written since then (seconds since the epoch), oldest first. Raises EngineError.

    `whole`: read as one piece, as what was written to a terminal comes in pieces without meaning.
    """
    with translate(f'cannot read the log of service "{service}"'):
        written = client.logs(
            container,
            stdout=True,
            stderr=True,
            stream=True,
            follow=False,
            timestamps=True,
            since=float(since) - MARGIN if since else None,
        )
        return [line for line in parse([b"".join(written)] if whole else written) if since is None or line.at >= since]


def parse(pieces: Iterable[bytes]) -> list[LogLine]:
    """Log lines from the engine's pieces, each `TIMESTAMP TEXT`.

    The engine cuts lines of more than 16 KiB; a piece without a line end is continued by the next one.
    """
    lines: list[LogLine] = []
    unfinished = False
    for piece in pieces:
        for part in piece.splitlines(keepends=True) or [b""]:
            stamp, _, content = part.partition(b" ")
            text = content.rstrip(b"\r\n").decode(errors="replace")
            if unfinished:
                lines[-1] = LogLine(lines[-1].at, lines[-1].text + text)
            else:
                lines.append(LogLine(_seconds(stamp.decode()), text))
            unfinished = not part.endswith(b"\n")
    return lines


def _seconds(stamp: str) -> float:
    """A timestamp like `2026-11-21T19:49:11.846090177Z`, as seconds since the epoch."""
    date, _, clock = stamp.partition("T")
    year, month, day = (int(part) for part in date.split("-"))
    hours, minutes, seconds = clock.rstrip("Z").split(":")
    midnight = calendar.timegm((year, month, day, 0, 0, 0))
    return midnight + int(hours) * 3600 + int(minutes) * 60 + float(seconds)
