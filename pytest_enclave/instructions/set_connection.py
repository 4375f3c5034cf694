"""`plan.set_connection(subnetworks, config)`: what is between two subnetworks, or by default (behaviour.md §1.14).

The run itself tells the engine: all that is between services follows from the footprints (`run/network.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_enclave.errors import Problem
from pytest_enclave.instructions.protocol import Context, Defaults, Result
from pytest_enclave.instructions.service_checks import problem
from pytest_enclave.plan import checks
from pytest_enclave.plan.config_types import SUBNETWORK
from pytest_enclave.plan.connections import Connection
from pytest_enclave.plan.footprint import Footprint, Replay, Wiring
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.world import World

PAIR = checks.tuple_of(SUBNETWORK, 2, "a tuple of the names of two subnetworks")


class SetConnection(Defaults):
    """Overrides the default connection between two subnetworks, or without any changes the default one."""

    name = "set_connection"
    parameters = (
        Parameter("subnetworks", PAIR),
        Parameter("config", checks.instance("ConnectionConfig"), required=True),
    )

    def footprint(self, call: Instruction) -> Footprint:
        """Settles the connection; another one for the same subnetworks takes its place."""
        between = frozenset(call.get("subnetworks")) if "subnetworks" in call.arguments else None
        return Footprint(Replay.REPLACE, wiring=Wiring(between, Connection.of(call.get("config"))))

    def check(self, call: Instruction, world: World) -> tuple[World, Sequence[Problem]]:
        """Two subnetworks are meant."""
        return world, pair_problems(call)

    def execute(self, call: Instruction, context: Context) -> Result:
        """It is so already."""
        pair = call.get("subnetworks")
        which = "the default connection" if pair is None else connection_between(*pair)
        return Result(f"{which}: {Connection.of(call.get('config'))}")


def connection_between(one: str, other: str) -> str:
    """The connection of two subnetworks, in words."""
    return f"the connection between subnetworks `{one}` and `{other}`"


def pair_problems(call: Instruction) -> list[Problem]:
    """A warning where both names are the same: Kurtosis takes that, and nothing happens (behaviour.md §8)."""
    pair = call.get("subnetworks")
    if pair is None or len(set(pair)) > 1:
        return []
    text = f"this has no effect: both subnetworks are `{pair[0]}`, and inside of one nothing is ever in the way"
    return [problem(call, "", text, "name two different subnetworks", "warning")]
