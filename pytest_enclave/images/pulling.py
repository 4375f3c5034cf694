"""Pulling one image from its registry into the store, a mirror asked first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Event

import msgspec

from pytest_enclave.images.credentials import Credentials, credentials_for
from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.image import parse_config, parse_document
from pytest_enclave.images.layers import Source
from pytest_enclave.images.manifests import Descriptor, runs_here, this_platform
from pytest_enclave.images.progress import PullProgress
from pytest_enclave.images.references import RegistryReference, names_no_registry, parse
from pytest_enclave.images.registry import Repository
from pytest_enclave.images.store import ImageStore
from pytest_enclave.images.transport import Transport
from pytest_enclave.plan.events import Emit
from pytest_enclave.plan.image_sources import Login


class Puller(msgspec.Struct, frozen=True):
    """Pulls images into `store`. `mirror` is a prefix that is tried in front of references that name no registry.

    Images that have `logins` are pulled with these alone, and from no mirror.
    """

    store: ImageStore
    transport: Transport
    environ: Mapping[str, str]
    emit: Emit
    cancelled: Event
    mirror: str = ""
    logins: Mapping[str, Login] = msgspec.field(default_factory=dict)

    def pull(self, reference: str) -> None:
        """Have the image there, under this name. Raises ImageFault, Interrupted."""
        if self.mirror and names_no_registry(reference) and reference not in self.logins:
            try:
                self._pull(f"{self.mirror.rstrip('/')}/{reference}", reference)
            except ImageFault:
                # The mirror may not have it; what counts is what the registry itself says.
                self._pull(reference, reference)
        else:
            self._pull(reference, reference)

    def _pull(self, pulled: str, called: str) -> None:
        meant = parse(pulled)
        if not isinstance(meant, RegistryReference):
            raise ImageFault("an ID alone does not say in which registry it is", "name the image by its repository")
        repository = Repository(meant, self._credentials(called, meant.registry), self.transport)
        manifest = repository.manifest(meant)
        config = repository.config(manifest)
        told, digests = parse_config(parse_document(config, "its configuration"))
        if not runs_here(told.architecture):
            raise ImageFault(
                f"there is no build of it for this engine's platform ({this_platform()}); "
                f"there is linux/{told.architecture}",
                "choose another tag or image that is built for it",
            )
        if len(digests) != len(manifest.layers):
            raise ImageFault(f"it has {len(manifest.layers)} layers, but its configuration tells of {len(digests)}")
        progress = PullProgress(called, self.emit)
        for digest, blob in dict(zip(digests, manifest.layers, strict=True)).items():
            if not self.store.layers.has(digest):
                progress.expect(blob.size)
        sources = [
            self._source(repository, blob, digest, progress)
            for digest, blob in zip(digests, manifest.layers, strict=True)
        ]
        image = self.store.add(config, sources, self.cancelled)
        self.store.name(called, image.digest, "registry")
        progress.done()

    def _credentials(self, called: str, registry: str) -> Credentials | None:
        login = self.logins.get(called)
        return Credentials(login.username, login.password) if login else credentials_for(registry, self.environ)

    def _source(self, repository: Repository, blob: Descriptor, digest: str, progress: PullProgress) -> Source:
        @contextmanager
        def source() -> Iterator[tuple[int, int]]:
            file = self.store.layers.blob(digest, blob.digest)
            repository.download(blob, file, progress.advance)
            with open(file, "rb") as content:
                yield content.fileno(), blob.size
            file.unlink(missing_ok=True)

        return source
