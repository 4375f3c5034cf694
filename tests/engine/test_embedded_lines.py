"""The parts of shaping that need no network: groups of services, and what becomes of frames."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.inside import shaper as shaper_module
from pytest_enclave.engine.embedded.inside.frames import mac_of
from pytest_enclave.engine.embedded.inside.grouping import grouped
from pytest_enclave.engine.embedded.inside.shaper import Group, Shaper

OFFLOAD = bytes(10)
EVERYBODY = b"\xff" * 6

# Groups


def test_subnetworks_are_groups_and_the_largest_stays_where_it_is():
    pairs = [(one, other) for one in ("a1", "a2") for other in ("b1", "b2", "b3")]
    assert grouped(pairs) == {"a1": 1, "a2": 1, "b1": 0, "b2": 0, "b3": 0}


def test_a_service_that_is_cut_off_from_one_is_alone():
    assert grouped([("a", "b"), ("c", "b")]) == {"a": 0, "c": 0, "b": 1}
    assert grouped([]) == grouped([("a", "a")]) == {}


def test_one_direction_is_enough_to_be_apart():
    groups = grouped([("b", "a")])
    assert groups["a"] != groups["b"]


NAMES = st.sampled_from("abcdefghij")


@given(st.sets(st.tuples(NAMES, NAMES), max_size=30))
def test_nobody_is_in_a_group_with_whom_he_is_apart_from_and_equals_are_together(pairs: set[tuple[str, str]]):
    apart = {frozenset(pair) for pair in pairs if pair[0] != pair[1]}
    groups = grouped(sorted(pairs))
    assert set(groups) == {name for pair in apart for name in pair}
    assert all(groups[one] != groups[other] for one, other in map(tuple, apart))
    assert set(groups.values()) == set(range(len(set(groups.values()))))
    for one, other in itertools.combinations(groups, 2):
        others = [{name for pair in apart if each in pair for name in pair} - {each} for each in (one, other)]
        if others[0] == others[1]:
            assert groups[one] == groups[other]


# Frames


class Recorded(Group):
    """A group whose frames are kept."""

    def __init__(self, link: str) -> None:
        self.link = link
        self.packets, self._other = socket.socketpair()
        self.packets.setblocking(False)
        self.sent: list[bytes] = []

    def send(self, frame: bytes) -> None:
        self.sent.append(frame)


class Bench:
    """A shaper whose groups are recorded."""

    def __init__(self, shaper: Shaper, control: Channel) -> None:
        self.shaper = shaper
        self.control = control

    def group(self, number: int) -> Recorded:
        found = self.shaper._groups[number]
        assert isinstance(found, Recorded)
        return found

    def shape(self, *connections: tuple, seed: int = 1, absent: str = "") -> None:
        """`a` and `b` are in group 0, `c` in 1, `d` in 2."""
        self.begin_to_move(dict(PLACES), *connections, seed=seed, absent=absent)
        self.shaper.moved(3)

    def begin_to_move(self, places: dict[str, int], *connections: tuple, seed: int = 1, absent: str = "") -> None:
        """Services are going to be in these groups."""
        services = {name: [IPS[name], group, name != absent] for name, group in places.items()}
        self.shaper.shape({"seed": seed, "groups": 3, "services": services, "connections": connections})

    def sent(self) -> list[list[bytes]]:
        """What each group got since this was asked for."""
        found = [list(self.group(number).sent) for number in self.shaper._groups]
        for number in self.shaper._groups:
            self.group(number).sent.clear()
        return found

    def take(self, one: str, frame: bytes, now: float = 0) -> None:
        """A frame comes from a service's group."""
        self.shaper.take(self.group(PLACES[one]), frame, now)


PLACES = {"a": 0, "b": 0, "c": 1, "d": 2}
IPS = {"a": "10.77.0.2", "b": "10.77.0.3", "c": "10.77.0.4", "d": "10.77.1.5"}
MACS = {name: mac_of(ip) for name, ip in IPS.items()}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made: list[Recorded] = []

    def make(link: str) -> Recorded:
        made.append(Recorded(link))
        return made[-1]

    monkeypatch.setattr(shaper_module, "Group", make)
    ours, theirs = socket.socketpair()
    shaper = Shaper(Channel(theirs))
    yield Bench(shaper, Channel(ours))
    for group in made:
        group.packets.close()
        group._other.close()
    shaper._epoll.close()
    ours.close()
    theirs.close()


def frame(one: str, other: str, text: bytes = b"text") -> bytes:
    return OFFLOAD + MACS.get(other, EVERYBODY) + MACS[one] + b"\x08\x00" + text


def who_has(one: str, ip: str, target: bytes = EVERYBODY) -> bytes:
    own = MACS[one] + socket.inet_aton(IPS[one])
    wanted = bytes(6) + socket.inet_aton(ip)
    return OFFLOAD + target + MACS[one] + b"\x08\x06" + b"\0\1\x08\0\6\4\0\1" + own + wanted + bytes(18)


