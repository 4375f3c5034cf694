"""Having images there: in the store already, from an archive, from a local Docker, or from their registries."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import msgspec

from pytest_enclave.engine.clock import RealClock
from pytest_enclave.engine.protocol import NO_LOGINS, PullPolicy
from pytest_enclave.errors import Problem
from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.image import StoredImage
from pytest_enclave.images.layers import Interrupted
from pytest_enclave.images.patience import Patience
from pytest_enclave.images.references import ArchiveReference, parse
from pytest_enclave.images.store import FROM_DAEMON, ImageStore
from pytest_enclave.plan.events import Emit, Warned, silent
from pytest_enclave.plan.image_sources import WRONG_LOGIN, Login

if TYPE_CHECKING:
    from pytest_enclave.images.daemon import Daemon, DaemonImage
    from pytest_enclave.images.pulling import Puller

AT_A_TIME = 4
"""Images that are pulled at the same time (behaviour.md §5.4)."""

SIMILAR = 3
"""Images of the store that are named when one is not found."""


class ImageSources(msgspec.Struct, frozen=True):
    """Where images come from. `daemon` is the address of a local Docker whose images count as local ones.

    `mirror` is a prefix that is tried in front of references that name no registry. `environ` tells where Docker's
    configuration is, with the credentials for registries.
    """

    store: ImageStore
    mirror: str = ""
    daemon: str | None = None
    patience: Patience = msgspec.field(default_factory=Patience)
    environ: Mapping[str, str] = msgspec.field(default_factory=lambda: dict(os.environ))

    def local(self, references: Iterable[str]) -> Mapping[str, str | None]:
        """The ID of each image, None for those that would have to be pulled, or cannot be had at all."""
        wanted = list(dict.fromkeys(references))
        known = {each: image.digest for each in wanted if (image := self._current(each))}
        others = self.resolve([each for each in wanted if each not in known], PullPolicy.NEVER, silent)
        return {each: known.get(each) or _digest(others[each]) for each in wanted}

    def resolve(
        self, references: Iterable[str], policy: PullPolicy, emit: Emit, logins: Mapping[str, Login] = NO_LOGINS
    ) -> Mapping[str, str | Problem]:
        """Have every image there: its ID, or why it cannot be had. `logins` are for single references."""
        wanted = list(dict.fromkeys(references))
        if not wanted:
            return {}
        # Most sessions find all images as they were.
        from pytest_enclave.images.pulling import Puller
        from pytest_enclave.images.transport import Transport

        cancelled = Event()
        transport = Transport(self.patience, cancelled)
        puller = Puller(self.store, transport, self.environ, emit, cancelled, self.mirror, logins)
        try:
            found = RealClock().map(lambda each: self._resolve(each, policy, puller), wanted, AT_A_TIME)
        except BaseException:
            cancelled.set()
            raise
        finally:
            transport.close()
        return dict(zip(wanted, found, strict=True))

    def _resolve(self, reference: str, policy: PullPolicy, puller: Puller) -> str | Problem:
        try:
            meant = parse(reference)
            if isinstance(meant, ArchiveReference):
                return self._from_archive(reference, meant, puller.cancelled).digest
            local = self._local(reference, puller)
        except ImageFault as fault:
            return self._problem(reference, fault)
        except Interrupted:
            return self._problem(reference, ImageFault("it was interrupted"))
        if policy is PullPolicy.NEVER or (policy is PullPolicy.MISSING and local):
            return local.digest if local else self._not_local(reference)
        return self._pull(reference, local, puller)

    def _pull(self, reference: str, local: StoredImage | None, puller: Puller) -> str | Problem:
        try:
            puller.pull(reference)
        except (ImageFault, Interrupted) as failed:
            fault = failed if isinstance(failed, ImageFault) else ImageFault("it was interrupted")
            if reference in puller.logins and "docker login" in fault.remedy:
                fault = ImageFault(fault.meaning, WRONG_LOGIN)
            problem = self._problem(reference, fault)
            if local is None:
                return problem
            puller.emit(Warned(_stale(reference, problem)))
        image = self.store.find(reference)
        return image.digest if image else self._not_local(reference)

    def _from_archive(self, reference: str, meant: ArchiveReference, cancelled: Event) -> StoredImage:
        return self.store.find(reference) or self.store.take(Path(meant.path), reference, cancelled=cancelled)

    def _current(self, reference: str) -> StoredImage | None:
        """The image from the store, if that is the one that counts."""
        try:
            if isinstance(parse(reference), ArchiveReference):
                return None
        except ImageFault:
            return None
        image = self.store.find(reference)
        return image if image and self._newer(reference, image) is None else None

    def _local(self, reference: str, puller: Puller) -> StoredImage | None:
        """The image from the store; from the local Docker if the store lacks it, or has an older one of its."""
        image = self.store.find(reference)
        newer = self._newer(reference, image)
        return image if newer is None else self._from_daemon(*newer, reference, puller)

    def _newer(self, reference: str, image: StoredImage | None) -> tuple[Daemon, DaemonImage] | None:
        """The local Docker, and what it has under this name, if that counts and not what the store has."""
        origin = self.store.origin(reference) if image else FROM_DAEMON
        if self.daemon is None or not origin.startswith(FROM_DAEMON):
            return None
        # Needs a client for HTTP, which most runs do not.
        from pytest_enclave.images.daemon import Daemon

        daemon = Daemon(self.daemon, self.patience.stall)
        there = daemon.inspect(reference)
        if there is None or (image and origin == FROM_DAEMON + there.id):
            return None
        return daemon, there

    def _from_daemon(self, daemon: Daemon, there: DaemonImage, reference: str, puller: Puller) -> StoredImage:
        from pytest_enclave.images.progress import PullProgress

        self.store.prepare()
        progress = PullProgress(reference, puller.emit)
        progress.expect(there.size)
        with daemon.saved(reference, self.store.layers.work, progress.advance) as archive:
            image = self.store.take(archive, reference, FROM_DAEMON + there.id, puller.cancelled)
        progress.done()
        return image

    def _problem(self, reference: str, fault: ImageFault) -> Problem:
        message = f'image "{reference}": {fault.meaning}{self._similar(reference)}'
        return Problem(message, subject=reference, remedy=fault.remedy)

    def _not_local(self, reference: str) -> Problem:
        return Problem(
            f'image "{reference}" is not on the engine, and pulling is off{self._similar(reference)}',
            subject=reference,
            remedy="let it be pulled when it is missing, or name an archive: `docker-archive:PATH`",
        )

    def _similar(self, reference: str) -> str:
        similar = get_close_matches(reference, self.store.references(), SIMILAR, cutoff=0.6)
        return f"; the engine has {', '.join(similar)}" if similar else ""


def _digest(found: str | Problem) -> str | None:
    return found if isinstance(found, str) else None


def _stale(reference: str, problem: Problem) -> Problem:
    return Problem(
        f"{problem.message}; the image that the engine already has is used",
        subject=reference,
        remedy=problem.remedy,
        severity="warning",
    )
