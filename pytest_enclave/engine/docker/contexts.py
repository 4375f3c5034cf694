"""Docker contexts: named endpoints that `docker context` keeps in the user's Docker configuration.

Resolved here, not by the SDK, because a name that does not exist must be an error: falling back to the default
engine would run somebody's services on the wrong machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import msgspec

from pytest_enclave.engine.docker.ping import Tls

DEFAULT = "default"
"""The context that is none: the engine's default socket."""


class BadContext(Exception):
    """A context that is named somewhere cannot be used; the text says why."""


class Context(msgspec.Struct, frozen=True):
    """A context: its name, what named it, and its endpoint."""

    name: str
    named_by: str
    endpoint: str
    tls: Tls | None


def configuration_directory(environ: Mapping[str, str]) -> Path:
    """Where the user's Docker configuration is: `DOCKER_CONFIG`, or `~/.docker`."""
    if configured := environ.get("DOCKER_CONFIG"):
        return Path(configured)
    return Path(environ.get("HOME") or Path.home()) / ".docker"


def current_context(environ: Mapping[str, str]) -> Context | None:
    """The context that `DOCKER_CONTEXT` or, without it, `docker context use` chose; None for the default one.

    Raises BadContext.
    """
    directory = configuration_directory(environ)
    name, named_by = environ.get("DOCKER_CONTEXT", ""), "DOCKER_CONTEXT"
    if not name:
        name, named_by = _chosen(directory / "config.json"), "docker context use"
    if name in ("", DEFAULT):
        return None
    key = hashlib.sha256(name.encode()).hexdigest()
    meta = directory / "contexts" / "meta" / key / "meta.json"
    try:
        endpoint = json.loads(meta.read_text())["Endpoints"]["docker"]
        host = endpoint["Host"]
    except FileNotFoundError:
        raise BadContext(f"there is no Docker context {name!r} (named by {named_by}){_others(directory)}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadContext(f"the Docker context {name!r} cannot be read ({meta}): {error}") from error
    certificates = directory / "contexts" / "tls" / key / "docker"
    verify = not endpoint.get("SkipTLSVerify", False)
    return Context(name, named_by, host, Tls(certificates, verify) if certificates.is_dir() else None)


def _chosen(configuration: Path) -> str:
    try:
        chosen = json.loads(configuration.read_text()).get("currentContext", "")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, AttributeError) as error:
        raise BadContext(f"{configuration} cannot be read: {error}") from error
    return str(chosen)


def _others(directory: Path) -> str:
    known = map(_name, (directory / "contexts" / "meta").glob("*/meta.json"))
    return f"; there are: {', '.join(sorted([DEFAULT, *filter(None, known)]))}"


def _name(meta: Path) -> str | None:
    try:
        return str(json.loads(meta.read_text())["Name"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
