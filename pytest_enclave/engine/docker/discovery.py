"""Finding the engine, without the Docker SDK.

What is told explicitly is taken at its word, and an error if nothing answers there: the option, `DOCKER_HOST`, a
Docker context, in this order. Only when nothing is told, the places where engines usually listen are asked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from pytest_enclave.engine.docker.contexts import BadContext, current_context
from pytest_enclave.engine.docker.ping import NoAnswer, Tls, ping
from pytest_enclave.engine.protocol import Probe
from pytest_enclave.errors import EngineUnavailable

DEFAULT_SOCKET = "/var/run/docker.sock"


class Found(msgspec.Struct, frozen=True):
    """An engine that answers: what to tell users of it, and what is needed to connect."""

    probe: Probe
    api_version: str
    tls: Tls | None = None


class _Candidate(msgspec.Struct, frozen=True):
    endpoint: str
    why: str
    tls: Tls | None = None
    remedy: str = ""


def find_engine(host: str | None, environ: Mapping[str, str]) -> Found:
    """The engine to use; `host` is the option's value. Raises EngineUnavailable with all that was tried."""
    told = _told(host, environ)
    if told is not None:
        return _insist(told)
    tried = []
    for candidate in _usual(environ):
        answer = _ask_politely(candidate)
        if isinstance(answer, Found):
            return answer
        tried.append((candidate.endpoint, answer))
    raise EngineUnavailable(
        "no Docker engine answers",
        tried=tried,
        remedy=_remedy(tried),
    )


def is_told(host: str | None, environ: Mapping[str, str]) -> bool:
    """Whether users say which engine to use; also where what says so cannot be used."""
    try:
        return _told(host, environ) is not None
    except EngineUnavailable:
        return True


def _told(host: str | None, environ: Mapping[str, str]) -> _Candidate | None:
    """The engine that users asked for, if they did."""
    if host:
        return _Candidate(_endpoint(host), "--enclave-docker-host", _tls(environ), "is it the right address?")
    if named := environ.get("DOCKER_HOST"):
        return _Candidate(_endpoint(named), "DOCKER_HOST", _tls(environ), "start it, or unset DOCKER_HOST")
    try:
        context = current_context(environ)
    except BadContext as bad:
        raise EngineUnavailable(
            str(bad), remedy="`docker context use default`, or set DOCKER_HOST, or --enclave-docker-host"
        ) from bad
    if context is None:
        return None
    why = f"Docker context {context.name!r}, by {context.named_by}"
    return _Candidate(
        _endpoint(context.endpoint), why, context.tls, f"start it, or choose another than {context.name!r}"
    )


def _usual(environ: Mapping[str, str]) -> Iterator[_Candidate]:
    """Where engines usually listen; the default socket always, so that it is told of when nothing answers."""
    yield _Candidate(f"unix://{DEFAULT_SOCKET}", "the default socket")
    home = Path(environ.get("HOME") or Path.home())
    runtime = environ.get("XDG_RUNTIME_DIR")
    sockets = [
        *([(Path(runtime, "docker.sock"), "rootless Docker")] if runtime else []),
        (home / ".docker/run/docker.sock", "Docker Desktop"),
        (home / ".colima/default/docker.sock", "Colima"),
        (home / ".orbstack/run/docker.sock", "OrbStack"),
        (home / ".rd/docker.sock", "Rancher Desktop"),
        *([(Path(runtime, "podman/podman.sock"), "rootless Podman")] if runtime else []),
        (Path("/run/podman/podman.sock"), "Podman"),
    ]
    for path, product in sockets:
        if os.path.exists(path):
            yield _Candidate(f"unix://{path}", f"the socket of {product}")


def _insist(candidate: _Candidate) -> Found:
    try:
        return _ask(candidate)
    except NoAnswer as no:
        reason = str(no)
        remedy = _remedy([(candidate.endpoint, reason)]) if "permission" in reason else candidate.remedy
        raise EngineUnavailable(
            f"no Docker engine answers at {candidate.endpoint} ({candidate.why}): {reason}",
            tried=[(candidate.endpoint, reason)],
            remedy=remedy,
        ) from no


def _ask_politely(candidate: _Candidate) -> Found | str:
    """The engine, or why there is none."""
    try:
        return _ask(candidate)
    except NoAnswer as no:
        return str(no)


def _ask(candidate: _Candidate) -> Found:
    answer = ping(candidate.endpoint, candidate.tls)
    probe = Probe(candidate.endpoint, candidate.why, answer.version)
    return Found(probe, answer.api_version, candidate.tls)


def _endpoint(host: str) -> str:
    """The endpoint as a URL: the bare path of a socket is understood, and so is a bare `HOST:PORT`."""
    if "://" in host:
        return host
    return f"unix://{host}" if host.startswith("/") else f"tcp://{host}"


def _tls(environ: Mapping[str, str]) -> Tls | None:
    """Certificates, as the Docker CLI's variables say."""
    directory, verify = environ.get("DOCKER_CERT_PATH"), bool(environ.get("DOCKER_TLS_VERIFY"))
    if not verify and not environ.get("DOCKER_TLS"):
        return None
    if directory:
        return Tls(Path(directory), verify)
    return Tls(Path(environ.get("HOME") or Path.home()) / ".docker", verify)


def _remedy(tried: list[tuple[str, str]]) -> str:
    if any("permission" in reason for _, reason in tried):
        return "let your user use the socket: `sudo usermod -aG docker $USER`, then log in again"
    return "start Docker, or say where it is: --enclave-docker-host or DOCKER_HOST"
