"""One live line on a terminal, for as long as there is something to wait for; it leaves nothing behind.

Nothing is imported or drawn before a run has taken a moment, so that a quick one costs one idle timer.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from pytest_enclave.plan.events import (
    BuildProgress,
    Event,
    ImageProgress,
    InstructionStarted,
    PhaseStarted,
    StepFinished,
    Waiting,
)
from pytest_enclave.report.amounts import duration, size
from pytest_enclave.report.masking import Secrets
from pytest_enclave.report.short_call import told
from pytest_enclave.report.text import plural, printable

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

PATIENCE = 0.3
"""Seconds that a run may take before the line appears."""

REFRESHES = 8
"""Per second."""


def is_interactive(file: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether somebody watches the stream, on a terminal that can redraw a line."""
    dumb = environment.get("TERM", "") in ("dumb", "unknown") or bool(environment.get("CI"))
    try:
        return file.isatty() and not dumb
    except ValueError:
        return False


class LiveLine:
    """A context around one run, given to it as `emit`: says what goes on, and for how long."""

    def __init__(
        self,
        file: TextIO,
        clock: Callable[[], float] = monotonic,
        *,
        environment: Mapping[str, str] | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._file = file
        self._clock = clock
        self._active = is_interactive(file, os.environ if environment is None else environment)
        self._patience = patience
        self._started = 0.0
        self._pulls: dict[str, ImageProgress] = {}
        self._builds: dict[str, BuildProgress] = {}
        self._phase = ""
        self._doing = ""
        self._waiting = ""
        self._secrets = Secrets()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._live: Live | None = None
        self._closed = False

    def __enter__(self) -> LiveLine:
        self._started = self._clock()
        if self._active:
            self._timer = threading.Timer(self._patience, self._appear)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
            live, self._live = self._live, None
        if self._timer is not None:
            self._timer.cancel()
        if live is not None:
            live.stop()
            self._say(self._RESTORE)

    def __call__(self, event: Event) -> None:
        """Take note of an event; the next refresh shows it."""
        if not self._active:
            return
        match event:
            case PhaseStarted():
                self._phase, self._doing, self._waiting = event.phase, "", ""
            case ImageProgress(done=True):
                self._pulls = {image: pull for image, pull in self._pulls.items() if image != event.image}
            case ImageProgress():
                self._pulls = {**self._pulls, event.image: event}
            case BuildProgress(done=True):
                self._builds = {image: build for image, build in self._builds.items() if image != event.image}
            case BuildProgress():
                self._builds = {**self._builds, event.image: event}
            case InstructionStarted():
                self._secrets |= Secrets.of_instructions([event.instruction])
                self._doing = f"{event.number}/{event.total} {told(event.instruction, 60, self._secrets)}"
                self._waiting = ""
            case Waiting():
                self._waiting = event.what
            case StepFinished():
                self._doing = self._waiting = ""
            case _:
                pass

    def text(self) -> str:
        """The line as it is now."""
        waiting = f"waiting for {self._waiting}" if self._waiting else ""
        parts = [self._doing or self._phase, self._pulled(), self._built(), waiting]
        told = " · ".join(part for part in parts if part)
        shown = " ".join(printable(self._secrets.mask(told)).split())
        return f"enclave {duration(self._clock() - self._started)}  {shown}".rstrip()

    def _pulled(self) -> str:
        pulls = list(self._pulls.values())
        if not pulls:
            return ""
        what = pulls[0].image if len(pulls) == 1 else plural(len(pulls), "image")
        current, total = sum(pull.current for pull in pulls), sum(pull.total for pull in pulls)
        if not all(pull.total for pull in pulls):
            return f"pulling {what}" + (f", {size(current)} so far" if current else "")
        return f"pulling {what}, {size(current)} of {size(total)}"

    def _built(self) -> str:
        builds = list(self._builds.values())
        if len(builds) == 1:
            build = builds[0]
            return f"building {build.image}" + (f", step {build.step} of {build.steps}" if build.steps else "")
        return f"building {plural(len(builds), 'image')}" if builds else ""

    # The line stands below the cursor, which may be in the middle of a line of pytest's: two rows are made sure of (one
    # for the line, one that rich steps onto when it ends), so that nothing scrolls and the cursor can be put back.
    _RESERVE = "\x1bD\x1bD\x1b[2A\x1b7\n"
    _RESTORE = "\x1b8"

    def _appear(self) -> None:
        """Runs on the timer's thread: what it imports takes longer than many runs."""
        from rich.console import Console
        from rich.live import Live

        with self._lock:
            if self._closed:
                return
            self._say(self._RESERVE)
            self._live = Live(
                console=Console(
                    file=self._file,
                    width=self._width(),
                    force_terminal=True,
                    highlight=False,
                    markup=False,
                    emoji=False,
                ),
                get_renderable=self._drawn,
                refresh_per_second=REFRESHES,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def _width(self) -> int | None:
        """Of the very stream: what rich looks at may be captured."""
        try:
            return os.get_terminal_size(self._file.fileno()).columns or None
        except (OSError, ValueError):
            return None

    def _say(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()

    def _drawn(self) -> Text:
        from rich.text import Text

        return Text(self.text(), style="dim", no_wrap=True, overflow="ellipsis", end="")
