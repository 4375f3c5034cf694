"""Log lines out of a log as the keeper writes it (`inside/logs.py` says how)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from pytest_enclave.engine.embedded.inside.logs import FRAME
from pytest_enclave.engine.protocol import LogLine


def read_lines(segments: Sequence[int], since: float | None = None) -> list[LogLine]:
    """The lines that began then or later (seconds since the epoch), oldest first; the last one may be unfinished.

    `segments` are descriptors as `open_segments` gives them, which stay open and where they are. Segments and frames
    that are older than `since` are passed over without being decoded. Where the oldest segments have been removed, the
    first line may lack its beginning.
    """
    first = _first_segment(segments, since)
    continues = first > 0 and not _ends_a_line(segments[first - 1])
    lines: list[LogLine] = []
    pieces: list[bytes] = []
    began = 0.0
    skipping = since is not None
    for at, data, start, end in _frames(segments[first:]):
        if skipping and since is not None and at < since:
            continues = data[end - 1] != 0x0A
            continue
        skipping = False
        position = start
        if continues:
            # The rest of a line that began before.
            position = data.find(b"\n", start, end) + 1
            if not position:
                continue
            continues = False
        complete = data[position:end].split(b"\n")
        unfinished = complete.pop()
        for part in complete:
            if pieces:
                part = b"".join([*pieces, part])
                lines.append(_line(began, part))
                pieces.clear()
            else:
                lines.append(_line(at, part))
        if unfinished:
            if not pieces:
                began = at
            pieces.append(unfinished)
    if pieces:
        lines.append(_line(began, b"".join(pieces)))
    return lines


def _line(at: float, content: bytes) -> LogLine:
    return LogLine(at, content.rstrip(b"\r").decode(errors="replace"))


def _frames(segments: Sequence[int]) -> Iterator[tuple[float, bytes, int, int]]:
    """Each frame: its time, and where in what bytes it is. One that is still being written is left out."""
    for segment in segments:
        data = _content(segment)
        position = 0
        while position + FRAME.size <= len(data):
            at, length = FRAME.unpack_from(data, position)
            start = position + FRAME.size
            position = start + length
            if position > len(data):
                break
            yield at, data, start, position


def _content(segment: int) -> bytes:
    size = os.fstat(segment).st_size
    pieces: list[bytes] = []
    offset = 0
    while offset < size and (piece := os.pread(segment, size - offset, offset)):
        pieces.append(piece)
        offset += len(piece)
    return b"".join(pieces)


def _first_segment(segments: Sequence[int], since: float | None) -> int:
    """The last segment that begins before that time: nothing in those before it is as new."""
    if since is None:
        return 0
    for number in range(len(segments) - 1, 0, -1):
        header = os.pread(segments[number], FRAME.size, 0)
        if len(header) == FRAME.size and FRAME.unpack(header)[0] < since:
            return number
    return 0


def _ends_a_line(segment: int) -> bool:
    return os.pread(segment, 1, max(0, os.fstat(segment).st_size - 1)) == b"\n"
