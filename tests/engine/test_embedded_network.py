"""Which bridge each service is on, what bridges take in for others, and what is undone when something fails."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from pytest_enclave.engine.embedded.inside import network as network_module
from pytest_enclave.engine.embedded.inside.ends import Ends
from pytest_enclave.engine.embedded.inside.frames import mac_of
from pytest_enclave.engine.embedded.inside.network import Network


@dataclass
class Kernel:
    """What has been asked of the kernel, and what there is by now."""

    bridges: dict[str, bytes] = field(default_factory=dict)
    masters: dict[str, str] = field(default_factory=dict)
    taken_in: set[tuple[str, str]] = field(default_factory=set)
    routes: dict[str, str] = field(default_factory=dict)
    down: list[str] = field(default_factory=list)
    refused: dict[str, OSError] = field(default_factory=dict)


class Links:
    """Netlink, for such a kernel."""

    kernel: Kernel

    def __enter__(self) -> Links:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @contextmanager
    def together(self) -> Iterator[None]:
        yield

    def _name(self, number: int) -> str:
        return list(self.kernel.bridges)[number - 1]

    def bridge(self, name: str, mac: bytes) -> None:
        assert name not in self.kernel.bridges
        if name in self.kernel.refused:
            raise self.kernel.refused[name]
        self.kernel.bridges[name] = mac

    def index(self, name: str) -> int:
        return list(self.kernel.bridges).index(name) + 1

    def up(self, name: str) -> None:
        pass

    def down(self, name: str) -> None:
        self.kernel.down.append(name)

    def address(self, name: str, ip: str, prefix: int) -> None:
        assert (name, ip, prefix) == ("br0", "10.77.0.1", 16)

    def join(self, name: str, master: int) -> None:
        if name in self.kernel.refused:
            raise self.kernel.refused[name]
        self.kernel.masters[name] = self._name(master)

    def take_in(self, bridge: int, mac: bytes) -> None:
        entry = self._name(bridge), mac.hex()
        assert entry not in self.kernel.taken_in
        self.kernel.taken_in.add(entry)

    def take_in_no_more(self, bridge: int, mac: bytes) -> None:
        self.kernel.taken_in.remove((self._name(bridge), mac.hex()))

    def route(self, ip: str, link: int, source: str) -> None:
        assert source == "10.77.0.1"
        self.kernel.routes[ip] = self._name(link)

    def route_no_more(self, ip: str, link: int, source: str) -> None:
        assert self.kernel.routes.pop(ip) == self._name(link)


@dataclass
class Member:
    """A service, as the network knows it."""

    name: str
    address: str
    link: str


class Shaper:
    """The channel to one that does as it is told, or not."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any] | None] = []

    def send(self, message: dict[str, Any]) -> None:
        self.told.append(message)

    def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        answer = self.answers.pop(0) if self.answers else {}
        return None if answer is None else (answer, [])

    def close(self) -> None:
        self.told.append({"do": "close"})


