"""Faults as texts: what each means, and what is told of those that mean nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_enclave.enclave.fault import Fault, delayed, lossy
from pytest_enclave.enclave.fault_texts import KINDS, WrongFault, parse
from pytest_enclave.plan.connections import BLOCKED


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("kill:db", Fault("kill", (("db",),))),
        ("stop:db,cache", Fault("stop", (("db", "cache"),))),
        ("pause:a-1", Fault("pause", (("a-1",),))),
        ("partition:api|db", Fault("partition", (("api",), ("db",)))),
        ("partition:a,b|c|d", Fault("partition", (("a", "b"), ("c",), ("d",)))),
        ("partition:a>b>c", Fault("partition", (("a",), ("b",), ("c",)), BLOCKED, one_way=True)),
        ("block:a>b", Fault("block", (("a",), ("b",)), BLOCKED, one_way=True)),
        ("delay:api|db:200ms", Fault("delay", (("api",), ("db",)), delayed(200))),
        ("delay:api>db:1.5s", Fault("delay", (("api",), ("db",)), delayed(1500), one_way=True)),
        ("delay:api|db:0.2s+-20ms", Fault("delay", (("api",), ("db",)), delayed(200, 20))),
        ("loss:api|db,cache:30%", Fault("loss", (("api",), ("db", "cache")), lossy(30))),
        ("loss:api|db:0.5%", Fault("loss", (("api",), ("db",)), lossy(0.5))),
    ],
)
def test_what_texts_mean(text: str, fault: Fault):
    assert parse(text) == fault


names = st.from_regex(r"[a-z]([a-z0-9-]{0,5}[a-z0-9])?", fullmatch=True)
numbers = st.integers(0, 9999).map(lambda tenths: tenths / 10)


@st.composite
def faults(draw: st.DrawFn) -> Fault:
    kind = draw(st.sampled_from(KINDS))
    known = draw(st.lists(names, min_size=4, max_size=4, unique=True))
    if kind in ("kill", "stop", "pause"):
        return Fault(kind, (tuple(known[: draw(st.integers(1, 4))]),))
    groups = [known[:1], known[1:3], known[3:]][: 3 if kind == "partition" and draw(st.booleans()) else 2]
    between = BLOCKED
    if kind == "delay":
        between = delayed(draw(numbers), draw(numbers))
    elif kind == "loss":
        between = lossy(draw(numbers) % 100)
    return Fault(kind, tuple(map(tuple, groups)), between, one_way=draw(st.booleans()))


@given(faults())
def test_a_fault_is_written_as_it_is_read(fault: Fault):
    assert str(parse(str(fault))) == str(fault)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ["", "^ there is no fault ``", "help: there are partition, delay, loss, block, kill, stop, pause"]),
        ("part:a|b", ["part:a|b", "^ there is no fault `part`", "help: did you mean `partition`?"]),
        ("kill", ["kill", "    ^ what it is about is missing", "help: write it as `kill:db`"]),
        ("kill:", ["kill:", "     ^ a service is missing", "help: write it as `kill:db`"]),
        ("kill:db,", ["kill:db,", "        ^ a service is missing", "help: write it as `kill:db`"]),
        ("kill:db|api", ["kill:db|api", "     ^ `db|api` is no service's name", "help: write it as `kill:db`"]),
        ("stop:my db", ["stop:my db", "     ^ `my db` is no service's name", "help: write it as `stop:db`"]),
        ("block:api", ["block:api", "         ^ the other side is missing", "help: write it as `block:api|db`"]),
        ("block:api|", ["block:api|", "          ^ a service is missing", "help: write it as `block:api|db`"]),
        (
            "block:a|b|c",
            [
                "block:a|b|c",
                "         ^ a block has two sides; several services on one are separated by `,`",
                "help: write it as `block:api|db`",
            ],
        ),
        (
            "partition:a|b>c",
            [
                "partition:a|b>c",
                "             ^ `|` is for both directions, `>` for one: not both",
                "help: write it as `partition:api,worker|db`",
            ],
        ),
        (
            "partition:a,b|b",
            ["partition:a,b|b", "          ^ `b` is on both sides", "help: write it as `partition:api,worker|db`"],
        ),
        (
            "block:a|b:3",
            ["block:a|b:3", "         ^ a block has no amount", "help: write it as `block:api|db`"],
        ),
        (
            "delay:a|b",
            [
                "delay:a|b",
                "         ^ a delay ends with a time, as `200ms` or `0.2s+-20ms`",
                "help: write it as `delay:api|db:200ms`",
            ],
        ),
        (
            "loss:a|b:101%",
            [
                "loss:a|b:101%",
                "         ^ a loss ends with a percentage of at most 100, as `30%`",
                "help: write it as `loss:api|db:30%`",
            ],
        ),
    ],
)
def test_what_is_wrong_is_told_at_its_place(text: str, told: list[str]):
    with pytest.raises(WrongFault) as caught:
        parse(text)
    assert [line.removeprefix("    ") for line in caught.value.lines()] == told


def wrong(text: str) -> WrongFault | None:
    """What is told of a text; None for a fault."""
    try:
        assert parse(text).services
    except WrongFault as error:
        return error
    return None


@given(st.text(st.sampled_from("kil:dbpause|>,m%s+-1.9 delayoss"), max_size=30))
def test_every_text_is_a_fault_or_is_told_what_is_wrong(text: str):
    told = wrong(text)
    assert told is None or (0 <= told.at <= len(text) and told.reason and told.remedy)


@given(st.sampled_from(KINDS), st.text(st.sampled_from("ab,|>:12msS%+-. é²"), max_size=20))
def test_so_is_what_begins_well(kind: str, rest: str):
    told = wrong(f"{kind}:{rest}")
    assert told is None or len(kind) < told.at <= len(kind) + 1 + len(rest)


def test_a_number_is_not_longer_than_one_can_read():
    assert wrong(f"delay:a|b:{'9' * 400}ms") is not None
    assert wrong(f"loss:a|b:{'0' * 400}%") is not None
