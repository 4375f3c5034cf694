"""Images that the engine builds from a package's Dockerfile, each of the same context only once."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from threading import Event
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_enclave.engine.clock import RealClock
from pytest_enclave.engine.docker.images import AT_A_TIME, Images
from pytest_enclave.engine.docker.translation import Refused, Unanswered, accepted, translate
from pytest_enclave.engine.protocol import PullPolicy
from pytest_enclave.errors import Problem
from pytest_enclave.images.building import BuildFailed, BuildLog, headers, parameters, write_context
from pytest_enclave.images.faults import ImageFault
from pytest_enclave.plan.events import Emit
from pytest_enclave.plan.image_sources import Build

if TYPE_CHECKING:
    from docker import APIClient

SILENCE = 1800.0
"""Seconds that a step may write nothing: compilers can be silent for long."""


class Builder(msgspec.Struct, frozen=True):
    """Builds on the engine; `images` are those that it has, `environ` says where Docker's configuration is."""

    client: APIClient
    images: Images
    environ: Mapping[str, str]

    def build(self, builds: Iterable[Build], policy: PullPolicy, emit: Emit) -> Mapping[str, str | Problem]:
        """Have every image there: its ID, or why it cannot be built. Raises EngineError if the engine is lost."""
        wanted = list({build.name: build for build in builds}.values())
        cancelled = Event()
        try:
            built = RealClock().map(lambda build: self._have(build, policy, emit, cancelled), wanted, AT_A_TIME)
        except BaseException:
            cancelled.set()
            raise
        return {build.name: outcome for build, outcome in zip(wanted, built, strict=True)}

    def _have(self, build: Build, policy: PullPolicy, emit: Emit, cancelled: Event) -> str | Problem:
        local = self.images.digest(build.name)
        if local and policy is not PullPolicy.ALWAYS:
            return local
        log = BuildLog(build, emit)
        try:
            log.review()
            with closing(self._messages(build, policy, cancelled)) as messages:
                log.follow(messages)
        except BuildFailed as failed:
            return failed.problem
        except ImageFault as fault:
            return log.problem(fault.meaning, fault.remedy or None)
        except Refused as refused:
            return log.problem(refused.explanation)
        log.done()
        return self.images.digest(build.name) or log.problem("the engine built it, but does not have it")

    def _messages(self, build: Build, policy: PullPolicy, cancelled: Event) -> Generator[dict[str, Any], None, None]:
        """What the engine says during the build. Closing the connection ends it."""
        with tempfile.TemporaryFile() as context:
            write_context(build, context)
            context.seek(0)
            try:
                with translate(f"cannot build image `{build.title}`"):
                    response = self.client.post(
                        f"{self.client.base_url}/v{self.client.api_version}/build",
                        params=parameters(build, pull=policy is PullPolicy.ALWAYS),
                        headers=headers(build, self.environ),
                        data=context,
                        stream=True,
                        timeout=(10, SILENCE),
                    )
                    with accepted(response):
                        for line in response.iter_lines():
                            if cancelled.is_set():
                                raise ImageFault("it was interrupted")
                            if line:
                                yield json.loads(line)
            except Unanswered:
                if cancelled.is_set():
                    raise ImageFault("it was interrupted") from None
                raise
