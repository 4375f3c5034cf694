"""Images built from a package's Dockerfile: by a local Docker, whose images this engine takes, or else here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from threading import Event
from typing import Any

import msgspec

from pytest_enclave.engine.clock import RealClock
from pytest_enclave.engine.embedded.dockerfile import SILENCE, DockerfileBuild
from pytest_enclave.engine.embedded.site import EmbeddedSite
from pytest_enclave.engine.protocol import EnclaveId, PullPolicy
from pytest_enclave.errors import Problem
from pytest_enclave.images.building import BuildFailed, BuildLog, headers, parameters, write_context
from pytest_enclave.images.daemon import Daemon
from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.layers import Interrupted
from pytest_enclave.images.resolve import AT_A_TIME, ImageSources
from pytest_enclave.plan.events import Emit
from pytest_enclave.plan.image_sources import Build


class Builder(msgspec.Struct, frozen=True):
    """Builds images into the store of `sources`; `open_site` makes an enclave for what a Dockerfile runs."""

    sources: ImageSources
    open_site: Callable[[EnclaveId], EmbeddedSite]

    def build(self, builds: Iterable[Build], policy: PullPolicy, emit: Emit) -> Mapping[str, str | Problem]:
        """Have every image there: its digest, or why it cannot be built."""
        wanted = {build.name: build for build in builds}
        found = self.sources.local(wanted)
        missing = [wanted[name] for name, digest in found.items() if digest is None or policy is PullPolicy.ALWAYS]
        outcomes: dict[str, str | Problem] = {name: digest for name, digest in found.items() if digest}
        if not missing:
            return outcomes
        daemon = Daemon(self.sources.daemon) if self.sources.daemon else None
        builder = daemon if daemon is not None and daemon.answers() else None
        cancelled = Event()
        try:
            built = RealClock().map(lambda each: self._have(each, builder, policy, emit, cancelled), missing, AT_A_TIME)
        except BaseException:
            cancelled.set()
            raise
        return outcomes | {build.name: outcome for build, outcome in zip(missing, built, strict=True)}

    def _have(
        self, build: Build, daemon: Daemon | None, policy: PullPolicy, emit: Emit, cancelled: Event
    ) -> str | Problem:
        log = BuildLog(build, emit)
        try:
            log.review()
            if daemon is not None:
                self._by(daemon, build, policy, log, cancelled)
            else:
                DockerfileBuild(build, self.sources, self.open_site, policy, emit, log, cancelled).run()
        except BuildFailed as failed:
            return failed.problem
        except ImageFault as fault:
            return log.problem(fault.meaning, fault.remedy or ("" if daemon is None else None))
        except Interrupted:
            return log.problem("it was interrupted", "")
        log.done()
        return self.sources.resolve([build.name], PullPolicy.NEVER, emit)[build.name]

    def _by(self, daemon: Daemon, build: Build, policy: PullPolicy, log: BuildLog, cancelled: Event) -> None:
        with tempfile.TemporaryFile() as context:
            write_context(build, context)
            context.seek(0)
            asked = parameters(build, pull=policy is PullPolicy.ALWAYS)
            with closing(daemon.build(asked, headers(build, self.sources.environ), context, SILENCE)) as told:
                log.follow(_until(told, cancelled))


def _until(messages: Iterator[dict[str, Any]], cancelled: Event) -> Iterator[dict[str, Any]]:
    for message in messages:
        if cancelled.is_set():
            raise ImageFault("it was interrupted")
        yield message
