"""How packets travel from one service to another (behaviour.md §2.5, §8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from pytest_enclave.plan.values import Struct


class Delay(msgspec.Struct, frozen=True):
    """How long a packet is held up: normally distributed, in milliseconds.

    `correlation`, in percent, is how much of each packet's deviation is that of the packet before.
    """

    mean_ms: float = 0.0
    deviation_ms: float = 0.0
    correlation: float = 0.0

    @classmethod
    def of(cls, struct: Struct) -> Delay:
        """The view of one of the two delay distributions."""
        if struct.kind == "UniformPacketDelayDistribution":
            return cls(float(struct.fields["ms"]))
        return cls(
            float(struct.fields["mean_ms"]), float(struct.fields["std_dev_ms"]), float(struct.get("correlation", 0))
        )


class Connection(msgspec.Struct, frozen=True):
    """What happens to packets in one direction: `loss` is the percentage that never arrives."""

    loss: float = 0.0
    delay: Delay = Delay()

    @classmethod
    def of(cls, struct: Struct) -> Connection:
        """The view of a `ConnectionConfig` value."""
        delay = struct.get("packet_delay_distribution")
        return cls(float(struct.get("packet_loss_percentage", 0)), Delay() if delay is None else Delay.of(delay))

    @property
    def is_perfect(self) -> bool:
        """Whether packets travel as if there were nothing in between."""
        return self == ALLOWED

    def __str__(self) -> str:
        parts = [f"{self.loss:g} % loss"] if self.loss else []
        if self.delay.mean_ms or self.delay.deviation_ms:
            deviation = f" ± {self.delay.deviation_ms:g} ms" if self.delay.deviation_ms else ""
            parts.append(f"{self.delay.mean_ms:g} ms{deviation} delay")
        if self.loss == BLOCKED.loss:
            return "blocked"
        return ", ".join(parts) or "nothing in the way"

    def followed_by(self, other: Connection) -> Connection:
        """Both one after the other: what passes the first is lost or held up by the second as well."""
        return Connection(
            loss=100.0 - (100.0 - self.loss) * (100.0 - other.loss) / 100.0,
            delay=Delay(
                self.delay.mean_ms + other.delay.mean_ms,
                (self.delay.deviation_ms**2 + other.delay.deviation_ms**2) ** 0.5,
                max(self.delay.correlation, other.delay.correlation),
            ),
        )


ALLOWED = Connection()
BLOCKED = Connection(loss=100.0)

ConnectionMatrix: TypeAlias = Mapping[tuple[str, str], Connection]
"""What is between services, by name, sender first; pairs whose connection is perfect are left out."""


def laid_over(matrices: Iterable[ConnectionMatrix]) -> ConnectionMatrix:
    """All of them one after the other: a packet meets what each of them has between its two services."""
    combined: dict[tuple[str, str], Connection] = {}
    for matrix in matrices:
        for pair, connection in matrix.items():
            combined[pair] = combined.get(pair, ALLOWED).followed_by(connection)
    return {pair: connection for pair, connection in combined.items() if not connection.is_perfect}


def to_rows(connections: ConnectionMatrix) -> list[list[Any]]:
    """As JSON has it: from whom, to whom, loss, and the delay's mean, deviation and correlation."""
    return [
        [*pair, each.loss, each.delay.mean_ms, each.delay.deviation_ms, each.delay.correlation]
        for pair, each in connections.items()
        if not each.is_perfect
    ]


def of_rows(rows: Iterable[Sequence[Any]]) -> ConnectionMatrix:
    """What `to_rows` gave."""
    return {(one, other): Connection(loss, Delay(*delay)) for one, other, loss, *delay in rows}
