"""A terminal with a program on it, as a user sits in front of it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PATIENCE = 20.0


class UserTerminal:
    """The program is the first of a session of its own, whose terminal this is."""

    def __init__(self, command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> None:
        self.shown = ""
        self.process, self._terminal = pty.fork()
        if self.process == 0:
            os.chdir(directory)
            os.execvpe(command[0], list(command), dict(environment))
        self.resize(31, 97)
        self.settings = termios.tcgetattr(self._terminal)

    def resize(self, rows: int, columns: int) -> None:
        """Pull the window's corner."""
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """Type, after all that is to be seen by then; `\\n` is the key Enter."""
        os.write(self._terminal, text.replace("\n", "\r").encode())

    def until(self, pattern: str) -> str:
        """Wait until that is shown, and forget what was shown up to it."""
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.shown)) is None:
            assert select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))[0], self.shown
            self.shown += self._read()
        text, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return text

    def signal(self, number: signal.Signals) -> None:
        """Send the program a signal."""
        os.kill(self.process, number)

    def end(self) -> int:
        """The exit code, when the program has ended."""
        while True:
            assert select.select([self._terminal], [], [], PATIENCE)[0], self.shown
            try:
                self.shown += self._read()
            except OSError:
                break
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        self.process = 0
        return code

    def restored(self) -> bool:
        """Whether the terminal is set as it was."""
        return termios.tcgetattr(self._terminal) == self.settings

    def hang_up(self) -> None:
        """Close the window, and wait for the program."""
        os.close(self._terminal)
        self._terminal = -1
        os.waitpid(self.process, 0)
        self.process = 0

    def close(self) -> None:
        """End it all."""
        if self._terminal >= 0:
            os.close(self._terminal)
        if self.process:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)

    def _read(self) -> str:
        return os.read(self._terminal, 65536).decode(errors="replace")
