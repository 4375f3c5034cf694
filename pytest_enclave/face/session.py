"""The session's enclaves: made when the first test needs one, gone when the session ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from pytest_enclave.face.options import Settings, settings_of

if TYPE_CHECKING:
    from pytest_enclave.enclave.enclave import Enclave
    from pytest_enclave.enclave.sharing import Demand, Enclaves
    from pytest_enclave.engine.protocol import Engine, Leak, Probe
    from pytest_enclave.engine.select import EngineChoice
    from pytest_enclave.golang.jq import JqProcess
    from pytest_enclave.plan.events import Event
    from pytest_enclave.plan.instruction import Plan
    from pytest_enclave.run.outcome import Run
    from pytest_enclave.run.pipeline import Tools

SESSION = pytest.StashKey["EnclaveSession"]()
USED = pytest.StashKey[list["Enclave"]]()
STARTED = pytest.StashKey[float]()


class EnclaveSession:
    """Everything of one pytest session that outlives a single test."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.settings: Settings = settings_of(config)
        self.item: pytest.Item | None = None
        self.phase = "setup"
        self.runs: list[Run] = []
        self.leaks: list[Leak] = []
        self._tools: Tools | None = None
        self._jq: JqProcess | None = None
        self._enclaves: Enclaves | None = None
        self._simulated: list[Enclaves] = []
        self._engines: list[Engine] = []
        self._restore_signals: Callable[[], None] | None = None
        self._telling = threading.local()

    # what is there to run on

    def choice(self) -> EngineChoice:
        """The engine that the options ask for."""
        from pytest_enclave.engine.select import EngineChoice

        settings = self.settings
        return EngineChoice(settings.engine, settings.docker_host, settings.image_mirror, dict(os.environ))

    def probe(self) -> Probe:
        """Where the engine is. Raises EngineUnavailable."""
        from pytest_enclave.engine.select import probe

        return probe(self.choice())

    @property
    def tools(self) -> Tools:
        """What runs share, made on first use."""
        if self._tools is None:
            from pytest_enclave.golang.jq import JqProcess
            from pytest_enclave.instructions.registry import Registry
            from pytest_enclave.run.interpretation import Interpretations
            from pytest_enclave.run.pipeline import Tools

            hook = self.config.hook
            added = [kind for kinds in hook.pytest_enclave_instructions(config=self.config) for kind in kinds or ()]
            self._jq = JqProcess()
            interpretations = Interpretations(
                self.settings.interpret_timeout,
                lambda locator, _: hook.pytest_enclave_resolve(locator=locator, config=self.config),
            )
            self._tools = Tools(Registry(added), interpretations, self._jq.extract)
        return self._tools

    def enclaves(self, simulate: Any = None) -> Enclaves:
        """The session's enclaves; with a script, enclaves on a simulated engine of their own."""
        if simulate is not None:
            from pytest_enclave.engine.simulated.engine import SimulatedEngine

            enclaves = self._enclaves_on(SimulatedEngine(simulate))
            self._simulated.append(enclaves)
            return enclaves
        if self._enclaves is None:
            from pytest_enclave.engine.select import select

            engine = self.config.hook.pytest_enclave_engine(config=self.config)
            self._enclaves = self._enclaves_on(engine or select(self.choice()))
        return self._enclaves

    def _enclaves_on(self, engine: Engine) -> Enclaves:
        from pytest_enclave.enclave.enclave import Observers
        from pytest_enclave.enclave.sharing import Enclaves
        from pytest_enclave.engine.protocol import PullPolicy
        from pytest_enclave.run.pipeline import Options

        self._catch_signals()
        self._engines.append(engine)
        options = Options(self.settings.parallelism, self.settings.timeout, PullPolicy(self.settings.pull))
        observers = Observers(self._emit, self._before_execution, self._after_run, self._before_close)
        return Enclaves(engine, self.tools, options, observers, reuse=not self.settings.no_cache)

    # what tests ask for

    def obtain(self, demand: Demand, simulate: Any = None) -> tuple[Enclave, Enclaves]:
        """The enclave for a demand of the running test, and the enclaves it belongs to.

        Raises the error that ended its run; skips the test where no engine answers and `--enclave-unavailable=skip`.
        """
        from pytest_enclave.errors import EngineUnavailable

        by = self.item.nodeid if self.item is not None else "this session"
        try:
            with self._telling_item():
                enclaves = self.enclaves(simulate)
                enclave = enclaves.obtain(demand, by, self._use)
        except EngineUnavailable as error:
            if self.settings.unavailable == "skip":
                pytest.skip(f"no engine for enclaves: {error.message}")
            raise
        return enclave, enclaves

    def _use(self, enclave: Enclave) -> None:
        """Remember that the running test uses the enclave: its logs belong to the test's report."""
        if self.item is not None:
            used = self.item.stash.setdefault(USED, [])
            if enclave not in used:
                used.append(enclave)

    # what is told meanwhile

    @contextmanager
    def _telling_item(self) -> Iterator[None]:
        """While a run goes on for the running test: a live line on a terminal, the lines in the test's report."""
        from pytest_enclave.face.telling import telling

        with telling(self.config, self.item, self.phase) as tell:
            self._telling.tell = tell
            try:
                yield
            finally:
                self._telling.tell = None

    def _emit(self, enclave: Enclave, event: Event) -> None:
        from pytest_enclave.plan.events import StepFinished

        tell = getattr(self._telling, "tell", None)
        if tell is not None:
            tell(event)
        if isinstance(event, StepFinished):
            self.config.hook.pytest_enclave_instruction(enclave=enclave, step=event.step)

    def _before_execution(self, enclave: Enclave, plan: Plan) -> None:
        self.config.hook.pytest_enclave_before_execute(enclave=enclave, plan=plan)

    def _after_run(self, enclave: Enclave, run: Run) -> None:
        self.runs.append(run)
        if run.error is None:
            self.config.hook.pytest_enclave_ready(enclave=enclave, run=run)

    def _before_close(self, enclave: Enclave) -> None:
        self.config.hook.pytest_enclave_teardown(enclave=enclave)

    # how it ends

    def _catch_signals(self) -> None:
        """SIGTERM and SIGHUP would end pytest without any teardown: make them end the session in order instead."""
        if self._restore_signals is not None or threading.current_thread() is not threading.main_thread():
            return

        def leave(number: int, frame: Any) -> None:
            pytest.exit(f"stopped by {signal.Signals(number).name}", returncode=128 + number)

        before = {
            number: signal.signal(number, leave)
            for number in (signal.SIGTERM, signal.SIGHUP)
            if signal.getsignal(number) is signal.SIG_DFL
        }

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        self._restore_signals = restore

    def close(self) -> Sequence[Leak]:
        """Remove every enclave; returns, and remembers, what could not be removed. May be called again."""
        with self._undisturbed():
            for enclaves in (*self._simulated, *([self._enclaves] if self._enclaves else [])):
                self.leaks += enclaves.close()
            self._enclaves, self._simulated = None, []
            for engine in self._engines:
                engine.close()
            self._engines = []
            if self._jq is not None:
                self._jq.close()
                self._jq, self._tools = None, None
        if self._restore_signals is not None:
            self._restore_signals()
            self._restore_signals = None
        return self.leaks

    def _undisturbed(self) -> Any:
        """An impatient second Ctrl-C must not leave half of an enclave behind."""
        if threading.current_thread() is not threading.main_thread() or self._restore_signals is None:
            return nullcontext()
        return _deferred_signals()


@contextmanager
def _deferred_signals() -> Iterator[None]:
    """Hold back SIGINT, SIGTERM and SIGHUP, and deliver the last one afterwards."""
    held: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda caught, _: held.append(caught)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[-1])
