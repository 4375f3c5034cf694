"""The Docker engine: found without the SDK, connected to when first needed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pytest_enclave.engine.clock import RealClock
from pytest_enclave.engine.docker.client import Client
from pytest_enclave.engine.docker.connection import connect
from pytest_enclave.engine.docker.discovery import Found, find_engine, is_told
from pytest_enclave.engine.docker.images import Images
from pytest_enclave.engine.docker.limits import MEGABYTE, problems_of
from pytest_enclave.engine.docker.loading import Archives
from pytest_enclave.engine.docker.networks import NetworkPlan, find_network
from pytest_enclave.engine.docker.notes import Notes
from pytest_enclave.engine.docker.owners import Owner
from pytest_enclave.engine.docker.reaper import Reaper
from pytest_enclave.engine.docker.shape import ShaperPlan
from pytest_enclave.engine.docker.site import CLOSING, DockerSite, SitePlan
from pytest_enclave.engine.docker.subnets import POOLS
from pytest_enclave.engine.docker.translation import translate
from pytest_enclave.engine.http import HttpClient
from pytest_enclave.engine.protocol import NO_LOGINS, Clock, EnclaveId, Leak, Probe, PullPolicy, ServiceSpec
from pytest_enclave.errors import EngineError, Problem
from pytest_enclave.plan.events import Emit
from pytest_enclave.plan.facts import Capacity
from pytest_enclave.plan.image_sources import Build, Login
from pytest_enclave.plan.images import HOST_ROOT, only_embedded

if TYPE_CHECKING:
    from docker import APIClient

    from pytest_enclave.engine.docker.pool import Pool

REMOVAL_CALL = 15.0
"""Seconds that one call may take while an enclave is removed."""


class DockerEngine:
    """Services as containers. Nothing is asked of the engine before the first method is called.

    `host` is where users say it is, else it is looked for (`discovery`) by `environ`. `mirror` is a prefix tried
    first for images that name no registry; a pull that stands still for `stall` seconds is given up. `pools` are
    the address ranges that enclaves' networks are cut from; without `egress` they have no way out.
    `publish` and `bind_mounts` force how services are reached and how artifacts get there; None: what works. `shaper`
    says how traffic between services is shaped.
    """

    name = "docker"

    def __init__(
        self,
        host: str | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        mirror: str = "",
        stall: float = 60.0,
        pools: Sequence[IPv4Network] = POOLS,
        egress: bool = True,
        publish: bool | None = None,
        bind_mounts: bool | None = None,
        shaper: ShaperPlan | None = None,
    ) -> None:
        self._host = host
        self._environ = dict(os.environ if environ is None else environ)
        self._mirror = mirror
        self._stall = stall
        self._egress = egress
        self._network = partial(NetworkPlan, pools=pools, egress=egress, publish=publish)
        self._bind_mounts = bind_mounts
        self._shaper = shaper or ShaperPlan.of(None, mirror)
        self._archives = Archives()
        self._clock = RealClock()
        self._http = HttpClient()
        self._lock = threading.RLock()
        self._found: Found | None = None
        self._client: Client | None = None
        self._remover: APIClient | None = None
        self._asking = threading.Lock()
        self._info: Mapping[str, object] | None = None
        self._pool: Pool | None = None
        self._reaper: Reaper | None = None

    @property
    def identity(self) -> str:
        """The engine's endpoint, and whether enclaves have a way out. Raises EngineUnavailable."""
        return f"docker {self._find().probe.endpoint} egress={'on' if self._egress else 'off'}"

    @property
    def is_shared(self) -> bool:
        """Yes: they are on the engine."""
        return True

    @property
    def clock(self) -> Clock:
        """The machine's own."""
        return self._clock

    def probe(self) -> Probe:
        """Where the engine is. Starts nothing. Raises EngineUnavailable, with all that was tried."""
        return self._find().probe

    def local_images(self, references: Iterable[str]) -> Mapping[str, str | None]:
        """The ID of each image the engine has, None for one it does not have."""
        return self._images().local(references)

    def resolve_images(
        self,
        references: Iterable[str],
        policy: PullPolicy,
        emit: Emit,
        logins: Mapping[str, Login] = NO_LOGINS,
    ) -> Mapping[str, str | Problem]:
        """Have every image there, four at a time: its ID, or why it cannot be had."""
        return self._images().resolve(references, policy, emit, logins)

    def build_images(self, builds: Iterable[Build], policy: PullPolicy, emit: Emit) -> Mapping[str, str | Problem]:
        """Have every image there, two at a time: its ID, or why it cannot be built."""
        # Most packages build nothing.
        from pytest_enclave.engine.docker.building import Builder

        return Builder(self._connected().sdk, self._images(), self._environ).build(builds, policy, emit)

    def capacity(self) -> Capacity:
        """All CPU and memory of the engine's machine, whatever else runs there."""
        info = self._information()
        return Capacity(int(str(info["NCPU"])) * 1000, int(str(info["MemTotal"])) // MEGABYTE)

    def check(self, spec: ServiceSpec) -> Sequence[Problem]:
        """What of this service the engine cannot do: warnings and errors, with a remedy."""
        refused = [only_embedded(spec.name)] if spec.image == HOST_ROOT else []
        return [*refused, *problems_of(spec, self.capacity())]

    def prepare(self, services: Collection[str]) -> None:
        """Get a network with a pod for each service ready, in the background, where that is possible."""
        # An engine that is lost is told of by whatever needs it next.
        with self._lock, suppress(EngineError):
            if self._pool is None and self._poolable():
                # Most sessions share one enclave.
                from pytest_enclave.engine.docker.plots import Ground, Plot
                from pytest_enclave.engine.docker.pool import Pool

                ground = Ground(self._connected().sdk, self._removing, self._networks(), self._architecture())
                self._pool = Pool(partial(Plot, ground))
            if self._pool is not None:
                self._pool.prepare(services)

    def settled(self, timeout: float) -> bool:
        """Wait until all that is being prepared is ready; whether that is so (seconds)."""
        pool = self._pool
        return pool is None or pool.settled(timeout)

    def open(self, enclave: EnclaveId, services: Collection[str] = ()) -> DockerSite:
        """A new, empty enclave: on a network that is ready for these services, or one made in the background."""
        self._guard()
        with self._lock:
            if self._reaper is not None:
                self._reaper.hasten()
        # An engine that does not tell this is of no use, and that is known before anything is made.
        self._information()
        pool, plan = self._pool, self._plan()
        if pool is not None and (plot := pool.take(services)):
            plan = replace(plan, plot=plot, give_back=pool.give_back)
        return DockerSite(self._connected(), enclave, plan, self._http, self._removing)

    def attach(self, enclave: EnclaveId) -> DockerSite:
        """An enclave that another process has made, or an earlier session (`Engine.attach`). Raises EngineError."""
        self._guard()
        # The engine takes its time to tell, and the first run will ask.
        threading.Thread(target=self._ask_early, name="what the engine is like", daemon=True).start()
        Notes(enclave.home).await_network()
        network = find_network(self._connected(), enclave.name, self._networks())
        return DockerSite(self._connected(), enclave, replace(self._plan(), found=network), self._http, self._removing)

    def remove(self, enclave: EnclaveId) -> Sequence[Leak]:
        """Remove all that there is of an enclave, within half a minute (`Engine.remove`)."""
        from pytest_enclave.engine.docker.local_shaper import end_shaper
        from pytest_enclave.engine.docker.sweeping import remove_all

        end_shaper(enclave.home)
        endpoint = self._find().probe.endpoint
        return remove_all(self._removing(), endpoint, enclave.name, time.monotonic() + CLOSING)

    def close(self) -> Sequence[Leak]:
        """Let go of connections, and of all that was prepared. The engine is not used afterwards."""
        with self._lock:
            pool, self._pool = self._pool, None
        leaks = pool.close() if pool is not None else []
        self._http.close()
        with self._lock:
            if self._reaper is not None:
                self._reaper.dismiss()
                self._reaper = None
            for client in (self._client, self._remover):
                if client is not None:
                    client.close()
        return leaks

    def _guard(self) -> None:
        """From now on, what this process leaves when it is killed is removed, and so is what others have left."""
        told = self._host or is_told(None, self._environ)
        with self._lock:
            if self._reaper is None and Owner.this_process().is_known:
                self._reaper = Reaper(self._host or "" if told else self._find().probe.endpoint, self._environ)

    def _find(self) -> Found:
        with self._lock:
            if self._found is None:
                self._found = find_engine(self._host, self._environ)
            return self._found

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                self._client = Client.of(self._find(), self._environ)
            return self._client

    def _removing(self) -> APIClient:
        """A client whose calls end soon: a removal must not hang."""
        with self._lock:
            if self._remover is None:
                self._remover = connect(self._find(), self._environ, timeout=REMOVAL_CALL)
            return self._remover

    def _images(self) -> Images:
        return Images(self._connected(), self._mirror, self._stall, self._archives)

    def _information(self) -> Mapping[str, object]:
        client = self._connected()
        with self._asking:
            if self._info is None:
                with translate("cannot ask the Docker engine about itself"):
                    self._info = client.info()
            return self._info

    def _ask_early(self) -> None:
        # Whoever needs it asks again.
        with suppress(EngineError):
            self._information()

    def _plan(self) -> SitePlan:
        return SitePlan(self._networks(), self._binds, self.capacity, archives=self._archives, shaper=self._shaper)

    def _networks(self) -> NetworkPlan:
        return self._network(self._find().probe.endpoint)

    def _architecture(self) -> str:
        return str(self._information().get("Architecture"))

    def _poolable(self) -> bool:
        """Whether pods may work: services are reached at their own addresses, and the engine sees our files."""
        from pytest_enclave.engine.docker.pause import MACHINES

        return not self._networks().publish and self._binds() and self._architecture() in MACHINES

    def _binds(self) -> bool:
        """Whether artifacts may be bind-mounted.

        Not where the engine is another machine; nor with SELinux, where services could not read our files unless
        these were relabelled, which is not ours to do.
        """
        if self._bind_mounts is not None:
            return self._bind_mounts
        options = self._information().get("SecurityOptions") or []
        confined = any("selinux" in str(option) for option in options) if isinstance(options, list) else False
        return self._find().probe.endpoint.startswith("unix://") and not confined
