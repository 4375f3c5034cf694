"""Finding in a large enclave plan what need not run again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks import by_enclave
from benchmarks.interpretation import many_services
from benchmarks.measurement import Goal, Row, timings, within
from pytest_enclave.enclave.enclave import Enclave
from pytest_enclave.package.package import Source

ROUNDS = 5

INSTRUCTIONS = 1_000

GOAL = 500.0
"""Milliseconds for a run that reuses a thousand instructions: half a millisecond each."""

ABOVE_LINEAR = 1.2
"""How much more than three times as long an enclave plan of three times the length may take."""


def measure(rounds: int) -> Iterator[Row]:
    """Whole runs on the simulated engine, of which interpretation is remembered."""
    first, second, third = (many_services(INSTRUCTIONS, name) for name in ("a", "b", "c"))
    alike = _alike(last="a"), _alike(last="b")
    with by_enclave.engine("simulated") as engine, by_enclave.enclaves(engine) as session:
        short = by_enclave.obtain(session, first)
        long = by_enclave.obtain(session, first)
        long.run(Source(second))
        long.run(Source(third))
        prints = by_enclave.obtain(session, alike[0])
        prints.run(Source(alike[1]))
        taken = timings(
            {
                "short": partial(_reuse, short, first),
                "first": partial(_reuse, long, first),
                "last": partial(_reuse, long, third),
                "alike": partial(_reuse, prints, alike[1]),
            },
            rounds,
        )
    yield Row("1,000 of an enclave plan of 1,000", taken["short"], goals=(within(taken["short"], GOAL),))
    for name, title in (("first", "the first"), ("last", "the last")):
        ratio = taken[name].ratio_to(taken["short"])
        goal = Goal(f"≤ {ABOVE_LINEAR:g} × linear", ratio / 3, ABOVE_LINEAR)
        yield Row(f"{title} 1,000 of an enclave plan of 3,000", taken[name], ratio, "1,000", (goal,))
    ratio = taken["alike"].ratio_to(taken["short"])
    yield Row("1,000 equal prints, of which the last differs, among 2,000", taken["alike"], ratio, "1,000")


def _alike(last: str) -> str:
    """The worst for a search: a plan that fits nearly everywhere, and only its end tells."""
    same = f"    for _ in range({INSTRUCTIONS - 1}):\n        plan.print('same')\n"
    return f"def run(plan):\n{same}    plan.print({last!r})\n"


def _reuse(enclave: Enclave, package: str) -> None:
    finished = enclave.run(Source(package))
    if finished.executed:
        raise RuntimeError(f"{finished.executed} instructions were not reused")
