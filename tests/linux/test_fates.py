"""What becomes of packets: by a seed and two names, and nothing else."""

from __future__ import annotations

import statistics
from itertools import pairwise

import pytest

from pytest_enclave.linux.fates import LOST, Fates, Figures


def of(count: int, seed: int = 1, sender: str = "a", receiver: str = "b", **figures: float) -> list[float]:
    fates = Fates(seed, sender, receiver, Figures(**figures))
    return [fates.next() for _ in range(count)]


def lost(*arguments: object, **figures: float) -> set[int]:
    return {number for number, fate in enumerate(of(*arguments, **figures)) if fate == LOST}  # type: ignore[arg-type]


def milliseconds(**figures: float) -> list[float]:
    return [round(each * 1000, 3) for each in of(4, **figures)]


def test_a_perfect_connection_does_nothing() -> None:
    assert of(100) == [0.0] * 100


def test_a_constant_delay_is_the_same_for_all() -> None:
    assert of(100, mean=250) == [0.25] * 100


@pytest.mark.parametrize("loss", [0.5, 12.5, 30, 99])
def test_as_many_are_lost_as_was_said(loss: float) -> None:
    assert len(lost(20_000, loss=loss)) / 200 == pytest.approx(loss, abs=1)


def test_all_or_nothing_is_lost_without_exception() -> None:
    assert len(lost(1000, loss=100)) == 1000
    assert lost(1000, loss=0) == set()
    assert Fates(1, "a", "b", Figures(100)).is_blocked
    assert not Fates(1, "a", "b", Figures(99.9)).is_blocked


def test_the_sequences_are_these_on_every_engine_and_python() -> None:
    assert sorted(lost(40, loss=30)) == [0, 1, 6, 8, 10, 12, 14, 16, 18, 22, 25, 28, 31, 33, 36, 39]
    assert milliseconds(mean=100, deviation=10) == [111.562, 103.656, 104.183, 102.792]
    assert milliseconds(mean=100, deviation=10, correlation=50) == [
        110.037,
        108.185,
        107.715,
        106.275,
    ]


def test_the_same_are_lost_each_time_and_others_on_other_ways() -> None:
    first = lost(1000, loss=30)
    assert lost(1000, loss=30) == first
    others = [lost(1000, 2, loss=30), lost(1000, 1, "b", "a", loss=30), lost(1000, 1, "a", "c", loss=30)]
    assert first not in others
    assert len({frozenset(each) for each in others}) == 3


def test_what_is_lost_does_not_hang_on_the_delay_and_more_loss_loses_the_same_and_more() -> None:
    some = lost(1000, loss=30)
    assert lost(1000, loss=30, mean=100, deviation=30, correlation=50) == some
    assert some < lost(1000, loss=50)


def test_what_goes_to_several_is_lost_by_a_sequence_of_its_own_and_shifts_nothing() -> None:
    fates = Fates(1, "a", "b", Figures(30, 100, 10))
    found = []
    for _ in range(1000):
        found.append((fates.next() == LOST, fates.next(to_several=True) == LOST))
    assert {number for number, (alone, _) in enumerate(found) if alone} == lost(1000, loss=30)
    several = {number for number, (_, together) in enumerate(found) if together}
    assert 250 < len(several) < 350
    assert several != lost(1000, loss=30)


@pytest.mark.parametrize("correlation", [0, 25, 50, 90])
def test_delays_are_normally_distributed_whatever_their_correlation(correlation: float) -> None:
    found = of(20_000, mean=500, deviation=50, correlation=correlation)
    assert 0.49 < statistics.mean(found) < 0.51
    assert 0.045 < statistics.stdev(found) < 0.055
    within = sum(abs(each - 0.5) < 0.05 for each in found) / len(found)
    assert 0.63 < within < 0.73


@pytest.mark.parametrize("correlation", [0, 25, 50, 90])
def test_a_delay_resembles_the_one_before_as_much_as_was_said(correlation: float) -> None:
    found = of(20_000, mean=500, deviation=50, correlation=correlation)
    mean, variance = statistics.mean(found), statistics.variance(found)
    together = statistics.mean((one - mean) * (other - mean) for one, other in pairwise(found))
    assert abs(together / variance - correlation / 100) < 0.04


def test_all_of_a_delay_that_is_correlated_wholly_is_the_first() -> None:
    assert len(set(of(100, mean=500, deviation=50, correlation=100))) == 1


def test_no_packet_arrives_before_it_was_sent() -> None:
    found = of(1000, mean=10, deviation=100)
    assert min(found) == 0.0
    assert LOST not in found