def test_frames_of_a_constant_delay_stay_in_order_and_are_on_time(bench: Bench):
    bench.shape(("a", "c", 0, 100, 0, 0))
    for number in range(50):
        bench.take("a", frame("a", "c", b"%d" % number), now=number // 10)
    bench.shaper.let_go(0.099)
    assert bench.group(1).sent == []
    bench.shaper.let_go(2.1)
    assert bench.group(1).sent == [frame("a", "c", b"%d" % number) for number in range(30)]
    bench.shaper.let_go(4.1)
    assert len(bench.group(1).sent) == 50


def test_between_groups_that_nothing_is_between_frames_pass_at_once(bench: Bench):
    bench.shape(("a", "c", 0, 100, 0, 0))
    bench.take("c", frame("c", "a"))
    bench.take("d", frame("d", "c"))
    assert bench.group(0).sent == [frame("c", "a")]
    assert bench.group(1).sent == [frame("d", "c")]


def test_what_is_blocked_loses_what_is_held_up_already_and_all_else_keeps_its_time(bench: Bench):
    bench.shape(("a", "c", 0, 100, 0, 0), ("a", "d", 0, 100, 0, 0))
    bench.take("a", frame("a", "c"))
    bench.take("a", frame("a", "d"))
    bench.shape(("a", "c", 100, 0, 0, 0))
    bench.take("a", frame("a", "c"))
    assert bench.group(2).sent == []
    bench.shaper.let_go(0.1)
    assert bench.group(1).sent == []
    assert bench.group(2).sent == [frame("a", "d")]


def test_at_the_end_all_that_is_held_up_is_let_go_in_order(bench: Bench):
    bench.shape(("a", "c", 0, 500, 0, 0), ("b", "c", 0, 100, 0, 0))
    bench.take("a", frame("a", "c"))
    bench.take("b", frame("b", "c"))
    bench.control.send({"do": "end"})
    bench.shaper.turn()
    assert bench.group(1).sent == [frame("b", "c"), frame("a", "c")]
    assert bench.control.receive() == ({}, [])


def test_losses_go_on_where_the_same_is_said_and_begin_anew_where_it_is_not(bench: Bench):
    half = ("a", "c", 50, 0, 0, 0)

    def arrived() -> list[int]:
        group = bench.group(1)
        group.sent.clear()
        for number in range(40):
            bench.take("a", frame("a", "c", b"%d" % number))
        return [int(each[24:]) for each in group.sent]

    bench.shape(half)
    first, second = arrived(), arrived()
    bench.shape(half)
    arrived()
    bench.shape(half, ("a", "d", 10, 0, 0, 0))
    third = arrived()
    for other in (("a", "c", 49, 0, 0, 0), ("c", "a", 50, 0, 0, 0)):
        bench.shape(other)
        bench.shape(half)
        assert arrived() == first
    bench.shape(half, seed=2)
    assert arrived() not in (first, second, third)
    bench.shape(half)
    assert arrived() == first
    assert first != second != third


def test_questions_for_addresses_in_other_groups_are_answered_whatever_is_between(bench: Bench):
    bench.shape(("a", "d", 100, 0, 0, 0), ("d", "a", 100, 0, 0, 0))
    bench.take("a", who_has("a", IPS["d"]))
    (answer,) = bench.group(0).sent
    told = MACS["d"] + socket.inet_aton(IPS["d"]) + MACS["a"] + socket.inet_aton(IPS["a"])
    assert answer == OFFLOAD + MACS["a"] + MACS["d"] + b"\x08\x06" + b"\0\1\x08\0\6\4\0\2" + told
    bench.take("a", who_has("a", IPS["d"], target=MACS["d"]))
    assert bench.group(0).sent == [answer, answer]
    assert bench.group(2).sent == []


@pytest.mark.parametrize("ip", [IPS["b"], IPS["c"], "10.77.0.1", "10.77.9.9"])
def test_questions_that_others_answer_or_nobody_can_are_left_alone(bench: Bench, ip: str):
    bench.shape(("a", "d", 100, 0, 0, 0), absent="c")
    bench.take("a", who_has("a", ip))
    bench.take("a", who_has("a", ip)[:40])
    assert [bench.group(number).sent for number in range(3)] == [[], [], []]


def test_a_service_is_found_as_soon_as_it_is_there(bench: Bench):
    bench.shape(("a", "d", 100, 0, 0, 0), absent="c")
    bench.control.send({"do": "service", "name": "c", "service": [IPS["c"], 1, True]})
    bench.shaper.turn()
    bench.take("a", who_has("a", IPS["c"]))
    assert len(bench.group(0).sent) == 1


def test_a_service_that_is_new_has_its_connections(bench: Bench):
    bench.shape(("a", "e", 0, 100, 0, 0), ("d", "c", 10, 0, 0, 0))
    bench.control.send({"do": "service", "name": "e", "service": ["10.77.0.9", 2, True]})
    bench.shaper.turn()
    late = OFFLOAD + mac_of("10.77.0.9") + MACS["a"] + b"\x08\x00late"
    bench.take("a", late)
    assert bench.group(2).sent == []
    bench.shaper.let_go(0.1)
    assert bench.group(2).sent == [late]


def test_while_services_move_each_is_looked_for_where_it_was_and_where_it_will_be(bench: Bench):
    line = ("a", "d", 0, 100, 0, 0)
    bench.shape(line)
    bench.begin_to_move({"a": 1, "b": 0, "c": 1, "d": 0}, line)
    bench.take("c", frame("c", "a"))
    bench.take("d", frame("d", "b"))
    bench.take("a", frame("a", "d"))
    assert bench.sent() == [[frame("c", "a"), frame("d", "b")], [frame("c", "a")], []]
    bench.shaper.let_go(0.1)
    assert bench.sent() == [[frame("a", "d")], [], [frame("a", "d")]]
    bench.take("a", frame("a", "d"))
    bench.shaper.moved(2)
    bench.shaper.let_go(0.1)
    bench.shaper.take(bench.group(0), frame("a", "d"), 0)
    assert bench.sent() == [[frame("a", "d")], []]


@pytest.mark.parametrize("heard", [0, 1, 2])
def test_while_services_move_every_question_is_answered_wherever_the_asker_is_by_now(bench: Bench, heard: int):
    bench.shape(("a", "d", 100, 0, 0, 0))
    bench.begin_to_move(dict.fromkeys(IPS, 0), ("a", "d", 100, 0, 0, 0))
    bench.shaper.take(bench.group(heard), who_has("c", IPS["d"]), 0)
    [to_be], [was], nothing = bench.sent()
    assert to_be == was
    assert to_be[10:22] == MACS["c"] + MACS["d"]
    assert nothing == []
    bench.shaper.take(bench.group(0), who_has("a", IPS["b"]), 0)
    assert [len(each) for each in bench.sent()] == [1, 0, 0]


@pytest.mark.parametrize("end", [{"do": "end"}, {"do": "moved", "groups": 1}])
def test_what_was_asked_while_services_moved_is_answered_before_that_is_over(bench: Bench, end: dict):
    bench.shape(("a", "d", 100, 0, 0, 0))
    bench.begin_to_move(dict.fromkeys(IPS, 0), ("a", "d", 100, 0, 0, 0))
    asked, answers = bench.group(2), bench.group(0).sent
    asked._other.send(who_has("d", IPS["a"]))
    bench.control.send(end)
    # Even where this is what it looks at first.
    bench.shaper._told()
    assert len(answers) == 1


def test_what_goes_to_several_reaches_each_as_it_is_said(bench: Bench):
    bench.shape(("a", "c", 0, 100, 0, 0), ("a", "d", 100, 0, 0, 0))
    bench.take("a", frame("a", "everybody"))
    bench.take("c", frame("c", "everybody"))
    assert bench.group(1).sent == []
    assert bench.group(0).sent == [frame("c", "a"), frame("c", "b")]
    assert bench.group(2).sent == [frame("c", "d")]
    bench.shaper.let_go(0.1)
    assert bench.group(1).sent == [frame("a", "c")]


def test_frames_from_nobody_to_nobody_and_inside_a_group_are_left_alone(bench: Bench):
    bench.shape(("a", "c", 0, 100, 0, 0))
    bench.take("d", frame("a", "c"))
    bench.take("a", frame("a", "b"))
    bench.take("a", OFFLOAD + b"\x02" * 6 + MACS["a"] + b"\x08\x00")
    bench.take("a", OFFLOAD + MACS["c"] + b"\x02" * 6 + b"\x08\x00")
    bench.take("a", OFFLOAD)
    bench.shaper.let_go(10)
    assert [bench.group(number).sent for number in range(3)] == [[], [], []]


def test_what_is_held_up_has_a_limit(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shaper_module, "MOST_HELD", 3 * len(frame("a", "c")))
    bench.shape(("a", "c", 0, 100, 0, 0))
    for _ in range(5):
        bench.take("a", frame("a", "c"))
    bench.shaper.let_go(1)
    bench.take("a", frame("a", "c"), now=1)
    bench.shaper.let_go(2)
    assert len(bench.group(1).sent) == 4


def test_a_bridge_that_cannot_be_listened_at_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    def fail(link: str) -> Group:
        raise OSError(19, "No such device", link)

    monkeypatch.setattr(shaper_module, "Group", fail)
    bench.control.send({"do": "shape", "seed": 1, "groups": 2, "services": {}, "connections": []})
    bench.shaper.turn()
    received = bench.control.receive()
    assert received is not None
    assert "No such device: 'br" in received[0]["error"]


def test_without_anybody_who_talks_to_it_it_ends(bench: Bench):
    bench.control.hang_up()
    with pytest.raises(EOFError):
        bench.shaper.turn()
