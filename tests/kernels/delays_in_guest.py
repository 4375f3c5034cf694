"""What delays of the kernel do: to be run as root of a machine whose kernel has netem, as a module not loaded yet.

Three network namespaces on a bridge, with a process each that sends datagrams back; the program that shapes their
traffic; and figures of how packets travel, which are printed as a JSON object.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time

from pytest_enclave.engine.docker.shaper.asking import ask
from pytest_enclave.linux.fates import LOST, Fates, Figures
from pytest_enclave.linux.netlink import Netlink

MODULES = ("sch_netem", "ifb", "nf_dup_netdev", "nft_fwd_netdev")
"""What delays need of the kernel: not loaded yet."""

PLACES = {"a": "10.9.0.2", "b": "10.9.0.3", "c": "10.9.0.4"}
BROADCAST = "10.9.0.255"
LINK = "eth0"

Way = tuple[float, float, float, float]
"""Loss, mean, deviation and correlation; by sender and receiver."""

PLACE = """
import socket, sys, time
from pytest_enclave.linux.syscalls import CLONE_NEWNET, unshare
unshare(CLONE_NEWNET)
print("apart", flush=True)
sys.stdin.readline()
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
own.bind(("", 7000))
print("there", flush=True)
while True:
    data, sender = own.recvfrom(2000)
    if data.startswith(b"note"):
        print(data.decode(), time.monotonic(), flush=True)
    else:
        own.sendto(data, sender)
"""

SHAPER = """
import os, socket, sys
sys.path.insert(0, sys.argv[1])
from pytest_enclave.engine.docker.shaper.serving import serve
listener = socket.socket(fileno=int(sys.argv[2]))
serve(listener, os.pidfd_open(os.getppid()), -1)
"""


class Place:
    """A network namespace, and the process in it that sends datagrams back."""

    def __init__(self, name: str) -> None:
        self.name, self.address = name, PLACES[name]
        self.process = subprocess.Popen(
            [sys.executable, "-c", PLACE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.read()
        with Netlink() as net, open(f"/proc/{self.process.pid}/ns/net", "rb") as namespace:
            net.veth(f"to-{name}", LINK, namespace.fileno(), master=net.index("bridge"))
            net.up(f"to-{name}")
        self.inside("ip", "link", "set", "lo", "up")
        self.inside("ip", "addr", "add", f"{self.address}/24", "broadcast", BROADCAST, "dev", LINK)
        self.inside("ip", "link", "set", LINK, "up")
        print("go", file=self.process.stdin, flush=True)
        self.read()

    def read(self) -> str:
        """The next line that the process prints."""
        return self.process.stdout.readline().strip()

    def inside(self, *command: str) -> str:
        """What a command in the namespace prints."""
        entered = ["nsenter", f"--net=/proc/{self.process.pid}/ns/net", *command]
        return subprocess.run(entered, check=True, capture_output=True, text=True).stdout

    def links(self) -> list[str]:
        """The names of its links."""
        return [line.split()[1].strip(":").partition("@")[0] for line in self.inside("ip", "-o", "link").splitlines()]

    def python(self, program: str, *arguments: object) -> str:
        """What a program in the namespace prints."""
        return self.inside(sys.executable, "-c", program, *map(str, arguments))


TRIPS = """
import socket, sys, time
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.settimeout(float(sys.argv[3]))
for number in range(int(sys.argv[2])):
    sent = time.monotonic()
    own.sendto(b"%d" % number, (sys.argv[1], 7000))
    try:
        while own.recv(100) != b"%d" % number:
            pass
        print((time.monotonic() - sent) * 1000)
    except TimeoutError:
        print(-1)
"""

NOTES = """
import socket, sys, time
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
begun = time.monotonic()
for word in sys.argv[2:]:
    own.sendto(b"note " + word.encode(), (sys.argv[1], 7000))
print(begun)
"""

STREAM = """
import hashlib, socket, sys, threading
data = bytes(range(256)) * 4096
if sys.argv[1] == "take":
    with socket.create_server(("", 7001)) as listener:
        print("listens", flush=True)
        connection, _ = listener.accept()
        with connection:
            got = b""
            while part := connection.recv(1 << 16):
                got += part
    print(got == data)
else:
    with socket.create_connection((sys.argv[1], 7001)) as connection:
        connection.sendall(data)
"""


class Shaper:
    """The program, and what it is asked."""

    def __init__(self, places: dict[str, Place]) -> None:
        self._places = places
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind("")
        self._listener.listen()
        number = self._listener.fileno()
        self.process = subprocess.Popen([sys.executable, "-c", SHAPER, os.getcwd(), str(number)], pass_fds=[number])

    def shape(self, **ways: Way) -> None:
        """Have these ways."""
        answer = self.ask(
            {
                "do": "shape",
                "ways": [[*ends, *figures] for ends, figures in ways.items()],
                "seed": 7,
                "addresses": PLACES,
                "services": [[name, name, place.process.pid] for name, place in self._places.items()],
                "elsewhere": [name for name in PLACES if name not in self._places],
            }
        )
        assert "error" not in answer, answer

    def ask(self, request: dict[str, object]) -> dict[str, object]:
        """The answer."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self._listener.getsockname())
            return ask(connection, request)

    def end(self) -> None:
        """Have it end in order."""
        self.ask({"do": "end"})
        self.process.wait()


