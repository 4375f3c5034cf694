"""Connections between services, as they are said to init and as it tells of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pytest_enclave.plan.connections import Connection, ConnectionMatrix, Delay


def spoken(connections: ConnectionMatrix) -> list[list[Any]]:
    """For init: from whom, to whom, loss, and the delay's mean, deviation and correlation."""
    return [
        [*pair, each.loss, each.delay.mean_ms, each.delay.deviation_ms, each.delay.correlation]
        for pair, each in connections.items()
        if not each.is_perfect
    ]


def heard(connections: Iterable[Sequence[Any]]) -> ConnectionMatrix:
    """What was said."""
    return {(one, other): Connection(loss, Delay(*delay)) for one, other, loss, *delay in connections}
