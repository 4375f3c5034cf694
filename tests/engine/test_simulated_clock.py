from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_enclave.engine.simulated import EPOCH, VirtualClock

DURATIONS = st.lists(st.integers(min_value=0, max_value=1_000).map(float), max_size=30)


def test_time_starts_at_zero_and_stands_still() -> None:
    clock = VirtualClock()
    assert clock.now() == 0.0
    assert clock.now() == 0.0
    assert clock.wall() == EPOCH


def test_advancing_moves_both_faces_of_the_clock() -> None:
    clock = VirtualClock()
    clock.advance(1.5)
    assert clock.now() == 1.5
    assert clock.wall() == EPOCH + 1.5


def test_time_never_goes_back() -> None:
    clock = VirtualClock()
    clock.advance(2.0)
    clock.advance(-1.0)
    clock.advance_to(1.0)
    assert clock.now() == 2.0


def test_a_long_time_takes_no_time() -> None:
    clock, before = VirtualClock(), time.perf_counter()
    clock.advance(86_400.0)
    assert time.perf_counter() - before < 0.1


def test_items_share_the_lanes_that_the_limit_allows() -> None:
    clock = VirtualClock()
    begun: list[float] = []

    def work(seconds: float) -> float:
        begun.append(clock.now())
        clock.advance(seconds)
        return clock.now()

    assert clock.map(work, [3.0, 1.0, 1.0, 2.0], limit=2) == [3.0, 1.0, 2.0, 4.0]
    assert begun == [0.0, 0.0, 1.0, 2.0]
    assert clock.now() == 4.0


def test_a_map_of_nothing_takes_no_time() -> None:
    clock = VirtualClock()
    clock.advance(1.0)
    assert clock.map(clock.advance, [], limit=4) == []
    assert clock.now() == 1.0


def test_a_map_inside_a_map_starts_at_its_lanes_time() -> None:
    clock = VirtualClock()

    def work(seconds: float) -> None:
        clock.map(clock.advance, [seconds, seconds], limit=2)

    clock.map(work, [1.0, 2.0, 4.0], limit=2)
    assert clock.now() == 5.0


def test_all_items_are_tried_and_the_first_failure_is_raised_at_the_end() -> None:
    clock = VirtualClock()
    tried: list[float] = []

    def work(seconds: float) -> None:
        tried.append(seconds)
        clock.advance(seconds)
        if seconds != 2.0:
            raise ValueError(f"{seconds}")

    with pytest.raises(ValueError, match=r"3\.0"):
        clock.map(work, [3.0, 2.0, 1.0], limit=3)
    assert tried == [3.0, 2.0, 1.0]
    assert clock.now() == 3.0


def test_an_interrupted_map_leaves_its_lane() -> None:
    clock = VirtualClock()

    def work(seconds: float) -> None:
        clock.advance(seconds)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clock.map(work, [3.0], limit=1)
    clock.advance(1.0)
    assert clock.now() == 1.0


def test_other_threads_see_the_time_from_before_a_map_until_it_is_done() -> None:
    clock = VirtualClock()
    seen: list[float] = []

    def work(seconds: float) -> None:
        clock.advance(seconds)
        other = threading.Thread(target=lambda: seen.append(clock.now()))
        other.start()
        other.join()

    clock.map(work, [5.0], limit=1)
    assert seen == [0.0]
    assert clock.now() == 5.0


def test_no_advance_of_any_thread_is_lost() -> None:
    clock = VirtualClock()
    threads = [threading.Thread(target=lambda: [clock.advance(1.0) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.now() == 2000.0


@given(DURATIONS, st.integers(min_value=1, max_value=8))
def test_a_map_lasts_between_its_longest_item_and_the_sum_of_all(durations: list[float], limit: int) -> None:
    clock = VirtualClock()
    clock.map(clock.advance, durations, limit)
    longest, total = max(durations, default=0.0), sum(durations)
    assert max(longest, total / limit) <= clock.now() <= min(total, total / limit + longest)


@given(DURATIONS, st.integers(min_value=1, max_value=8))
def test_a_maps_results_and_times_are_the_same_every_time(durations: list[float], limit: int) -> None:
    def once() -> tuple[list[tuple[int, float]], float]:
        clock = VirtualClock()

        def work(item: tuple[int, float]) -> tuple[int, float]:
            clock.advance(item[1])
            return item[0], clock.now()

        return clock.map(work, enumerate(durations), limit), clock.now()

    results, lasted = once()
    assert [index for index, _ in results] == list(range(len(durations)))
    assert (results, lasted) == once()


@given(st.floats(min_value=0, max_value=1e6), st.floats(min_value=1e-3, max_value=1e6))
def test_pausing_for_what_is_left_ends_at_the_deadline(begun: float, timeout: float) -> None:
    clock = VirtualClock()
    clock.advance(begun)
    deadline = clock.now() + timeout
    while clock.now() < deadline:
        clock.advance(deadline - clock.now())
    assert clock.now() == pytest.approx(deadline, abs=1e-9)
