"""Why an image cannot be pulled: the registry's and the engine's many words, told apart by what to do about them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pytest_enclave.errors import Problem
from pytest_enclave.plan.image_sources import WRONG_LOGIN, Login


class PullFailed(Exception):
    """The engine's own words about a pull that failed."""


_RULES: tuple[tuple[str, str, str], ...] = (
    (
        r"toomanyrequests|pull rate limit|429 Too Many Requests",
        "the registry's pull rate limit is reached",
        "`docker login` has a higher one; a mirror has none",
    ),
    (
        r"no matching manifest for (?P<what>\S+)|does not match the (specified|detected) platform",
        "there is no build of it for this engine's platform ({what})",
        "choose another tag or image that is built for it",
    ),
    (
        r"manifest unknown|manifest for .* not found|name unknown|repository name not known|not found: manifest",
        "its registry has no such image or tag",
        "is the tag right?",
    ),
    (
        r"pull access denied|requested access to the resource is denied|insufficient_scope|403 Forbidden"
        r"|(^|: )denied\b",
        "its registry has no such image, or does not let you see it",
        "is the name right? If it is private: `docker login`",
    ),
    (
        r"unauthorized|no basic auth credentials|authentication required|incorrect username or password",
        "its registry wants other credentials",
        "`docker login` to the image's registry",
    ),
    (
        r"invalid reference format|invalid repository name|must be lowercase",
        "that is not the name of an image",
        "names are lower case, as in `registry/owner/name:tag`",
    ),
    (
        r"x509|certificate|HTTP response to HTTPS client",
        "its registry is not trusted ({said})",
        "let the engine trust its certificate, or list it in the engine's insecure-registries",
    ),
    (
        r"no space left on device",
        "the engine's disk is full",
        "`docker system prune` makes room",
    ),
    (
        r"no such host|server misbehaving|connection refused|no route to host|network is unreachable"
        r"|i/o timeout|TLS handshake timeout|request canceled|deadline exceeded|connection reset|EOF|proxyconnect"
        r"|stands still|does not answer",
        "its registry cannot be reached ({said})",
        "is the network there? Offline, only images that the engine already has can be used",
    ),
)
"""Patterns, in the order in which they are tried; what they mean; what to do. `{said}` is the engine's reason."""


def problem_of(reference: str, failed: PullFailed, similar: Sequence[str], login: Login | None = None) -> Problem:
    """The problem that a failed pull, with this login if any, is; `similar` are local images with a similar name."""
    said = str(failed)
    meaning, remedy = f"it cannot be pulled: {said}", ""
    for pattern, told, advice in _RULES:
        if found := re.search(pattern, said):
            what = (found.groupdict().get("what") or "").rstrip(",") or _short(said)
            meaning, remedy = told.format(said=_short(said), what=what), advice
            break
    if login is not None and "docker login" in remedy:
        remedy = WRONG_LOGIN
    there = f"; the engine has {', '.join(similar)}" if similar else ""
    return Problem(f'image "{reference}": {meaning}{there}', subject=reference, remedy=remedy)


def _short(said: str) -> str:
    """The last part of the engine's chain of reasons, and of which host it speaks."""
    host = re.search(r"https?://([^/\s\"]+)", said)
    last = said.rsplit(": ", 1)[-1].strip()
    return f"{host.group(1)}: {last}" if host and host.group(1) not in last else last
