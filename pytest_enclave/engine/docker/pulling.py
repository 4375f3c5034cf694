"""Pulling one image: progress told while it goes on, given up when it stands still, a mirror asked first."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_enclave.engine.docker.client import Client
from pytest_enclave.engine.docker.pull_failures import PullFailed
from pytest_enclave.engine.docker.translation import Refused, Unanswered, accepted, translate
from pytest_enclave.engine.protocol import NO_LOGINS
from pytest_enclave.plan.events import Emit, ImageProgress
from pytest_enclave.plan.image_sources import HUB, Login

EVERY = 0.1
"""Seconds between two tellings of progress."""

INDEX = "https://index.docker.io/v1/"
"""What the engine calls the default registry."""

DONE = ("Download complete", "Pull complete", "Already exists")
"""What the engine says of a layer that needs no more bytes."""


class Puller:
    """Pulls images, several at a time if need be; those that have `logins` with these alone, and from no mirror."""

    def __init__(
        self, client: Client, mirror: str, stall: float, emit: Emit, logins: Mapping[str, Login] = NO_LOGINS
    ) -> None:
        self.logins = logins
        self._client = client
        self._mirror = mirror.rstrip("/")
        self._stall = stall
        self._emit = emit
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Give up what goes on, at the next sign of progress."""
        self._cancelled.set()

    def pull(self, reference: str) -> None:
        """Have the image there, under this name. Raises PullFailed with the engine's words."""
        if self._mirror and names_no_registry(reference) and reference not in self.logins:
            mirrored = f"{self._mirror}/{reference}"
            try:
                self._pull(mirrored, reference)
                self._tag(mirrored, reference)
            except PullFailed:
                # The mirror may not have it; what counts is what the registry itself says.
                self._pull(reference, reference)
        else:
            self._pull(reference, reference)
        self._emit(ImageProgress(reference, 0, 0, done=True))

    def _pull(self, pulled: str, told_as: str) -> None:
        layers = _Layers()
        told = 0.0
        for message in self._messages(pulled):
            if "error" in message:
                raise PullFailed(message["error"])
            if self._cancelled.is_set():
                raise PullFailed("it was interrupted")
            layers.learn(message)
            if layers.total and time.monotonic() - told >= EVERY:
                told = time.monotonic()
                self._emit(ImageProgress(told_as, layers.current, layers.total))

    def _messages(self, reference: str) -> Iterator[dict[str, Any]]:
        """What the engine says during the pull. Asked for without the SDK's helper, which would wait for ever."""
        from docker.auth import get_config_header, resolve_repository_name
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(reference)
        try:
            with translate("pull"):
                registry, _ = resolve_repository_name(repository)
                login = self.logins.get(reference)
                sdk = self._client.sdk
                header = _header(login) if login else get_config_header(sdk, registry)
                response = sdk.post(
                    f"{sdk.base_url}/v{sdk.api_version}/images/create",
                    params={"fromImage": repository, "tag": tag or "latest"},
                    headers={"X-Registry-Auth": header} if header else {},
                    stream=True,
                    timeout=(10, self._stall),
                )
                with accepted(response):
                    for line in response.iter_lines():
                        if line:
                            yield json.loads(line)
        except Refused as refused:
            raise PullFailed(refused.explanation) from None
        except Unanswered:
            raise PullFailed(f"the pull stands still for {self._stall:g}s, or the engine is lost") from None

    def _tag(self, pulled: str, reference: str) -> None:
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(reference)
        if "@" in reference:
            return
        try:
            with translate("tag"):
                self._client.sdk.tag(pulled, repository, tag or "latest")
        except Refused as refused:
            raise PullFailed(refused.explanation) from None


def _header(login: Login) -> bytes:
    from docker.auth import encode_header

    server = INDEX if login.registry == HUB else login.registry
    told = {"username": login.username, "password": login.password, "serveraddress": server}
    return bytes(encode_header(told))


class _Layers:
    """How far the layers of an image are, in bytes."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}

    def learn(self, message: dict[str, Any]) -> None:
        layer, status = message.get("id"), message.get("status", "")
        detail = message.get("progressDetail") or {}
        if layer and status == "Downloading" and detail.get("total"):
            self._layers[layer] = (detail["current"], detail["total"])
        elif layer in self._layers and status in DONE:
            total = self._layers[layer][1]
            self._layers[layer] = (total, total)

    @property
    def current(self) -> int:
        return sum(current for current, _ in self._layers.values())

    @property
    def total(self) -> int:
        return sum(total for _, total in self._layers.values())


def names_no_registry(reference: str) -> bool:
    """Whether the reference's first part is not a registry's host, so that the default registry is meant."""
    first, slash, _ = reference.partition("/")
    return not slash or not ("." in first or ":" in first or first == "localhost")