def trips(sender: Place, receiver: Place, count: int = 20, patience: float = 3) -> list[float]:
    """Milliseconds there and back; -1 for what does not come back."""
    return [float(line) for line in sender.python(TRIPS, receiver.address, count, patience).splitlines()]


def median(sender: Place, receiver: Place) -> float:
    """That of the round trips."""
    return statistics.median(trips(sender, receiver))


def both(mean: float, loss: float = 0) -> dict[str, Way]:
    """Between a and b."""
    return {"ab": (loss, mean, 0, 0), "ba": (loss, mean, 0, 0)}


def main() -> None:
    """Measure, and tell."""
    found: dict[str, object] = {}
    with Netlink() as net:
        net.bridge("bridge")
        net.up("bridge")
    places = {name: Place(name) for name in PLACES}
    a, b, c = places.values()
    found["plain"] = median(a, b)

    shaper = Shaper(places)
    shaper.shape(**both(100))
    found["by queue"] = {"trip": median(a, b), "links": a.links()}
    shaper.process.send_signal(signal.SIGSTOP)
    found["by queue"]["while nobody decides"] = trips(a, b, 1, 1)
    shaper.process.send_signal(signal.SIGCONT)
    shaper.end()

    for module in MODULES:
        subprocess.run(["insmod", f"/modules/{module}.ko"], check=True)
    shaper = Shaper(places)
    shaper.shape(**both(100))
    found["by kernel"] = {
        "trips": trips(a, b, 50),
        "others": median(a, c),
        "links": [a.links(), c.links()],
    }
    shaper.process.send_signal(signal.SIGSTOP)
    found["by kernel"]["while nobody decides"] = trips(a, b, 3, 1)
    shaper.process.send_signal(signal.SIGCONT)

    shaper.shape(ab=(0, 150, 0, 0))
    found["by kernel"]["one way"] = median(a, b)
    shaper.shape(ab=(30, 50, 0, 0))
    fates = Fates(7, "a", "b", Figures(30, 50))
    found["with losses"] = {
        "lost": [number for number, trip in enumerate(trips(a, b, 40, 0.5)) if trip < 0],
        "expected": [number for number in range(40) if fates.next() == LOST],
    }

    shaper.shape(**both(500))
    a.python(NOTES, b.address, "blocked")
    shaper.shape(**both(0, 100))
    shaper.shape()
    a.python(NOTES, b.address, "healed")
    time.sleep(1)
    found["after a block"] = b.read().split()[1]
    shaper.shape(**both(500))
    sent = float(a.python(NOTES, b.address, "held"))
    shaper.shape()
    immediate = median(a, b)
    word, came = b.read().split()[1:]
    found["freed while held"] = {"others": immediate, "word": word, "late": (float(came) - sent) * 1000}
    shaper.shape(cb=(0, 1000, 0, 0))
    c.python(NOTES, b.address, "last words")
    c.process.kill()
    found["of one that has ended"] = b.read().split()[1]
    del places["c"]
    places["c"] = c = Place("c")
    found["of the next one"] = trips(c, b, 1)[0]

    shaper.shape(**both(200))
    sent = float(a.python(NOTES, BROADCAST, "all"))
    found["to several"] = {place.name: (float(place.read().split()[2]) - sent) * 1000 for place in (b, c)}

    shaper.shape(**both(20))
    with subprocess.Popen(
        ["nsenter", f"--net=/proc/{b.process.pid}/ns/net", sys.executable, "-c", STREAM, "take"],
        stdout=subprocess.PIPE,
        text=True,
    ) as taker:
        taker.stdout.readline()
        a.python(STREAM, b.address)
        found["stream"] = taker.stdout.readline().strip()

    shaper.process.kill()
    shaper.process.wait()
    found["killed"] = {"trip": median(a, b), "links": a.links()}
    shaper = Shaper(places)
    shaper.shape(**both(100))
    found["the next one"] = median(a, b)
    shaper.end()
    found["ended"] = {"trip": median(a, b), "links": [a.links(), b.links()]}

    shapers = [Shaper({name: place}) for name, place in places.items()]
    for each in shapers:
        each.shape(**both(100))
    found["one each"] = median(a, b)
    for each in shapers:
        each.end()
    for place in places.values():
        place.process.kill()
    sys.stdout.write(f"{json.dumps(found)}\n")


if __name__ == "__main__":
    main()
