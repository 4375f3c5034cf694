"""A registry's manifests and blobs, each verified by its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from pytest_enclave.images.credentials import Credentials
from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.manifests import (
    DOCUMENT_LIMIT,
    INDEXES,
    MANIFESTS,
    Descriptor,
    Manifest,
    choose,
    parse_manifest,
    verify,
)
from pytest_enclave.images.references import DEFAULT_REGISTRY, RegistryReference
from pytest_enclave.images.tokens import answer, parse_challenge, wants_credentials
from pytest_enclave.images.transport import Answer, ConnectionLost, Transport, is_loopback, unreachable

DEFAULT_HOST = "registry-1.docker.io"
"""Where the default registry answers."""

DEEPEST = 3
"""Indexes that may refer to each other."""


class Repository:
    """One repository of a registry, asked with these credentials. Safe to use from several threads."""

    def __init__(self, reference: RegistryReference, credentials: Credentials | None, transport: Transport) -> None:
        host = DEFAULT_HOST if reference.registry == DEFAULT_REGISTRY else reference.registry
        name = host if host.endswith("]") else host.rsplit(":", 1)[0] if host.rpartition(":")[2].isdigit() else host
        self._host = host
        self._base = f"{'http' if is_loopback(name) else 'https'}://{host}/v2/{reference.repository}"
        self._name = reference.repository
        self._credentials = credentials
        self._transport = transport
        self._permission = ""
        self._asking = Lock()

    def manifest(self, reference: RegistryReference) -> Manifest:
        """The manifest of the build for this machine. Raises ImageFault."""
        data, media_type = self._document(f"manifests/{reference.digest or reference.tag}", reference.digest)
        found = parse_manifest(data, media_type)
        for _ in range(DEEPEST):
            if isinstance(found, Manifest):
                return found
            entry = choose(found.entries)
            data, media_type = self._document(f"manifests/{entry.digest}", entry.digest)
            found = parse_manifest(data, media_type)
        raise ImageFault("its indexes are nested too deep")

    def config(self, manifest: Manifest) -> bytes:
        """The configuration's text. Raises ImageFault."""
        return self._document(f"blobs/{manifest.config.digest}", manifest.config.digest)[0]

    def download(self, blob: Descriptor, file: Path, advance: Callable[[int], None]) -> None:
        """Have a blob in a file, going on where an earlier download broke off. Raises ImageFault, Interrupted.

        `advance` is told how many bytes came, a negative number if the download has to begin anew.
        """
        kept = self._fetch(blob, file, advance)
        if kept and not _is(file, blob):
            # The beginning may be what was spoiled.
            advance(-file.stat().st_size)
            file.unlink()
            self._fetch(blob, file, advance)
        if not _is(file, blob):
            file.unlink()
            raise ImageFault(f"its layer {blob.digest[:19]}… is not what its digest says: damaged, or tampered with")

    def _fetch(self, blob: Descriptor, file: Path, advance: Callable[[int], None]) -> bool:
        """Download what is missing; whether some of it was there."""
        with open(file, "ab") as target:
            there = target.tell()
            if there:
                advance(there)
            failures = 0
            while target.tell() < blob.size:
                before = target.tell()
                try:
                    self._append(blob, target, advance)
                    lost = "the layer breaks off"
                except ConnectionLost as broken:
                    lost = str(broken)
                if target.tell() < blob.size:
                    failures = 1 if target.tell() > before else failures + 1
                    if failures >= self._transport.patience.tries:
                        raise unreachable(f"{self._host}: {lost}")
                    self._transport.wait(failures)
        return there > 0

    def _append(self, blob: Descriptor, target: Any, advance: Callable[[int], None]) -> None:
        at = target.tell()
        headers = {"Range": f"bytes={at}-"} if at else {}
        with self._get(f"blobs/{blob.digest}", headers) as response:
            if response.status == 416 or (at and response.status != 206):
                advance(-at)
                target.truncate(0)
                target.seek(0)
                at = 0
                if response.status == 416:
                    return
            for piece in response.pieces():
                at += len(piece)
                if at > blob.size:
                    raise ImageFault(
                        f"its layer {blob.digest[:19]}… is longer than the {blob.size} bytes it should have"
                    )
                target.write(piece)
                advance(len(piece))
            target.flush()

    def _document(self, path: str, digest: str) -> tuple[bytes, str]:
        accepted = ", ".join((*INDEXES, *MANIFESTS)) if path.startswith("manifests/") else "*/*"
        with self._get(path, {"Accept": accepted}) as response:
            data = response.read(DOCUMENT_LIMIT)
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        if digest:
            verify(data, digest, "a document of it")
        return data, media_type

    def _get(self, path: str, headers: Mapping[str, str]) -> Answer:
        """The answer, if it is a good one. Raises ImageFault for any other."""
        used = self._permission
        response = self._ask(path, headers, used)
        if response.status == 401:
            challenge = parse_challenge(response.headers.get("WWW-Authenticate", ""))
            response.close()
            with self._asking:
                if self._permission == used:
                    permission = challenge and answer(challenge, self._name, self._credentials, self._transport)
                    if not permission:
                        raise wants_credentials()
                    self._permission = permission
            response = self._ask(path, headers, self._permission)
        if response.status in (200, 206, 416):
            return response
        with response:
            raise self._refusal(response)

    def _ask(self, path: str, headers: Mapping[str, str], permission: str) -> Answer:
        allowed = {"Authorization": permission} if permission else {}
        return self._transport.request("GET", f"{self._base}/{path}", {**headers, **allowed})

    def _refusal(self, response: Answer) -> ImageFault:
        """Why the registry does not give it, in the words that other engines have for it."""
        code, message = _first_error(response.read(DOCUMENT_LIMIT))
        if response.status == 429 or code == "TOOMANYREQUESTS":
            return ImageFault(
                "the registry's pull rate limit is reached", "`docker login` has a higher one; a mirror has none"
            )
        if response.status == 404:
            return ImageFault("its registry has no such image or tag", "is the tag right?")
        if response.status == 401 and self._credentials and self._permission.startswith("Basic"):
            return wants_credentials()
        if response.status in (401, 403):
            return ImageFault(
                "its registry has no such image, or does not let you see it",
                "is the name right? If it is private: `docker login`",
            )
        if response.status >= 500:
            return unreachable(f"{self._host}: {response.status} {message}".strip())
        return ImageFault(f"it cannot be pulled: {self._host} answers {response.status} {message}".strip())


def _is(file: Path, blob: Descriptor) -> bool:
    algorithm, _, wanted = blob.digest.partition(":")
    found = hashlib.new(algorithm)
    with open(file, "rb") as content:
        while piece := content.read(1 << 20):
            found.update(piece)
    return found.hexdigest() == wanted


def _first_error(body: bytes) -> tuple[str, str]:
    """The code and the words of a registry's answer."""
    try:
        error = json.loads(body)["errors"][0]
        return str(error.get("code", "")), str(error.get("message", ""))[:200]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return "", ""
