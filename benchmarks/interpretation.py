"""From source to plan: small packages, and whether large plans take time in proportion."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.measurement import Goal, Row, timings
from pytest_enclave.instructions.registry import Registry
from pytest_enclave.package.package import Source
from pytest_enclave.run.interpretation import Interpretations, PackageLike, Request

ROUNDS = 5

SHOP = Path(__file__).parent.parent / "example_packages" / "shop"

TRIVIAL = "def run(plan):\n    plan.print('hello')\n"

ABOVE_LINEAR = 1.2
"""How much more than ten times as long ten times as many instructions may take."""


def many_services(count: int, prefix: str = "service") -> str:
    """A package that adds so many services, one after the other."""
    return (
        "def run(plan):\n"
        f"    for number in range({count}):\n"
        f'        plan.add_service(name = "{prefix}-{{}}".format(number), config = ServiceConfig(\n'
        '            image = "busybox", cmd = ["sleep", str(number)], env_vars = {"NUMBER": str(number)},\n'
        '            ports = {"http": PortSpec(number = 80)}))\n'
    )


def measure(rounds: int) -> Iterator[Row]:
    """Interpretation alone, without the memory that a session has."""
    packages: dict[str, PackageLike] = {
        "a trivial package": Source(TRIVIAL),
        "example_packages/shop": SHOP,
        "1,000 × add_service": Source(many_services(1_000)),
        "10,000 × add_service": Source(many_services(10_000)),
    }
    types = Registry()
    taken = timings({name: partial(_interpret, package, types) for name, package in packages.items()}, rounds)
    *small, thousand, ten_thousand = taken
    for name in (*small, thousand):
        yield Row(name, taken[name])
    ratio = taken[ten_thousand].ratio_to(taken[thousand])
    goal = Goal(f"≤ {ABOVE_LINEAR:g} × linear", ratio / 10, ABOVE_LINEAR)
    yield Row(ten_thousand, taken[ten_thousand], ratio, "1,000", (goal,))


def _interpret(package: PackageLike, types: Registry) -> None:
    Interpretations().interpret(Request.of(package), types)
