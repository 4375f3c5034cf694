"""The shaper: what services on different bridges send each other passes here, and is lost or held up as it was said.

It runs in the network namespace of the enclave, and is there only while anything is between services. Messages that
come in:

    {"do": "shape", "seed": S, "groups": COUNT, "services": {NAME: [IP, GROUP, PRESENT]},
     "connections": [[FROM, TO, LOSS, MEAN, DEVIATION, CORRELATION], …]}
                                                  all that there is, in place of what was said before; is answered.
                                                  Services move to where they are said to be from here on
    {"do": "moved", "groups": COUNT}              … until here
    {"do": "service", "name": NAME, "service": [IP, GROUP, PRESENT]}     one of the services is new, or comes or goes
    {"do": "end"}                                 let all go that is held up; is answered

Answers are {} or {"error": TEXT}. The bridge of a group is `br` and its number. Services that are present are found by
others: questions for their addresses are answered here, so they are never lost nor late. While services move, each is
looked for where it was and where it will be.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import select
import time
from typing import Any

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.inside import frames
from pytest_enclave.engine.embedded.inside.frames import DIRECTION, SOURCE, TARGET
from pytest_enclave.linux import syscalls
from pytest_enclave.linux.fates import LOST, Fates, Figures
from pytest_enclave.linux.packets import LARGEST, open_packets

ROUNDS = 256
"""Frames read from one bridge before what is due is sent."""

LONGEST = 3600.0
"""Seconds that it waits at once: the kernel takes no more than some weeks."""

MOST_HELD = 256 << 20
"""Bytes that are held up at most; what comes then is lost."""


class Group:
    """A bridge, and the services on it."""

    def __init__(self, link: str) -> None:
        self.packets = open_packets(link)

    def send(self, frame: bytes) -> None:
        """Let a frame go out. One that does not fit any more is lost, as everywhere."""
        try:
            self.packets.send(frame)
        except OSError:
            return


class Shaper:
    """All groups of an enclave, and the lines between services of different ones."""

    def __init__(self, control: Channel) -> None:
        self._control = control
        self._epoll = select.epoll()
        self._epoll.register(control.fileno(), select.EPOLLIN)
        self._groups: dict[int, Group] = {}
        self._by_descriptor: dict[int, Group] = {}
        self._homes: dict[bytes, Group] = {}
        self._former_homes: dict[bytes, Group] = {}
        self._is_moving = False
        self._present: dict[bytes, None] = {}
        self._said: dict[tuple[str, str], tuple[Figures, int]] = {}
        self._addresses: dict[str, str] = {}
        self._lines: dict[bytes, Fates] = {}
        self._held: list[tuple[float, int, bytes]] = []
        self._bytes = 0
        self._order = itertools.count()

    def shape(self, message: dict[str, Any]) -> None:
        """From now on frames travel like this. What is held up is still let go then, unless its line is blocked now."""
        wanted = set(range(message["groups"]))
        for number in wanted - set(self._groups):
            self._groups[number] = group = Group(f"br{number}")
            self._by_descriptor[group.packets.fileno()] = group
            self._epoll.register(group.packets.fileno(), select.EPOLLIN)
        seed = message["seed"]
        self._said = {(one, other): (Figures(*each), seed) for one, other, *each in message["connections"]}
        former, self._lines = self._lines, {}
        self._addresses.clear()
        self._is_moving = True
        self._former_homes, self._homes = self._homes, {}
        self._present.clear()
        for name, service in message["services"].items():
            self.place(name, *service)
        for key, line in self._lines.items():
            if key in former and (former[key].figures, former[key].seed) == (line.figures, line.seed):
                self._lines[key] = former[key]
        self._drop_blocked()

    def moved(self, groups: int) -> None:
        """All services are where they were said to be; there are no other groups."""
        self._is_moving = False
        self._former_homes = {}
        for number in set(self._groups) - set(range(groups)):
            self._drop(number)

    def place(self, name: str, ip: str, group: int, present: bool) -> None:
        """A service is in this group, and can be found or not."""
        if name not in self._addresses:
            self._addresses[name] = ip
            for other in self._addresses:
                for pair in ((name, other), (other, name)):
                    if pair in self._said:
                        figures, seed = self._said[pair]
                        key = frames.direction(*(self._addresses[each] for each in pair))
                        self._lines[key] = Fates(seed, *pair, figures)
        mac = frames.mac_of(ip)
        self._homes[mac] = self._groups[group]
        if present:
            self._present[mac] = None
        else:
            self._present.pop(mac, None)

    def turn(self) -> None:
        """Take what comes, or wait for it; let go what is due. Raises EOFError when nobody talks to it any more."""
        patience = None if not self._held else min(LONGEST, max(0.0, self._held[0][0] - time.monotonic()))
        # The time that epoll itself takes is in whole milliseconds.
        select.select([self._epoll], [], [], patience)
        for descriptor, _ in self._epoll.poll(0):
            if (group := self._by_descriptor.get(descriptor)) is not None:
                self._read(group)
            else:
                self._told()
        self.let_go(time.monotonic())

    def _told(self) -> None:
        for message, _ in self._control.arrived():
            if message["do"] == "service":
                self.place(message["name"], *message["service"])
                continue
            if message["do"] == "moved":
                self._read_all()
                self.moved(message["groups"])
                continue
            try:
                if message["do"] == "shape":
                    self.shape(message)
                else:
                    self._read_all()
                    self.let_go(float("inf"))
            except OSError as error:
                self._control.send({"error": str(error)})
            else:
                self._control.send({})

    def _read_all(self) -> None:
        """What services have sent while they moved is not asked for again soon."""
        for group in self._groups.values():
            self._read(group)

    def _read(self, group: Group) -> None:
        packets = group.packets
        for _ in range(ROUNDS):
            try:
                frame = packets.recv(LARGEST)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    # One that cannot be told in full; it is off the queue.
                    continue
                return
            self.take(group, frame, time.monotonic())

    def take(self, group: Group, frame: bytes, now: float) -> None:
        """A frame has come in from a group, now (monotonic seconds)."""
        home = self._homes.get(frame[SOURCE])
        if home is None or (home is not group and not self._is_moving):
            return
        if frames.is_about_addresses(frame):
            asked = frames.wanted(frame)
            if asked is not None and asked in self._present and (self._is_moving or self._homes[asked] is not group):
                self._send(frames.answer(frame))
        elif frames.is_for_several(frame):
            for target in self._present:
                if self._homes[target] is not group:
                    self._forward(frames.readdressed(frame, target), now, to_several=True)
        else:
            home = self._homes.get(frame[TARGET])
            if home is not None and (home is not group or self._is_moving):
                self._forward(frame, now)

    def _forward(self, frame: bytes, now: float, to_several: bool = False) -> None:
        line = self._lines.get(frame[DIRECTION])
        delay = 0.0 if line is None else line.next(to_several=to_several)
        if delay == LOST:
            return
        if not delay:
            self._send(frame)
        elif self._bytes + len(frame) <= MOST_HELD:
            self._bytes += len(frame)
            heapq.heappush(self._held, (now + delay, next(self._order), frame))

    def let_go(self, now: float) -> None:
        """Send what is due by then, in the order in which it is."""
        held = self._held
        while held and held[0][0] <= now:
            frame = heapq.heappop(held)[2]
            self._bytes -= len(frame)
            self._send(frame)

    def _send(self, frame: bytes) -> None:
        target = frame[TARGET]
        home = self._homes.get(target)
        if self._is_moving:
            # It goes from there to its new home, so it may be met on the way.
            former = self._former_homes.get(target)
            if former is not None and former is not home:
                former.send(frame)
        if home is not None:
            home.send(frame)

    def _drop_blocked(self) -> None:
        blocked = {key for key, line in self._lines.items() if line.is_blocked}
        self._held = [each for each in self._held if each[2][DIRECTION] not in blocked]
        heapq.heapify(self._held)
        self._bytes = sum(len(frame) for _, _, frame in self._held)

    def _drop(self, number: int) -> None:
        group = self._groups.pop(number)
        self._epoll.unregister(group.packets.fileno())
        del self._by_descriptor[group.packets.fileno()]
        group.packets.close()


def serve(control: Channel) -> None:
    """Shape until the end of the control channel."""
    syscalls.prctl(syscalls.PR_SET_TIMERSLACK, 1)
    shaper = Shaper(control)
    try:
        while True:
            shaper.turn()
    except EOFError:
        return
