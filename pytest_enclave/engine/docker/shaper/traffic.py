"""Packets that are held, and what becomes of each: which packet is on which way, and when it may go on."""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING, NamedTuple

from pytest_enclave.linux.fates import LOST, Fates
from pytest_enclave.linux.netfilter import OUTPUT

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pytest_enclave.engine.docker.shaper.attachment import Attachment
    from pytest_enclave.linux.fates import Figures


Ends = tuple[str, str]
"""The sender's and the receiver's name."""


class _Waiting(NamedTuple):
    due: float
    order: int
    attachment: Attachment
    number: int
    way: Fates
    leaving: bool


class Traffic:
    """The ways there are, and the packets that are held up on them. Times are in monotonic seconds."""

    def __init__(self) -> None:
        self.ways: dict[Ends, Fates] = {}
        self._found: dict[tuple[bytes, bytes], Fates] = {}
        self._waiting: list[_Waiting] = []
        self._order = itertools.count()

    def shape(self, figures: Mapping[Ends, Figures], seed: int, addresses: Mapping[str, bytes]) -> None:
        """Have these ways and no others. One that was there and is the same goes on.

        What is held up on one that is no more goes on at once, what is on one that is blocked now is lost.
        """
        before = self.ways
        self.ways = {}
        for ends, each in figures.items():
            way = before.get(ends)
            self.ways[ends] = way if way and (way.figures, way.seed) == (each, seed) else Fates(seed, *ends, each)
        self._found = {(addresses[a], addresses[b]): way for (a, b), way in self.ways.items()}
        remaining = []
        for waiting in sorted(self._waiting):
            way = self.ways.get(waiting.way.ends)
            if way is None or way.is_blocked:
                waiting.attachment.queue.decide([waiting.number], passes=way is None)
            else:
                remaining.append(waiting._replace(way=way))
        self._waiting = remaining

    def take(self, attachment: Attachment, now: float, shaped_there: Collection[bytes]) -> None:
        """Deal with the packets that have come to a queue. What leaves for one of those addresses is shaped there."""
        passing: list[int] = []
        lost: list[int] = []
        for packet in attachment.queue.arrived():
            leaving = packet.hook == OUTPUT
            # What goes to several has another destination than where it has come to.
            receiver = packet.destination if leaving else attachment.packed
            way = self._found.get((packet.source, receiver))
            if way is None or (leaving and receiver in shaped_there):
                passing.append(packet.number)
                continue
            seconds = way.next(to_several=packet.destination != receiver)
            if seconds == LOST:
                lost.append(packet.number)
            elif seconds <= 0:
                passing.append(packet.number)
            else:
                order = next(self._order)
                waiting = _Waiting(now + seconds, order, attachment, packet.number, way, leaving)
                heapq.heappush(self._waiting, waiting)
        attachment.queue.decide(lost, passes=False)
        attachment.queue.decide(passing, passes=True)

    def release(self, now: float) -> float | None:
        """Let those go on whose time has come; when that is for the next one."""
        going: dict[Attachment, list[int]] = {}
        while self._waiting and self._waiting[0].due <= now:
            waiting = heapq.heappop(self._waiting)
            going.setdefault(waiting.attachment, []).append(waiting.number)
        for attachment, numbers in going.items():
            attachment.queue.decide(numbers, passes=True)
        return self._waiting[0].due if self._waiting else None

    def let_go(self, receivers: Collection[str]) -> None:
        """Let all go on that is held where it leaves for one of these services: it is shaped there from now on."""
        remaining = []
        for waiting in sorted(self._waiting):
            if waiting.leaving and waiting.way.ends[1] in receivers:
                waiting.attachment.queue.decide([waiting.number], passes=True)
            else:
                remaining.append(waiting)
        self._waiting = remaining

    def forget(self, attachment: Attachment) -> None:
        """An attachment goes: so do the packets that are held in it."""
        self._waiting = [waiting for waiting in self._waiting if waiting.attachment is not attachment]
        heapq.heapify(self._waiting)
