"""The session's enclaves: made when the first test needs one, gone when the session ends."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest

from pytest_enclave.face.demands import Demands
from pytest_enclave.face.options import Settings, settings_of
from pytest_enclave.face.signals import Signals
from pytest_enclave.face.telling import Telling
from pytest_enclave.face.tenancy import (
    doubts_of,
    end,
    is_forked,
    is_left_with_enclaves,
    kept_by,
    tenure_of,
    work_for_parent,
)

if TYPE_CHECKING:
    from pytest_enclave.enclave.demand import Demand
    from pytest_enclave.enclave.enclave import Enclave
    from pytest_enclave.enclave.sharing import Enclaves
    from pytest_enclave.engine.protocol import Engine, Leak
    from pytest_enclave.engine.select import EngineChoice, Selected
    from pytest_enclave.errors import EngineUnavailable
    from pytest_enclave.face.explaining import Explaining
    from pytest_enclave.golang.jq import JqProcess
    from pytest_enclave.ledger.entry import Entry
    from pytest_enclave.plan.events import Event
    from pytest_enclave.plan.instruction import Plan
    from pytest_enclave.plan.values import Value
    from pytest_enclave.run.outcome import Run
    from pytest_enclave.run.pipeline import Tools

SESSION = pytest.StashKey["EnclaveSession"]()
USED = pytest.StashKey[dict["Enclave", float]]()
"""The enclaves that a test used, and when it began, by the clock that stamps their logs."""
OWN = pytest.StashKey["Enclave"]()
"""The enclave that a test's fixture `enclave` has given it."""
GIVEN = pytest.StashKey[set["Enclave"]]()
"""The enclaves of a module or class, which go with it."""


