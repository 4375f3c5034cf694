"""Whether a service has ended, or what shapes connections, as the kernel knows it: clients look, and need not ask."""

from __future__ import annotations

import os
import select


class Ends:
    """A descriptor that is readable while a process has ended of which init has not taken note yet.

    It is one for all services, and means the same to every process that it is passed to.
    """

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._processes: dict[int, int] = {}
        # Readable as soon as something is in it.
        self._doubt, self._doubting = os.pipe()
        self._poll.register(self._doubt, select.EPOLLIN)

    def fileno(self) -> int:
        """The descriptor."""
        return self._poll.fileno()

    def await_end(self, process: int) -> None:
        """There is this process now. Where it cannot be watched, the descriptor is readable from now on."""
        descriptor = -1
        try:
            descriptor = os.pidfd_open(process)
            self._poll.register(descriptor, select.EPOLLIN)
        except OSError:
            # There are no descriptors left, or no watches. Whoever looks has to ask.
            if descriptor >= 0:
                os.close(descriptor)
            if self._doubting >= 0:
                os.write(self._doubting, b"?")
                os.close(self._doubting)
                self._doubting = -1
            return
        self._processes[process] = descriptor

    def noted(self, process: int) -> None:
        """Init knows that the process has ended, and has told, or is going to before anything else."""
        descriptor = self._processes.pop(process, None)
        if descriptor is not None:
            # Closing is not enough: children of init may have it open too.
            self._poll.unregister(descriptor)
            os.close(descriptor)
