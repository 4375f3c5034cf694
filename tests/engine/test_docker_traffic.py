"""Which packets are held, and what becomes of them when something else is said meanwhile: without any packets."""

from __future__ import annotations

import socket
from collections.abc import Iterable

import pytest

from pytest_enclave.engine.docker.shaper.traffic import Ends, Traffic
from pytest_enclave.linux.fates import LOST, Fates, Figures
from pytest_enclave.linux.netfilter import OUTPUT, PREROUTING
from pytest_enclave.linux.packet_queue import Held

ADDRESSES = {name: socket.inet_aton(f"10.0.0.{number}") for number, name in enumerate("abc", 1)}
ADDRESSES["everybody"] = socket.inet_aton("10.0.0.255")


class Queue:
    """Stands for a queue of the kernel."""

    def __init__(self) -> None:
        self.coming: list[Held] = []
        self.passed: list[int] = []
        self.lost: list[int] = []

    def arrived(self) -> list[Held]:
        found, self.coming = self.coming, []
        return found

    def decide(self, numbers: Iterable[int], *, passes: bool) -> None:
        (self.passed if passes else self.lost).extend(numbers)


class Place:
    """Stands for the network namespace of a service."""

    def __init__(self, name: str) -> None:
        self.packed = ADDRESSES[name]
        self.queue = Queue()

    def comes(self, *numbers: int, ends: Ends = ("a", "b"), hook: int = PREROUTING) -> None:
        sender, receiver = ends
        self.queue.coming += [Held(number, hook, ADDRESSES[sender], ADDRESSES[receiver]) for number in numbers]

    @property
    def told(self) -> tuple[list[int], list[int]]:
        return self.queue.passed, self.queue.lost


class World:
    """Traffic, and the service `b` that it comes to, at a time that the test says."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self.place = Place("b")

    def shape(self, figures: dict[Ends, Figures], seed: int = 1) -> None:
        self.traffic.shape(figures, seed, ADDRESSES)

    def take(self, now: float, shaped_there: Iterable[str] = (), place: Place | None = None) -> None:
        self.traffic.take(place or self.place, now, {ADDRESSES[name] for name in shaped_there})  # type: ignore[arg-type]


@pytest.fixture
def world() -> World:
    return World()


def delay(milliseconds: float) -> Figures:
    return Figures(0, milliseconds, 0, 0)


BLOCKED = Figures(100, 0, 0, 0)


def test_what_was_not_named_passes(world: World) -> None:
    world.shape({("a", "b"): BLOCKED})
    world.place.comes(1, ends=("b", "a"))
    world.place.comes(2, ends=("c", "b"))
    world.take(0.0)
    assert world.place.told == ([1, 2], [])


def test_a_packet_goes_on_when_its_time_has_come(world: World) -> None:
    world.shape({("a", "b"): delay(100)})
    world.place.comes(1)
    world.take(5.0)
    world.place.comes(2)
    world.take(5.05)
    assert world.traffic.release(5.09) == pytest.approx(5.1)
    assert world.place.told == ([], [])
    assert world.traffic.release(5.11) == pytest.approx(5.15)
    assert world.place.told == ([1], [])
    assert world.traffic.release(5.2) is None
    assert world.place.told == ([1, 2], [])


def test_packets_of_the_same_time_keep_their_order(world: World) -> None:
    world.shape({("a", "b"): delay(100)})
    world.place.comes(*range(50))
    world.take(0.0)
    world.traffic.release(1.0)
    assert world.place.told == (list(range(50)), [])


def test_what_is_held_is_lost_when_its_way_is_blocked(world: World) -> None:
    world.shape({("a", "b"): delay(100), ("a", "c"): delay(100)})
    other = Place("c")
    world.place.comes(1)
    world.take(0.0)
    other.comes(2, ends=("a", "c"))
    world.take(0.0, place=other)
    world.shape({("a", "b"): BLOCKED, ("a", "c"): delay(100)})
    world.traffic.release(1.0)
    assert world.place.told == ([], [1])
    assert other.told == ([2], [])


def test_what_goes_to_several_travels_as_is_said_and_shifts_no_losses(world: World) -> None:
    world.shape({("a", "b"): BLOCKED})
    world.place.comes(1, ends=("a", "everybody"))
    world.place.comes(2, ends=("c", "everybody"))
    world.take(0.0)
    assert world.place.told == ([2], [1])
    world.shape({("a", "b"): Figures(50)})
    for number in range(100, 200):
        world.place.comes(number)
        world.place.comes(number + 1000, ends=("a", "everybody"))
    world.take(0.0)
    fates = Fates(1, "a", "b", Figures(50))
    lost = [number for number in world.place.queue.lost if number < 1000]
    assert lost == [1, *(number for number in range(100, 200) if fates.next() == LOST)]
    assert 30 < len(world.place.queue.lost) - len(lost) < 70


def test_what_is_held_goes_on_at_once_when_nothing_is_between_any_more(world: World) -> None:
    world.shape({("a", "b"): delay(100)})
    world.place.comes(1, 2)
    world.take(0.0)
    world.shape({})
    assert world.place.told == ([1, 2], [])
    assert world.traffic.release(1.0) is None


def test_what_is_held_keeps_its_time_when_the_delay_changes(world: World) -> None:
    world.shape({("a", "b"): delay(100)})
    world.place.comes(1)
    world.take(0.0)
    world.shape({("a", "b"): delay(500)})
    world.place.comes(2)
    world.take(0.0)
    assert world.traffic.release(0.2) == pytest.approx(0.5)
    assert world.place.told == ([1], [])


def test_a_way_that_is_said_again_goes_on_and_another_begins_anew(world: World) -> None:
    figures = {("a", "b"): Figures(50, 0, 0, 0)}

    def lost() -> list[int]:
        world.place.queue.lost.clear()
        world.place.comes(*range(100))
        world.take(0.0)
        return list(world.place.queue.lost)

    world.shape(figures)
    first = lost()
    world.shape({**figures, ("a", "c"): delay(1)})
    second = lost()
    world.shape(figures, seed=2)
    other = lost()
    world.shape(figures)
    assert second != first
    assert other != first
    assert lost() == first


def test_what_leaves_for_a_service_that_is_shaped_there_is_not_held_twice(world: World) -> None:
    world.shape({("a", "b"): delay(100)})
    world.place.comes(1, hook=OUTPUT)
    world.take(0.0, ["b"])
    world.place.comes(2, hook=OUTPUT)
    world.take(0.0)
    assert world.place.told == ([1], [])
    world.place.comes(3)
    world.take(0.0)
    world.traffic.let_go(["c"])
    assert world.place.told == ([1], [])
    world.traffic.let_go(["b"])
    assert world.place.told == ([1, 2], [])
    assert world.traffic.release(1.0) is None
    assert world.place.told == ([1, 2, 3], [])


def test_packets_of_a_service_that_has_gone_are_forgotten(world: World) -> None:
    world.shape({("a", "b"): delay(100)})
    world.place.comes(1)
    world.take(0.0)
    world.traffic.forget(world.place)  # type: ignore[arg-type]
    assert world.traffic.release(1.0) is None
    assert world.place.told == ([], [])