class EnclaveSession:
    """Everything of one pytest session that outlives a single test."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.settings: Settings = settings_of(config)
        self.demands = Demands(self.settings)
        self.item: pytest.Item | None = None
        self.runs: list[Run] = []
        self.forks = 0
        self.handmade: dict[Enclave, Engine] = {}
        self.leaks: list[Leak] = []
        self.complaints: list[str] = []
        self.notes: list[str] = []
        self.kept: list[Entry] = []
        self.taken_over: list[str] = []
        self.workers: dict[str, list[str]] = {}
        self.signals = Signals()
        self.telling = Telling(config)
        self._explained: Explaining | None = None
        self._introduced = False
        self._tools: Tools | None = None
        self._jq: JqProcess | None = None
        self._starting_jq = threading.Lock()
        self._enclaves: Enclaves | None = None
        self._unavailable: EngineUnavailable | None = None
        self._simulated: list[Enclaves] = []
        self._without_services: Enclaves | None = None
        self._engines: list[Engine] = []
        self._began: dict[int, float] = {}
        self._test_began = 0.0
        self._forked_slots: frozenset[tuple[str, str]] | None = None
        self._process = os.getpid()
        self._inherited: list[object] = []

    # what is there to run on

    def introduce(self) -> list[str] | None:
        """The lines that tell the engine, once; none with `-q`, nor where nothing is going to run.

        With `-v`, also what of it works in part only.
        """
        if self._introduced or self.settings.plan or self.config.get_verbosity() < 0:
            return None
        from pytest_enclave.face.header import header_lines

        self._introduced = True
        return header_lines(self.probe, verbose=self.config.get_verbosity() > 0)

    def choice(self) -> EngineChoice:
        """The engine that the options ask for."""
        from pytest_enclave.engine.select import EngineChoice

        settings = self.settings
        return EngineChoice(
            settings.engine,
            settings.docker_host,
            settings.image_mirror,
            dict(os.environ),
            settings.egress,
            settings.engine_told_by,
            settings.shaper_image,
        )

    def probe(self) -> Selected:
        """Which engine it is. Raises EngineUnavailable."""
        from pytest_enclave.engine.select import probe

        return probe(self.choice())

    @property
    def tools(self) -> Tools:
        """What runs share, made on first use."""
        if self._tools is None:
            from pytest_enclave.instructions.registry import Registry
            from pytest_enclave.run.interpretation import Interpretations
            from pytest_enclave.run.pipeline import Tools

            hook = self.config.hook
            added = [kind for kinds in hook.pytest_enclave_instructions(config=self.config) for kind in kinds or ()]
            interpretations = Interpretations(
                self.settings.interpret_timeout,
                lambda locator, _: hook.pytest_enclave_resolve(locator=locator, config=self.config),
            )
            self._tools = Tools(Registry(added), interpretations, self._extract)
        return self._tools

    def _extract(self, query: str, body: str) -> Value:
        """What a jq query finds in a JSON text; the first one starts a process."""
        with self._starting_jq:
            if self._jq is None:
                from pytest_enclave.golang.jq import JqProcess

                self._jq = JqProcess()
        return self._jq.extract(query, body)

    def enclaves(self, simulate: Any = None, demand: Demand | None = None) -> Enclaves:
        """The session's enclaves; with a script, enclaves on a simulated engine of their own.

        The demand is the first there is, where it is known.
        """
        if simulate is not None:
            from pytest_enclave.engine.select import simulated

            enclaves = self._enclaves_on(simulated(simulate))
            self._simulated.append(enclaves)
            return enclaves
        if self._enclaves is None:
            engine = self.config.hook.pytest_enclave_engine(config=self.config)
            self._enclaves = self._enclaves_on(engine or self._selected(demand))
        return self._enclaves

    def without_services(self) -> Enclaves:
        """Enclaves on a simulated engine, where everything exists, answers and succeeds: for unit tests in Starlark."""
        from pytest_enclave.engine.select import simulated

        if self._without_services is None:
            self._without_services = self._enclaves_on(simulated())
            self._simulated.append(self._without_services)
        return self._without_services

    def _selected(self, demand: Demand | None) -> Engine:
        """The engine; where there is none, always the same error, which is told in full once only."""
        from pytest_enclave.engine.select import select
        from pytest_enclave.errors import EngineUnavailable

        if self._unavailable is not None:
            raise self._unavailable.with_traceback(None)
        try:
            return select(self.choice(), lambda engine: demand is None or not self._is_there(demand, engine))
        except EngineUnavailable as error:
            self._unavailable = error
            raise

    def _is_there(self, demand: Demand, engine: Engine) -> bool:
        """Whether an enclave for the demand has been made before: by another process, or by a former session."""
        if demand.isolate or demand.scope or self.settings.no_cache:
            return False
        tenure = tenure_of(self.config, self.settings)
        key = tenure.key(engine.identity, demand.key)
        return any(entry.key == key and entry.ready for entry in tenure.ledger.entries())

    def _enclaves_on(self, engine: Engine) -> Enclaves:
        from pytest_enclave.enclave.enclave import Observers
        from pytest_enclave.enclave.sharing import Enclaves
        from pytest_enclave.engine.protocol import PullPolicy
        from pytest_enclave.run.pipeline import Options

        self.signals.catch()
        self._engines.append(engine)
        settings = self.settings
        options = Options(settings.parallelism, settings.timeout, PullPolicy(settings.pull), settings.seed)
        observers = Observers(self._emit, self._before_execution, self._after_run, self._before_close)
        return Enclaves(
            engine,
            self.tools,
            options,
            observers,
            tenure_of(self.config, self.settings),
            reuse=not self.settings.no_cache,
            expects_more=self._expects_more,
            expects_fork=self._expects_fork,
        )

    # what tests ask for

    def begin(self, item: pytest.Item) -> None:
        """A test begins, now on every engine's clock."""
        self.item = item
        if is_forked(item):
            # Forks need not import it each by itself.
            import pytest_enclave.enclave.sharing  # noqa: F401

            tenure_of(self.config, self.settings)
        self._test_began = time.time()
        self._began = {id(engine): engine.clock.wall() for engine in self._engines}
        for enclave in self.handmade:
            enclave.use()

    def begin_in_fork(self) -> None:
        """A test begins in a fork of this process, if that is where this is called: nothing is open in it yet.

        What it has inherited is neither used nor closed, for there are no threads, and others at the other ends.
        """
        if self._process != os.getpid():
            self._process = os.getpid()
            self._inherited = [self._all(), self._engines, self._tools, self._jq, self.handmade]
            self._enclaves, self._without_services, self._simulated, self._engines = None, None, [], []
            self._tools, self._jq, self.handmade = None, None, {}
            work_for_parent(self.config)

    def end_in_fork(self) -> None:
        """The fork's only test is over."""
        if self._inherited:
            self.close()

    def end(self) -> None:
        """The test is over: its faults are healed, it uses no enclave any more."""
        self.item = None
        self.heal()
        for enclaves in self._all():
            enclaves.upkeep.uses.end()

    def heal(self) -> None:
        """End the faults of the test. It may be run again, as by pytest-rerunfailures, before `end`."""
        for enclaves in self._all():
            if enclaves.upkeep.is_broken:
                with self.signals.held():
                    enclaves.upkeep.heal()

    def failed(self, enclaves: Iterable[Enclave]) -> None:
        """A test that used these has failed: they may be kept for that."""
        from pytest_enclave.enclave.upkeep import FAILED

        for enclave in enclaves:
            for each in self._all():
                each.upkeep.mark(enclave, FAILED)

    def began(self, engine: Engine) -> float:
        """When the running test began, on the clock of an engine: also of one that came later."""
        return self._began.get(id(engine), self._test_began if engine.is_shared else 0.0)

    def obtain(self, demand: Demand, simulate: Any = None, *, on: Enclaves | None = None, own: bool = False) -> Enclave:
        """The enclave for a demand of the running test; one that is the test's own, and its alone, goes with it.

        It is one of the session's enclaves, or of those that it is to be `on`.

        Raises the error that ended its run; skips the test where no engine answers and `--enclave-unavailable=skip`.
        """
        __tracebackhide__ = True
        from pytest_enclave.errors import EngineUnavailable

        by = self.item.nodeid if self.item is not None else "this session"
        try:
            with self.signals.insisting(), self.telling.live():
                enclaves = on or self.enclaves(simulate, demand)
                return enclaves.obtain(demand, by, lambda enclave: self._use(enclave, enclaves, own, demand.scope))
        except KeyboardInterrupt as interrupt:
            # Without where it came in here: some of these places have no line number, which pytest cannot show.
            raise interrupt.with_traceback(None) from None
        except EngineUnavailable as error:
            if self.settings.unavailable == "skip":
                # Told at the test: where in here it was found out is nobody's business.
                raise pytest.skip.Exception(
                    f"no engine for enclaves: {error.message}", _use_item_location=True
                ) from None
            raise

    def _use(self, enclave: Enclave, enclaves: Enclaves, own: bool, scope: str) -> None:
        """Remember that the running test uses the enclave: its logs belong to the test's report."""
        if not own:
            self.handmade[enclave] = enclaves.engine
        if self.item is None:
            return
        self.item.stash.setdefault(USED, {})[enclave] = self.began(enclaves.engine)
        if own:
            self.item.stash[OWN] = enclave
        if own and enclaves.alone(enclave):
            # Also where its run fails: the fixture then never comes to its own teardown.
            self.item.addfinalizer(lambda: enclaves.release(enclave))
        elif scope:
            node = next(node for node in self.item.listchain() if node.nodeid == scope)
            if enclave not in node.stash.setdefault(GIVEN, set()):
                node.stash[GIVEN].add(enclave)
                node.addfinalizer(lambda: enclaves.release(enclave))

    def _expects_more(self, demand: Demand) -> bool:
        from pytest_enclave.face.upcoming import expects_more

        return self.item is not None and expects_more(self.item, demand, self.settings)

    def _expects_fork(self, demand: Demand) -> bool:
        from pytest_enclave.face.upcoming import forked_slots

        if self.item is None:
            return False
        if self._forked_slots is None:
            self._forked_slots = forked_slots(self.item.session.items, self.settings)
        return demand.slot in self._forked_slots

    # what is told meanwhile

    def _emit(self, enclave: Enclave, event: Event) -> None:
        __tracebackhide__ = True
        from pytest_enclave.plan.events import Forked, StepFinished

        self.telling(event)
        if isinstance(event, StepFinished):
            self.config.hook.pytest_enclave_instruction(enclave=enclave, step=event.step)
        elif isinstance(event, Forked):
            self.forks += 1
            self.config.hook.pytest_enclave_forked(enclave=enclave, origin=event.origin)

    def _before_execution(self, enclave: Enclave, plan: Plan) -> None:
        __tracebackhide__ = True
        self.telling.hide(plan)
        self.config.hook.pytest_enclave_before_execute(enclave=enclave, plan=plan)

    def _after_run(self, enclave: Enclave, run: Run) -> None:
        __tracebackhide__ = True
        self.runs.append(run)
        if self.settings.explain:
            self.explained.note(run, enclave.name, self.item)
        if run.error is None:
            self.config.hook.pytest_enclave_ready(enclave=enclave, run=run)

    @property
    def explained(self) -> Explaining:
        """What `--enclave-explain` will tell."""
        from pytest_enclave.face.explaining import Explaining

        self._explained = self._explained or Explaining()
        return self._explained

    def _before_close(self, enclave: Enclave) -> None:
        """Whatever a hook raises here, the enclave has to go; what it raised is told at the session's end."""
        try:
            self.config.hook.pytest_enclave_teardown(enclave=enclave)
        except Exception as error:
            self.complaints.append(f"pytest_enclave_teardown for {enclave.name}: {type(error).__name__}: {error}")

    # how it ends

    def finish(self, session: pytest.Session) -> None:
        """Remove every enclave, and see to the exit code. An xdist worker leaves it to its controller to tell of it."""
        self.close()
        output = getattr(self.config, "workeroutput", None)
        if output is not None and (self.runs or self.leaks or self.complaints):
            from pytest_enclave.face.summary import closing_lines

            output["enclave"] = {os.environ["PYTEST_XDIST_WORKER"]: closing_lines(self)}
            if self.settings.explain:
                output["enclave_explained"] = self.explained.packed()
        if self.signals.code is not None:
            session.exitstatus = self.signals.code
        elif self.complaints and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _all(self) -> list[Enclaves]:
        return [*self._simulated, *([self._enclaves] if self._enclaves else [])]

    def _take_over(self) -> None:
        """What workers have left is for the controller to remove or to keep."""
        from pytest_enclave.errors import EngineUnavailable

        if self._enclaves is None and is_left_with_enclaves(self.config):
            try:
                self.enclaves()
            except EngineUnavailable as error:
                self.complaints.append(f"enclaves of this session cannot be removed: {error.message}")

    def close(self) -> None:
        """Remove every enclave, and remember what could not be removed. May be called again."""
        with self.signals.held():
            self._take_over()
            for enclaves in self._all():
                self.leaks += enclaves.close()
                self.complaints += enclaves.upkeep.complaints
                self.notes += enclaves.upkeep.notes
                self.taken_over += enclaves.upkeep.taken_over
            self.kept += kept_by(self.config)
            self.notes += doubts_of(self.config)
            end(self.config)
            self._enclaves, self._without_services, self._simulated = None, None, []
            for engine in self._engines:
                self.leaks += engine.close()
            self._engines = []
            if self._jq is not None:
                self._jq.close()
            self._jq, self._tools = None, None
        self.signals.release()
