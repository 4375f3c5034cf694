"""Connecting to an engine that was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_enclave.engine.docker.discovery import Found
from pytest_enclave.engine.docker.ping import Tls
from pytest_enclave.engine.docker.translation import translate
from pytest_enclave.errors import EngineError, EngineUnavailable

if TYPE_CHECKING:
    from docker import APIClient, TLSConfig

CONNECTIONS = 64
"""Connections that are kept: fewer, and the SDK warns and reconnects when many services start at once."""


def connect(found: Found, environ: Mapping[str, str], timeout: float = 60.0) -> APIClient:
    """A client of the engine; `timeout` is how long one call may take, in seconds. Raises EngineUnavailable."""
    import docker

    endpoint = found.probe.endpoint
    try:
        with translate(f"cannot connect to the Docker engine at {endpoint}"):
            return docker.APIClient(
                base_url=endpoint,
                version=_api_version(found, environ),
                timeout=timeout,  # type: ignore[arg-type]  # whole seconds are the stubs' idea
                tls=_tls_config(found.tls) if found.tls else False,
                max_pool_size=CONNECTIONS,
                use_ssh_client=endpoint.startswith("ssh://"),
            )
    except EngineError as error:
        raise EngineUnavailable(error.message, tried=[(endpoint, error.message)]) from None


def _api_version(found: Found, environ: Mapping[str, str]) -> str:
    """The API version to speak: the newest that both know. The ping told the engine's, so no further call is made."""
    from docker.constants import DEFAULT_DOCKER_API_VERSION
    from docker.utils import version_lt

    if pinned := environ.get("DOCKER_API_VERSION"):
        return pinned
    if not found.api_version:
        return "auto"
    engine_is_older = version_lt(found.api_version, DEFAULT_DOCKER_API_VERSION)
    return found.api_version if engine_is_older else DEFAULT_DOCKER_API_VERSION


def _tls_config(tls: Tls) -> TLSConfig:
    from docker import TLSConfig

    certificate = tls.directory / "cert.pem"
    authority = tls.directory / "ca.pem"
    return TLSConfig(
        client_cert=(str(certificate), str(tls.directory / "key.pem")) if certificate.exists() else None,
        ca_cert=str(authority) if authority.exists() else None,
        verify=tls.verify,
    )
