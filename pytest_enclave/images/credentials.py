"""What `docker login` has left: names and passwords for registries, in Docker's configuration or in helper programs."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.references import DEFAULT_REGISTRY

HUB_KEY = "https://index.docker.io/v1/"
"""What Docker's configuration calls the default registry."""

PATIENCE = 30.0
"""Seconds for a helper program."""


class Credentials(msgspec.Struct, frozen=True):
    """A name and a password; or, with an empty name, a token that stands for both."""

    name: str
    secret: str

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.name}:{self.secret}".encode()).decode()


def credentials_for(registry: str, environ: Mapping[str, str]) -> Credentials | None:
    """The credentials for a registry; None where there are none. Raises ImageFault if the configuration is broken."""
    folder = environ.get("DOCKER_CONFIG") or f"{environ.get('HOME') or Path.home()}/.docker"
    file = Path(folder, "config.json")
    try:
        config = json.loads(file.read_bytes())
    except OSError:
        return None
    except ValueError:
        raise ImageFault(f"{file} is not JSON, so there are no credentials for its registry", f"mend {file}") from None
    config = config if isinstance(config, dict) else {}
    key = HUB_KEY if registry == DEFAULT_REGISTRY else registry
    helper = _mapping(config.get("credHelpers")).get(key) or config.get("credsStore")
    if isinstance(helper, str) and helper and (found := _ask(helper, key)):
        return found
    for written, entry in _mapping(config.get("auths")).items():
        if written == key or _host(written) == _host(key):
            return _stored(_mapping(entry))
    return None


def _stored(entry: Mapping[str, Any]) -> Credentials | None:
    if isinstance(token := entry.get("identitytoken"), str) and token:
        return Credentials("", token)
    if isinstance(encoded := entry.get("auth"), str) and encoded:
        try:
            name, _, secret = base64.b64decode(encoded).decode().partition(":")
        except ValueError:
            return None
        return Credentials(name, secret.rstrip("\0"))
    told, password = entry.get("username"), entry.get("password")
    return Credentials(told, password) if isinstance(told, str) and isinstance(password, str) and told else None


def _ask(helper: str, key: str) -> Credentials | None:
    """What a helper program has; one that is missing or fails has nothing: many images need no credentials."""
    try:
        done = subprocess.run(
            [f"docker-credential-{helper}", "get"],
            input=key.encode(),
            capture_output=True,
            timeout=PATIENCE,
            check=True,
        )
        answer = json.loads(done.stdout)
        name, secret = answer["Username"], answer["Secret"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None
    return Credentials("" if name == "<token>" else name, secret)


def _host(key: str) -> str:
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
