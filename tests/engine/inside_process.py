"""A process of the embedded engine on its own: as bare as it is inside, but in the test's namespaces."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest_enclave
from pytest_enclave.engine.embedded.channel import Channel

PROGRAM = """
import socket, sys
sys.path.insert(0, {path!r})
from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.inside.{module} import serve
serve(Channel(socket.socket(fileno={descriptor})))
"""


class Inside:
    """The process, and the channel to it."""

    def __init__(self, pid: int, channel: Channel) -> None:
        self.pid = pid
        self.channel = channel

    def memory(self) -> int:
        """Bytes it holds."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * 4096

    def cpu(self) -> float:
        """Ticks of processor time it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def descriptors(self) -> int:
        """How many it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


@contextmanager
def inside(module: str, limit: str = "") -> Iterator[Inside]:
    """Run `serve` of a module, in a shell's limits. In the end it must still live, and end on its own."""
    connection, other = socket.socketpair()
    path = str(Path(pytest_enclave.__file__).parents[1])
    program = PROGRAM.format(path=path, module=module, descriptor=other.fileno())
    command = ["sh", "-c", f'{limit or ":"}; exec "$0" -I -S -c "$1"', sys.executable, program]
    process = subprocess.Popen(command, pass_fds=[other.fileno()])
    other.close()
    connection.settimeout(20)
    channel = Channel(connection)
    try:
        yield Inside(process.pid, channel)
        assert process.poll() is None
        channel.close()
        assert process.wait(10) == 0
    finally:
        channel.close()
        process.kill()
        process.wait()
