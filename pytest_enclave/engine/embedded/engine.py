"""The embedded engine: services as plain processes, in namespaces that this user may make."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_enclave import cache
from pytest_enclave.engine.clock import RealClock
from pytest_enclave.engine.embedded.launching import Enclosure, Launcher, remove_enclave
from pytest_enclave.engine.embedded.probe import examine, examine_again, unavailable
from pytest_enclave.engine.embedded.site import EmbeddedSite, Frozen
from pytest_enclave.engine.embedded.ways_out import WaysOut
from pytest_enclave.engine.http import HttpClient
from pytest_enclave.engine.protocol import NO_LOGINS, Clock, EnclaveId, Leak, Probe, PullPolicy, ServiceSpec
from pytest_enclave.errors import EngineError, Problem
from pytest_enclave.plan.events import Emit, Warned
from pytest_enclave.plan.facts import Capacity
from pytest_enclave.plan.image_sources import Build, Login
from pytest_enclave.plan.images import HOST_ROOT

if TYPE_CHECKING:
    from pytest_enclave.images.resolve import ImageSources
    from pytest_enclave.images.store import ImageStore

MEGABYTE = 1 << 20


class EmbeddedEngine:
    """Services without a daemon and without root. Nothing runs before the first enclave is prepared or opened.

    `mirror` is a prefix tried first for images that name no registry; without `egress` services have no way out;
    `docker_endpoint` finds a Docker engine whose images may be taken, None if there is none. `storage` is where
    services' files are kept: `tmpfs` or `disk`; None: in memory where the kernel can. `store` has the images' layers.
    """

    name = "embedded"

    def __init__(
        self,
        environ: Mapping[str, str] | None = None,
        *,
        mirror: str = "",
        egress: bool = True,
        docker_endpoint: Callable[[], str | None] = lambda: None,
        storage: str | None = None,
        store: Path | None = None,
    ) -> None:
        self._environ = dict(os.environ if environ is None else environ)
        self._mirror = mirror
        self._egress = egress
        self._docker_endpoint = docker_endpoint
        self._storage = storage
        self._store_root = store or cache.directory(self._environ, "images")
        self._clock = RealClock()
        self._http = HttpClient()
        self._launcher = Launcher()
        self._ways_out = WaysOut()
        self._lock = threading.Lock()
        self._images: ImageStore | None = None
        self._sources: ImageSources | None = None
        self._asked: set[str] = set()
        self._groups: bool | None = None

    @property
    def identity(self) -> str:
        """Enclaves are found by their homes, on whichever; settings tell how they are made."""
        egress = "on" if self._egress else "off"
        return f"embedded egress={egress} storage={self._storage or 'any'} mirror={self._mirror}"

    @property
    def is_shared(self) -> bool:
        """Yes: they are processes of their own."""
        return True

    @property
    def clock(self) -> Clock:
        """The machine's own."""
        return self._clock

    def probe(self) -> Probe:
        """As whom services run. Tries it out, once a process. Raises EngineUnavailable, with what is missing."""
        examination = examine()
        if examination.refusal is not None:
            raise unavailable(examination.refusal)
        return Probe(examination.endpoint, "--enclave-engine=embedded")

    def local_images(self, references: Iterable[str]) -> Mapping[str, str | None]:
        """The digest of each image that is there, None for others.

        A local Docker is asked once for each that is not there, or that came from it.
        """
        wanted = list(references)
        found: dict[str, str | None] = {reference: HOST_ROOT for reference in wanted if reference == HOST_ROOT}
        if len(found) == len(set(wanted)):
            return found
        store = self._store()
        for reference in wanted:
            image = store.find(reference) if reference in self._asked else store.settled(reference)
            if image is not None:
                found[reference] = image.digest
        unknown = [reference for reference in wanted if reference not in found]
        if unknown:
            found.update(self._image_sources().local(unknown))
        self._asked.update(reference for reference in wanted if found[reference])
        return found

    def resolve_images(
        self,
        references: Iterable[str],
        policy: PullPolicy,
        emit: Emit,
        logins: Mapping[str, Login] = NO_LOGINS,
    ) -> Mapping[str, str | Problem]:
        """Have every image there, four at a time: its digest, or why it cannot be had.

        What is known by then of enclaves without a way out is told as well: here users listen.
        """
        wanted = list(references)
        fetched = [each for each in wanted if each != HOST_ROOT]
        found = self._image_sources().resolve(fetched, policy, emit, logins) if fetched else {}
        for problem in self._ways_out.missing():
            emit(Warned(problem))
        return {reference: found.get(reference, HOST_ROOT) for reference in wanted}

    def build_images(self, builds: Iterable[Build], policy: PullPolicy, emit: Emit) -> Mapping[str, str | Problem]:
        """Have every image there: its digest, or why it cannot be built. By a local Docker, or here if none answers."""
        # Most packages build nothing.
        from pytest_enclave.engine.embedded.building import Builder

        return Builder(self._image_sources(), self.open).build(builds, policy, emit)

    def capacity(self) -> Capacity:
        """All CPU and memory of this machine, whatever else runs here."""
        cpus = len(os.sched_getaffinity(0))
        return Capacity(cpus * 1000, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MEGABYTE)

    def check(self, spec: ServiceSpec) -> Sequence[Problem]:
        """What of this service the engine cannot do: warnings and errors, with a remedy."""
        # Only what is going to be started is checked.
        from pytest_enclave.engine.embedded.limits import problems_of
        from pytest_enclave.linux.cgroups import Cgroups

        if self._groups is None:
            self._groups = Cgroups.find() is not None
        return problems_of(spec, self.capacity(), groups=self._groups)

    def prepare(self, services: Collection[str]) -> None:
        """Start the process that enclaves are forked from; from then on one is there in milliseconds."""
        self._launcher.prepare()

    def open(self, enclave: EnclaveId, services: Collection[str] = ()) -> EmbeddedSite:
        """A new, empty enclave."""
        return self._open(enclave)

    def attach(self, enclave: EnclaveId) -> EmbeddedSite:
        """An enclave that another process of this user has made: it lives for this holder, and is kept no more.

        Raises EngineError if it is gone.
        """
        enclosure = Enclosure.join(enclave.name, self._directory(enclave), enclave.home, [self._files(enclave.name)])
        try:
            enclosure.hold(enclave.holder)
        except BaseException:
            enclosure.leave()
            raise
        return EmbeddedSite(enclosure, self._http, self._prepare, self._fork)

    def remove(self, enclave: EnclaveId) -> Sequence[Leak]:
        """End an enclave, whoever made it and uses it, or remove what is left of it; what could not be removed."""
        files = [self._files(enclave.name)]
        return remove_enclave(enclave.name, self._directory(enclave), enclave.home, files)

    def close(self) -> Sequence[Leak]:
        """Let go of the launcher and of connections. The engine is not used afterwards."""
        self._launcher.close()
        self._http.close()
        return []

    def _open(self, enclave: EnclaveId, origin: Frozen | None = None) -> EmbeddedSite:
        # An enclave of the same name may have forks that still need its files.
        unique = f"{enclave.name}-{os.urandom(4).hex()}"
        plan = {
            "name": enclave.name,
            "directory": self._directory(enclave),
            "home": enclave.home,
            "storage": self._storage,
            "egress": {"servers": None} if self._egress else None,
            "inherited": origin.directories if origin else {},
            "shape": origin.shape if origin and "error" not in origin.shape else {},
            "files": [*(origin.files if origin else ()), self._files(unique)],
        }
        try:
            enclosure = self._launcher.open(plan, enclave.holder, origin.namespaces if origin else ())
        except EngineError:
            if (refusal := examine_again().refusal) is not None:
                raise unavailable(refusal) from None
            raise
        if self._egress:
            self._ways_out.ask(enclave.name, enclosure.client)
        return EmbeddedSite(enclosure, self._http, self._prepare, self._fork)

    def _fork(self, enclave: EnclaveId, origin: Frozen) -> EmbeddedSite:
        site = self._open(enclave, origin)
        try:
            site.adopt(origin.services)
        except BaseException:
            site.close()
            raise
        return site

    def _directory(self, enclave: EnclaveId) -> str:
        """Where an enclave has its socket: it is found by its home alone, in whatever session."""
        if enclave.home:
            return f"{enclave.home}/embedded"
        return str(run_directory(self._environ) / enclave.name)

    def _files(self, name: str) -> str:
        return str(self._store_root.parent / "files" / name)

    def _prepare(self, spec: ServiceSpec) -> dict[str, Any]:
        from pytest_enclave.engine.embedded.roots import start_spec

        return start_spec(spec, lambda reference: self._store().find(reference))

    def _store(self) -> ImageStore:
        # Many sessions need no image: services run from `host:/`.
        from pytest_enclave.images.store import ImageStore
        from pytest_enclave.linux.identity import own_map

        with self._lock:
            if self._images is None:
                self._images = ImageStore(self._store_root, own_map())
            return self._images

    def _image_sources(self) -> ImageSources:
        # Most find all images in the store, and need not look for a local Docker.
        from pytest_enclave.images.resolve import ImageSources

        store = self._store()
        with self._lock:
            if self._sources is None:
                daemon = self._docker_endpoint()
                self._sources = ImageSources(store, self._mirror, daemon, environ=self._environ)
            return self._sources


def run_directory(environ: Mapping[str, str]) -> Path:
    """Where enclaves without a home have their sockets: a directory that is this user's alone."""
    base = environ.get("XDG_RUNTIME_DIR") or ""
    # That of another user, as it stays set with sudo, is not for us.
    if base and os.path.isdir(base) and os.stat(base).st_uid == os.getuid() and os.access(base, os.W_OK):
        return Path(base, "pytest-enclave")
    return Path(tempfile.gettempdir(), f"pytest-enclave-{os.getuid()}")
