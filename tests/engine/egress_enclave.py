"""An enclave whose way out is looked at: one service from the machine's root directory, and what it reaches.

Run as a program by a plain user: opens an enclave, tells what its way out is, and answers a Python expression a line.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from pytest_enclave.engine.embedded import launching
from pytest_enclave.engine.embedded.execution import run_command
from pytest_enclave.engine.embedded.roots import start_spec
from pytest_enclave.engine.protocol import Address, ServiceSpec

DIRECTORY = f"/tmp/pytest-enclave-egress-{os.getuid()}-{os.getpid()}"
"""Where the enclaves have their sockets."""

_numbers = itertools.count(1)

PRELUDE = """
import socket
def hear(host, port):
    "What somebody there says."
    with socket.create_connection((host, port), timeout=3) as connection:
        return connection.recv(100).decode()
def reach(host, port):
    try:
        return hear(host, port)
    except OSError as error:
        return "nothing"
"""


class Egress:
    """An enclave; with a launcher of its own, if none is given."""

    def __init__(self, egress: dict[str, Any] | None, launcher: launching.Launcher | None = None) -> None:
        self.name = f"egress-test-{os.getpid()}-{next(_numbers)}"
        self._launcher = launcher or launching.Launcher()
        self._shared = launcher is not None
        plan = {
            "name": self.name,
            "directory": f"{DIRECTORY}/{self.name}",
            "home": "",
            "storage": None,
            "files": [f"{DIRECTORY}-files/{self.name}"],
            "inherited": {},
            "egress": egress,
        }
        self._enclosure = self._launcher.open(plan)
        self.client = self._enclosure.client

    def told(self) -> dict[str, Any]:
        """What the enclave says about its way out."""
        return self.client.ask({"do": "egress"})

    def up(self, name: str, cmd: Sequence[str] = ()) -> str:
        """Start a service; its address."""
        address = self.client.ask({"do": "reserve", "name": name})["ip"]
        spec = ServiceSpec(name, "host:/", cmd=tuple(cmd), address=Address(name, address))
        outcome = self.client.ask({"do": "start", "spec": {**start_spec(spec, lambda _: None), "artifacts": []}})
        assert "error" not in outcome, outcome
        return str(address)

    def evaluate(self, expression: str, service: str = "a") -> str:
        """The value of a Python expression in a service; `hear` and `reach` are there."""
        program = f"{PRELUDE}\nprint({expression})"
        result = run_command(self.client, service, ["/usr/bin/python3", "-I", "-S", "-c", program], None)
        return result.output.strip()

    def close(self) -> list[Any]:
        """End it; what is left."""
        leaks = list(self._enclosure.finish(15))
        if not self._shared:
            self._launcher.close()
        return leaks


def main(program: str) -> None:
    """Serve standard input, with a way out by this program alone."""
    change = f"from pytest_enclave.engine.embedded.inside import user_network\nkept = {program!r}\n"
    change += "user_network.OPTIONS = {kept: user_network.OPTIONS[kept]}\nmain()"
    launching.PROGRAM = launching.PROGRAM.replace("main()", change)
    enclave = Egress({"servers": None})
    _say(enclave.told())
    if enclave.told()["by"]:
        enclave.up("a")
    for line in sys.stdin:
        _say(enclave.evaluate(line))
    _say(enclave.close())


def _say(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