class Bench:
    """A network of three services, `a`, `b` and `c`, whose kernel and shaper are only recorded."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.shaper = Shaper()
        self.losses = 0
        self.network = Network(None, Ends(), self._lost)  # type: ignore[arg-type]
        self.members = {name: Member(name, f"10.77.0.{number}", f"s{name}") for number, name in enumerate("abc", 2)}
        for member in self.members.values():
            self.network.admit(member)  # type: ignore[arg-type]
            kernel.masters[member.link] = self.network.join(member)  # type: ignore[arg-type]

    def _lost(self) -> None:
        self.losses += 1

    def begin(self) -> None:
        self.network._shaper = self.shaper  # type: ignore[assignment]

    def taken_in(self, *entries: str) -> set[tuple[str, str]]:
        """`br0 c`: what is for `c`."""
        pairs = (entry.split() for entry in entries)
        return {(bridge, mac_of(self.members[name].address).hex()) for bridge, name in pairs}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    kernel = Kernel()
    monkeypatch.setattr(Links, "kernel", kernel, raising=False)
    monkeypatch.setattr(network_module, "Netlink", Links)
    bench = Bench(kernel)
    monkeypatch.setattr(Network, "_begin_shaper", lambda _: bench.begin())
    monkeypatch.setattr(network_module.os, "kill", lambda *_: None)
    return bench


def apart(one: str, other: str) -> list[Any]:
    return [one, other, 100.0, 0.0, 0.0, 0.0]


def test_at_first_all_are_on_one_bridge_and_nothing_else_is_made(bench: Bench):
    assert bench.kernel.masters == {"sa": "br0", "sb": "br0", "sc": "br0"}
    assert list(bench.kernel.bridges) == ["br0"]
    assert (bench.kernel.taken_in, bench.kernel.routes, bench.shaper.told) == (set(), {}, [])
    assert bench.network.told() == {}


def test_each_group_has_a_bridge_that_takes_in_what_is_for_others(bench: Bench):
    bench.network.shape([apart("a", "c"), apart("b", "c")], 7)
    assert bench.kernel.masters == {"sa": "br0", "sb": "br0", "sc": "br1"}
    assert len(set(bench.kernel.bridges.values())) == 1
    assert bench.kernel.taken_in == bench.taken_in("br0 c", "br1 a", "br1 b")
    assert bench.kernel.routes == {"10.77.0.4": "br1"}
    told, then = bench.shaper.told
    assert then == {"do": "moved", "groups": 2}
    assert told == {
        "do": "shape",
        "seed": 7,
        "groups": 2,
        "services": {"a": ["10.77.0.2", 0, True], "b": ["10.77.0.3", 0, True], "c": ["10.77.0.4", 1, True]},
        "connections": [apart("a", "c"), apart("b", "c")],
    }
    assert bench.network.told() == {"connections": [apart("a", "c"), apart("b", "c")], "seed": 7}


def test_without_connections_all_is_as_at_first(bench: Bench):
    bench.network.shape([apart("a", "c"), apart("b", "c")], 7)
    bench.network.shape([], 7)
    assert bench.kernel.masters == {"sa": "br0", "sb": "br0", "sc": "br0"}
    assert (bench.kernel.taken_in, bench.kernel.routes, bench.network.told()) == (set(), {}, {})
    assert [each["do"] for each in bench.shaper.told] == ["shape", "moved", "shape", "end", "close"]
    bench.network.shape([], 8)
    assert len(bench.shaper.told) == 5


def test_what_is_held_up_goes_on_when_all_are_together_again(bench: Bench):
    bench.network.shape([apart("a", "c"), apart("b", "c")], 7)
    first = bench.shaper.told[0]
    places: list[dict[str, str]] = []
    send = bench.shaper.send

    def look(message: dict[str, Any]) -> None:
        places.append(dict(bench.kernel.masters))
        send(message)

    bench.shaper.send = look  # type: ignore[method-assign]
    bench.network.shape([], 8)
    _, _, meanwhile, end, _ = bench.shaper.told
    together = {name: [service[0], 0, True] for name, service in first["services"].items()}
    assert meanwhile == {**first, "services": together}
    assert end == {"do": "end"}
    assert [each["sc"] for each in places] == ["br1", "br0"]


def test_groups_change_while_connections_do(bench: Bench):
    bench.network.shape([apart("a", "c"), apart("b", "c")], 7)
    bench.network.shape([apart("a", "b"), apart("a", "c")], 7)
    assert bench.kernel.masters == {"sa": "br1", "sb": "br0", "sc": "br0"}
    assert bench.kernel.taken_in == bench.taken_in("br1 b", "br1 c", "br0 a")
    assert bench.kernel.routes == {"10.77.0.2": "br1"}
    bench.network.shape([apart("a", "b"), apart("b", "c"), apart("c", "a")], 7)
    assert sorted(bench.kernel.masters.values()) == ["br0", "br1", "br2"]
    assert len(bench.kernel.taken_in) == 6
    bench.network.shape([apart("a", "b"), apart("a", "c")], 7)
    assert bench.kernel.taken_in == bench.taken_in("br1 b", "br1 c", "br0 a")


def test_a_newcomer_is_taken_in_everywhere_else_and_joins_its_groups_bridge(bench: Bench):
    bench.network.shape([apart("a", "c"), apart("b", "c"), apart("late", "a"), apart("late", "b")], 7)
    bench.members["late"] = late = Member("late", "10.77.0.5", "")
    bench.network.admit(late)  # type: ignore[arg-type]
    assert bench.shaper.told[-1] == {"do": "service", "name": "late", "service": ["10.77.0.5", 1, False]}
    assert ("br0", mac_of("10.77.0.5").hex()) in bench.kernel.taken_in
    assert ("br1", mac_of("10.77.0.5").hex()) not in bench.kernel.taken_in
    assert bench.kernel.routes["10.77.0.5"] == "br1"
    assert bench.network.join(late) == "br1"  # type: ignore[arg-type]
    assert bench.shaper.told[-1] == {"do": "service", "name": "late", "service": ["10.77.0.5", 1, True]}


def test_a_service_that_has_ended_is_found_no_more(bench: Bench):
    bench.network.shape([apart("a", "c")], 7)
    bench.network.leave(bench.members["c"], "sc")  # type: ignore[arg-type]
    assert bench.kernel.down == ["sc"]
    assert bench.shaper.told[-1]["service"][2] is False


def test_a_link_that_is_gone_meanwhile_is_no_failure(bench: Bench):
    bench.kernel.refused["sc"] = OSError(errno.ENODEV, "No such device")
    bench.members["b"].link = ""
    bench.network.shape([apart("a", "c"), apart("a", "b"), apart("b", "c")], 7)
    assert bench.network.told()["seed"] == 7


FORMER = [apart("a", "c"), apart("b", "c")]


@pytest.mark.parametrize("former", [[], FORMER])
@pytest.mark.parametrize("what", ["sb", "br2"])
def test_what_fails_is_undone(bench: Bench, former: list[Any], what: str):
    bench.network.shape(former, 1)
    before = (dict(bench.kernel.masters), set(bench.kernel.taken_in), dict(bench.kernel.routes), bench.network.told())
    bench.kernel.refused[what] = OSError(errno.ENOMEM, "Cannot allocate memory", what)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        bench.network.shape([apart("a", "b"), apart("b", "c"), apart("c", "a")], 2)
    after = (bench.kernel.masters, bench.kernel.taken_in, bench.kernel.routes, bench.network.told())
    assert after == before
    bench.kernel.refused.clear()
    bench.network.shape([apart("a", "b")], 2)
    assert bench.kernel.masters["sa"] != bench.kernel.masters["sb"]


def test_a_shaper_that_cannot_is_told_and_nothing_changes(bench: Bench):
    bench.shaper.answers = [{"error": "too many open files"}]
    with pytest.raises(OSError, match="too many open files"):
        bench.network.shape([apart("a", "c")], 1)
    assert bench.kernel.masters == {"sa": "br0", "sb": "br0", "sc": "br0"}
    assert bench.network.told() == {}
    assert bench.losses == 0


def test_a_shaper_that_has_ended_is_told_and_all_goes_back(bench: Bench):
    bench.network.shape(FORMER, 1)
    bench.shaper.answers = [None]
    words = "the process that shapes connections has ended; until now, packets between services did not pass"
    with pytest.raises(OSError, match=words):
        bench.network.shape([apart("a", "b")], 1)
    assert bench.kernel.masters == {"sa": "br0", "sb": "br0", "sc": "br0"}
    assert (bench.network.told(), bench.losses) == ({}, 1)
    bench.network.shape(FORMER, 1)
    assert bench.network.told()["connections"] == FORMER


def test_the_end_of_a_shaper_is_known_until_connections_are_said_again(bench: Bench):
    bench.network.shape(FORMER, 1)
    bench.network._process = 77
    bench.network._ended(76, 9)
    assert "connections" in bench.network.told()
    bench.network._ended(77, 9)
    words = (
        "the process that shapes connections was killed by signal 9; until now, packets between services did not pass"
    )
    assert bench.network.told() == {"error": words}
    assert bench.kernel.masters["sc"] == "br1"
    with pytest.raises(OSError, match=words):
        bench.network.shape([], 1)
    assert bench.network.told() == {}
