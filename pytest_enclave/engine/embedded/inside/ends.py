"""Whether a service has ended, as the kernel knows it: clients can look for themselves, and need not ask."""

from __future__ import annotations

import os
import select


class Ends:
    """A descriptor that is readable while a service has ended of which init has not taken note yet.

    It is one for all services, and means the same to every process that it is passed to.
    """

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._processes: dict[int, int] = {}
        # At its end, and so always readable.
        self._doubt, end = os.pipe()
        os.close(end)

    def fileno(self) -> int:
        """The descriptor."""
        return self._poll.fileno()

    def await_end(self, process: int) -> None:
        """A service has this process now. Where it cannot be watched, the descriptor is readable from now on."""
        try:
            descriptor = os.pidfd_open(process)
        except OSError:
            # There are no descriptors left. Whoever looks has to ask.
            if self._doubt >= 0:
                self._poll.register(self._doubt, select.EPOLLIN)
                self._doubt = -1
            return
        self._processes[process] = descriptor
        self._poll.register(descriptor, select.EPOLLIN)

    def noted(self, process: int) -> None:
        """Init knows that the process has ended, and has told, or is going to before anything else."""
        descriptor = self._processes.pop(process, None)
        if descriptor is not None:
            # Closing is not enough: children of init may have it open too.
            self._poll.unregister(descriptor)
            os.close(descriptor)
