"""Having images there: looked up on the engine, pulled if need be, and why one cannot be had."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

import msgspec

from pytest_enclave.engine.clock import RealClock
from pytest_enclave.engine.docker.client import Client
from pytest_enclave.engine.docker.loading import Archives, Unloadable
from pytest_enclave.engine.docker.pull_failures import PullFailed, problem_of
from pytest_enclave.engine.docker.pulling import Puller
from pytest_enclave.engine.docker.translation import Refused, translate
from pytest_enclave.engine.protocol import NO_LOGINS, PullPolicy
from pytest_enclave.errors import EngineError, Problem
from pytest_enclave.plan.events import Emit, Warned
from pytest_enclave.plan.image_sources import Login
from pytest_enclave.plan.images import HOST_ROOT, Archive, only_embedded

AT_A_TIME = 4
"""Images that are pulled at the same time (behaviour.md §5.4)."""

SIMILAR = 3
"""Local images that are named when one is not found."""


class Images(msgspec.Struct, frozen=True):
    """The engine's images. `mirror` is a prefix that is tried in front of references that name no registry.

    A pull that stands still for `stall` seconds is given up. `archives` are those of packages.
    """

    client: Client
    mirror: str = ""
    stall: float = 60.0
    archives: Archives = msgspec.field(default_factory=Archives)

    def name_of(self, reference: str) -> str | None:
        """What the engine calls the image, None where it cannot have it."""
        if reference == HOST_ROOT:
            return None
        archive = Archive.of(reference)
        try:
            return reference if archive is None else self.archives.name_of(archive)
        except Unloadable:
            return None

    def digest(self, reference: str) -> str | None:
        """The ID of the image, None where the engine does not have it. Raises EngineError."""
        name = self.name_of(reference)
        if name is None:
            return None
        try:
            with translate(f'cannot look up image "{reference}"'):
                return str(self.client.inspect_image(name)["Id"])
        except Refused as refused:
            if refused.status in (400, 404):
                return None
            raise

    def local(self, references: Iterable[str]) -> Mapping[str, str | None]:
        """The ID of each image, None for those that the engine does not have. Raises EngineError."""
        wanted = list(dict.fromkeys(references))
        return dict(zip(wanted, RealClock().map(self.digest, wanted, AT_A_TIME), strict=True))

    def resolve(
        self, references: Iterable[str], policy: PullPolicy, emit: Emit, logins: Mapping[str, Login] = NO_LOGINS
    ) -> Mapping[str, str | Problem]:
        """Have every image there: its ID, or why it cannot be had. Raises EngineError if the engine is lost."""
        wanted = list(dict.fromkeys(references))
        puller = Puller(self.client, self.mirror, self.stall, emit, logins)
        try:
            found = RealClock().map(lambda reference: self._resolve(reference, policy, puller, emit), wanted, AT_A_TIME)
        except BaseException:
            puller.cancel()
            raise
        return dict(zip(wanted, found, strict=True))

    def _resolve(self, reference: str, policy: PullPolicy, puller: Puller, emit: Emit) -> str | Problem:
        if reference == HOST_ROOT:
            return only_embedded(reference)
        local = self.digest(reference)
        if archive := Archive.of(reference):
            return local or self._load(reference, archive)
        if policy is PullPolicy.NEVER or (policy is PullPolicy.MISSING and local):
            return local or self._not_local(reference)
        try:
            puller.pull(reference)
        except PullFailed as failed:
            problem = problem_of(reference, failed, self.similar(reference), puller.logins.get(reference))
            if local is None:
                return problem
            emit(Warned(_stale(reference, problem)))
        return self.digest(reference) or self._not_local(reference)

    def _load(self, reference: str, archive: Archive) -> str | Problem:
        try:
            self.archives.load(self.client.sdk, archive)
        except Unloadable as no:
            return Problem(f'image "{reference}": {no.reason}', subject=reference, remedy=no.remedy)
        return self.digest(reference) or Problem(
            f'image "{reference}": the engine loaded it, but does not have it', subject=reference
        )

    def similar(self, reference: str) -> list[str]:
        """Local images with a name like that; none where the engine does not tell."""
        try:
            with translate("cannot list images"):
                images = self.client.sdk.images()
        except EngineError:
            return []
        tags = [tag for image in images for tag in image.get("RepoTags") or () if "<none>" not in tag]
        return get_close_matches(reference, tags, SIMILAR, cutoff=0.6)

    def _not_local(self, reference: str) -> Problem:
        similar = self.similar(reference)
        there = f"; the engine has {', '.join(similar)}" if similar else ""
        return Problem(
            f'image "{reference}" is not on the engine, and pulling is off{there}',
            subject=reference,
            remedy=f"`docker pull {reference}`, or let it be pulled when it is missing",
        )


def _stale(reference: str, problem: Problem) -> Problem:
    return Problem(
        f"{problem.message}; the image that the engine already has is used",
        subject=reference,
        remedy=problem.remedy,
        severity="warning",
    )
