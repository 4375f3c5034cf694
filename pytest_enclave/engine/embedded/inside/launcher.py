"""The launcher: one small process per engine that forks a supervisor for each enclave.

A fork of it takes a millisecond where a fresh interpreter takes thirty, and it has no threads, as whatever forks into
new namespaces must not. It stays in the namespaces of the test process and ends with it; its supervisors do not.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from contextlib import suppress

from pytest_enclave.engine.embedded.channel import Channel
from pytest_enclave.engine.embedded.inside.supervisor import supervise


def main() -> None:
    """Serve requests from the control socket, whose number is the last argument, until it reaches its end."""
    connection = socket.socket(fileno=int(sys.argv[-1]))
    connection.set_inheritable(False)
    control = Channel(connection)
    _forget_surroundings()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # What is here already is never freed: collecting it in every fork would only copy pages.
    gc.disable()
    gc.freeze()
    while (request := control.receive()) is not None:
        plan, descriptors = request
        # Where nothing can be forked, the client finds that out by the end of its connection.
        with suppress(BlockingIOError, MemoryError):
            if os.fork() == 0:
                control.close()
                supervise(plan, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
    # There is nothing to clean up, and the test process waits for the end.
    os._exit(0)


def _forget_surroundings() -> None:
    """What the test process ignores, blocks or masks is of no concern to services."""
    os.umask(0o022)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


if __name__ == "__main__":
    main()
