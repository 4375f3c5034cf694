"""An engine that runs nothing: services, answers and time are those of a script."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence

from pytest_enclave.engine.protocol import NO_LOGINS, EnclaveId, Leak, Probe, PullPolicy, ServiceSpec
from pytest_enclave.engine.simulated.clock import VirtualClock
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.engine.simulated.site import SimulatedSite
from pytest_enclave.errors import EngineError, EngineUnavailable, Problem
from pytest_enclave.plan.events import BuildProgress, Emit, ImageProgress
from pytest_enclave.plan.facts import Capacity
from pytest_enclave.plan.image_sources import BUILT, Build, Login
from pytest_enclave.plan.images import HOST_ROOT, only_embedded


class SimulatedEngine:
    """An `Engine` without containers, in virtual time; by default everything exists, answers and succeeds.

    `sites` are the enclaves opened so far, forks among them, by name, for a look at what they were asked.
    """

    def __init__(self, script: Script | None = None) -> None:
        self.sites: dict[str, SimulatedSite] = {}
        self._script = script or Script()
        self._clock = VirtualClock()
        self._lock = threading.Lock()
        self._pulled: set[str] = set()

    @property
    def name(self) -> str:
        """`simulated`."""
        return "simulated"

    @property
    def identity(self) -> str:
        """`simulated`: its enclaves are this process's alone."""
        return self.name

    @property
    def is_shared(self) -> bool:
        """No: they are values of this process."""
        return False

    @property
    def clock(self) -> VirtualClock:
        """The virtual time of all this engine's enclaves."""
        return self._clock

    def probe(self) -> Probe:
        """This process. Raises EngineUnavailable where the script says so."""
        if self._script.outage is not None:
            raise EngineUnavailable(
                "the simulated engine is scripted to be unavailable", tried=[(self.name, self._script.outage)]
            )
        return Probe(endpoint="in this process", why="it needs nothing")

    def local_images(self, references: Iterable[str]) -> Mapping[str, str | None]:
        """The digest of each image; None for those missing, or not local and not pulled yet."""
        return {reference: self._local(reference) for reference in references}

    def resolve_images(
        self,
        references: Iterable[str],
        policy: PullPolicy,
        emit: Emit,
        logins: Mapping[str, Login] = NO_LOGINS,
    ) -> Mapping[str, str | Problem]:
        """Have every image there, all at once in virtual time; only pulls take some. Anybody may pull."""
        wanted = list(dict.fromkeys(references))
        resolved = self._clock.map(
            lambda reference: self._resolve(reference, policy, emit), wanted, limit=max(1, len(wanted))
        )
        return dict(zip(wanted, resolved, strict=True))

    def build_images(self, builds: Iterable[Build], policy: PullPolicy, emit: Emit) -> Mapping[str, str | Problem]:
        """Have every image there, all at once in virtual time: nothing is built, digests tell what it would be of."""
        wanted = list({build.name: build for build in builds}.values())
        built = self._clock.map(lambda build: self._build(build, policy, emit), wanted, limit=max(1, len(wanted)))
        return {build.name: outcome for build, outcome in zip(wanted, built, strict=True)}

    def capacity(self) -> Capacity | None:
        """What services can be given in all, as scripted: 8 CPUs and 16 GB where nothing else is said."""
        return self._script.limits

    def check(self, spec: ServiceSpec) -> Sequence[Problem]:
        """The problems that the script has for this service; the machine's own root is no image unless it says so."""
        refused = (only_embedded(spec.name),) if self._lacks(spec.image) else ()
        return (*refused, *self._script.behaviour_of(spec.name).problems)

    def prepare(self, services: Collection[str]) -> None:
        """There is nothing to prepare."""

    def open(self, enclave: EnclaveId, services: Collection[str] = ()) -> SimulatedSite:
        """A new, empty enclave."""
        site = SimulatedSite(enclave, self._clock, self._script, self._know)
        self._know(site)
        return site

    def attach(self, enclave: EnclaveId) -> SimulatedSite:
        """Raises EngineError: other processes' enclaves are not to be seen here."""
        raise EngineError(f"there is no enclave {enclave.name}: simulated ones are shared with no other process")

    def remove(self, enclave: EnclaveId) -> Sequence[Leak]:
        """There is nothing to remove: what is simulated ends with its process."""
        return []

    def close(self) -> Sequence[Leak]:
        """Nothing to let go of: `sites` stay to be looked at."""
        return []

    def _know(self, site: SimulatedSite) -> None:
        with self._lock:
            self.sites[site.enclave.name] = site

    def _lacks(self, reference: str) -> bool:
        return reference == HOST_ROOT and reference not in self._script.images

    def _local(self, reference: str) -> str | None:
        if self._lacks(reference):
            return None
        image = self._script.image_of(reference)
        local = image.local and not reference.startswith(f"{BUILT}/")
        with self._lock:
            return image.digest if local or reference in self._pulled else None

    def _build(self, build: Build, policy: PullPolicy, emit: Emit) -> str | Problem:
        local = self._local(build.name)
        if local is not None and policy is not PullPolicy.ALWAYS:
            return local
        scripted = self._script.build_of(build.title)
        emit(BuildProgress(build.title, step=1, steps=1))
        takes = self._script.times.build if scripted.takes is None else scripted.takes
        self._clock.advance(takes)
        if scripted.fails is not None:
            return Problem(
                f"image `{build.title}` cannot be built: {scripted.fails}",
                subject=f"image `{build.title}`",
                remedy="let the script of the simulated engine build it",
            )
        with self._lock:
            self._pulled.add(build.name)
        emit(BuildProgress(build.title, step=1, steps=1, done=True, duration=takes))
        return self._script.image_of(build.name).digest

    def _resolve(self, reference: str, policy: PullPolicy, emit: Emit) -> str | Problem:
        if self._lacks(reference):
            return only_embedded(reference)
        local = self._local(reference)
        if local is not None and policy is not PullPolicy.ALWAYS:
            return local
        image = self._script.image_of(reference)
        reason = "not local, and not to be pulled" if policy is PullPolicy.NEVER else image.missing
        if reason is not None:
            return Problem(
                f"image `{reference}` cannot be had: {reason}",
                subject=f"image `{reference}`",
                remedy="correct its name, or let the script of the simulated engine have it",
            )
        emit(ImageProgress(reference, current=0, total=0))
        self._clock.advance(self._script.times.pull if image.pull_takes is None else image.pull_takes)
        with self._lock:
            self._pulled.add(reference)
        emit(ImageProgress(reference, current=0, total=0, done=True))
        return image.digest
