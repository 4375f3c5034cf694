"""The keeper of logs, and reading what it has kept."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_enclave.engine.embedded.inside.logs import FRAME, SEGMENT, SEGMENTS, open_segments
from pytest_enclave.engine.embedded.log_lines import read_lines
from pytest_enclave.engine.protocol import LogLine
from tests.engine.inside_process import Inside, inside

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the embedded engine needs Linux")


@pytest.fixture(scope="module")
def keeper() -> Iterator[Inside]:
    with inside("logs") as process:
        yield process


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.mkdir()
    return path


@contextmanager
def following(keeper: Inside, log: Path, key: str = "key") -> Iterator[int]:
    """The end that a service writes to."""
    pipe, written = os.pipe()
    directory = os.open(log, os.O_RDONLY | os.O_DIRECTORY)
    keeper.channel.send({"do": "follow", "key": key}, [pipe, directory])
    os.close(pipe)
    os.close(directory)
    with os.fdopen(written, "wb") as end:
        yield end.fileno()


def told(keeper: Inside) -> dict[str, str]:
    received = keeper.channel.receive()
    assert received is not None
    return received[0]


def flush(keeper: Inside, key: str = "key") -> None:
    keeper.channel.send({"do": "flush", "key": key})
    assert told(keeper) == {"event": "flushed", "key": key}


def write(log: Path, frames: Sequence[tuple[float, bytes]], segment: int = 1) -> None:
    with open(log / str(segment), "ab") as file:
        for at, data in frames:
            file.write(FRAME.pack(at, len(data)) + data)


def read(log: Path, since: float | None = None) -> list[LogLine]:
    segments = open_segments(str(log))
    try:
        return read_lines(segments, since)
    finally:
        for segment in segments:
            os.close(segment)


def content(log: Path) -> bytes:
    return b"\n".join(line.text.encode() for line in read(log))


# Keeping


def test_what_a_service_writes_is_kept_with_its_time(keeper: Inside, log: Path):
    began = time.time()
    with following(keeper, log) as service:
        os.write(service, b"one\ntwo\n")
        flush(keeper)
        time.sleep(0.02)
        os.write(service, b"three")
        flush(keeper)
        lines = read(log)
    flush(keeper)
    assert [line.text for line in lines] == ["one", "two", "three"]
    assert began <= lines[0].at == lines[1].at < lines[2].at - 0.01 < time.time()


def test_all_that_a_service_wrote_before_it_ended_is_in_the_log(keeper: Inside, log: Path):
    with following(keeper, log) as service:
        subprocess.run(["seq", "200000"], stdout=service, check=True)
    flush(keeper)
    assert [line.text for line in read(log)] == [str(number) for number in range(1, 200_001)]


def test_a_key_that_is_not_followed_is_flushed_all_the_same(keeper: Inside):
    flush(keeper, "nobody")


def test_a_log_is_continued_by_the_next_life_of_a_service(keeper: Inside, log: Path):
    for life in (b"first\n", b"second\n"):
        with following(keeper, log) as service:
            os.write(service, life)
        flush(keeper)
    assert content(log) == b"first\nsecond"
    assert [path.name for path in log.iterdir()] == ["1"]


def test_a_key_that_is_followed_anew_loses_nothing_of_what_was_written(keeper: Inside, tmp_path: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with following(keeper, first) as service:
        os.write(service, b"old\n")
        with following(keeper, second) as other:
            os.write(other, b"new\n")
            flush(keeper)
            assert (content(first), content(second)) == (b"old", b"new")
    flush(keeper)


def test_a_log_is_bounded_and_keeps_the_newest(keeper: Inside, log: Path):
    count = (SEGMENTS + 4) * SEGMENT // 1024
    with following(keeper, log) as service, os.fdopen(os.dup(service), "wb") as file:
        for number in range(count):
            file.write(b"%01023d\n" % number)
    flush(keeper)
    kept = sum(path.stat().st_size for path in log.iterdir())
    assert (SEGMENTS - 1) * SEGMENT <= kept <= SEGMENTS * (SEGMENT + (1 << 16) + FRAME.size)
    numbers = [int(line.text) for line in read(log)]
    assert numbers[1:] == list(range(numbers[1], count))


def test_a_reader_is_not_disturbed_when_the_oldest_is_removed(keeper: Inside, log: Path):
    with following(keeper, log) as service:
        os.write(service, b"first\n")
        flush(keeper)
        segments = open_segments(str(log))
        subprocess.run(["sh", "-c", f"yes | head -c {(SEGMENTS + 1) * SEGMENT}"], stdout=service, check=True)
        flush(keeper)
        assert not (log / "1").exists()
        assert read_lines(segments)[0].text == "first"
        os.close(segments[0])
    flush(keeper)


def test_a_service_that_floods_does_not_hold_up_others(keeper: Inside, tmp_path: Path):
    logs = [tmp_path / name for name in ("flood", "quiet")]
    for log in logs:
        log.mkdir()
    with following(keeper, logs[0], "flood") as flooding:
        flood = subprocess.Popen(["yes"], stdout=flooding)
        before = keeper.memory()
        try:
            with following(keeper, logs[1], "quiet") as quiet:
                for number in range(50):
                    os.write(quiet, b"%d\n" % number)
                    began = time.monotonic()
                    flush(keeper, "quiet")
                    assert time.monotonic() - began < 1
                    assert read(logs[1])[-1].text == str(number)
            flush(keeper, "flood")
            assert keeper.memory() - before < 4 << 20
        finally:
            flood.kill()
            flood.wait()


def test_a_full_disk_costs_lines_but_not_the_keeper(log: Path):
    """The size a file may have stands in for the disk."""
    with inside("logs", "ulimit -f 200; trap '' XFSZ") as small, following(small, log) as service:
        for number in range(40):
            os.write(service, b"%d" % number * 10_000 + b"\n")
            flush(small)
        lines = read(log)
        assert [line.text for line in lines] == [str(number) * 10_000 for number in range(len(lines))]
        assert 5 <= len(lines) < 40


def test_nothing_stays_open_when_services_have_ended(keeper: Inside, log: Path):
    before = keeper.descriptors()
    for _ in range(5):
        with following(keeper, log) as service:
            os.write(service, b"x")
    until = time.monotonic() + 5
    while keeper.descriptors() != before and time.monotonic() < until:
        time.sleep(0.01)
    assert keeper.descriptors() == before


# Reading


def test_a_line_has_the_time_of_the_chunk_it_begins_in(log: Path):
    write(log, [(1, b"a\nb"), (2, b"c"), (3, b"d\r\ne\n"), (4, b"f")])
    assert read(log) == [LogLine(1, "a"), LogLine(1, "bcd"), LogLine(3, "e"), LogLine(4, "f")]


@pytest.mark.parametrize("since", [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5])
def test_lines_since_a_moment_are_those_that_began_then(log: Path, since: float):
    write(log, [(1, b"a\nb"), (2, b"c")])
    write(log, [(3, b"d\ne\n"), (4, b"f\n")], segment=2)
    everything = [LogLine(1, "a"), LogLine(1, "bcd"), LogLine(3, "e"), LogLine(4, "f")]
    assert read(log) == everything
    assert read(log, since) == [line for line in everything if line.at >= since]


def test_characters_across_chunks_are_whole_and_others_replaced(log: Path):
    write(log, [(1, b"\xe2\x82"), (2, b"\xac\n\xff\n")])
    assert read(log) == [LogLine(1, "€"), LogLine(2, "\ufffd")]


def test_segments_are_in_the_order_of_their_numbers(log: Path):
    for number in (9, 10, 11):
        write(log, [(number, b"%d\n" % number)], segment=number)
    assert [line.text for line in read(log)] == ["9", "10", "11"]


def test_a_chunk_that_is_just_being_written_is_left_out(log: Path):
    write(log, [(1, b"whole\n"), (2, b"half\n")])
    for cut in (1, 5, 10, 16):
        os.truncate(log / "1", (log / "1").stat().st_size - 1 if cut == 1 else 18 + 12 + 5 - cut)
        assert read(log) == [LogLine(1, "whole")]


def test_an_empty_log_has_no_lines(log: Path):
    assert read(log) == []
    (log / "1").touch()
    assert read(log) == []
    assert read(log, 1.0) == []
    assert read(log / "nothing") == []


@given(
    st.lists(st.lists(st.sampled_from([b"a", b"\n", b"b\nc", b"\r\n", b"d"]), max_size=6), max_size=4),
    st.integers(0, 20),
)
@settings(deadline=None)
def test_reading_since_a_moment_is_reading_all_and_choosing(tmp_path_factory, frames: list[list[bytes]], since: int):
    log = tmp_path_factory.mktemp("log")
    at = 0
    for number, segment in enumerate(frames):
        timed = []
        for data in segment:
            at += 1
            timed.append((float(at), data))
        if timed:
            write(log, timed, segment=number + 1)
    assert read(log, since) == [line for line in read(log) if line.at >= since]


def test_the_newest_lines_of_a_large_log_are_read_quickly(log: Path):
    at = 0.0
    for segment in range(1, SEGMENTS + 1):
        frames = []
        for _ in range(SEGMENT // 112):
            at += 1
            frames.append((at, b"x" * 99 + b"\n"))
        write(log, frames, segment)
    began = time.perf_counter()
    assert len(read(log, at - 9)) == 10
    assert time.perf_counter() - began < 0.5
