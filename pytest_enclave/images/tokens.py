"""Getting permission from a registry: what its challenge asks for, answered with a token or a password."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import msgspec

from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.transport import Transport, is_loopback

if TYPE_CHECKING:
    from pytest_enclave.images.credentials import Credentials

CLIENT = "pytest-enclave"
ANSWER_LIMIT = 1 << 20


class Challenge(msgspec.Struct, frozen=True):
    """What a registry wants: `scheme` is `bearer` or `basic`; the rest are its parameters."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


def parse_challenge(header: str) -> Challenge | None:
    """The challenge in a WWW-Authenticate header; a token is preferred. None if there is none that we know."""
    if found := re.search(r"\bbearer\s+(.*)", header, re.IGNORECASE):
        told = dict(re.findall(r'(\w+)="([^"]*)"', found.group(1)))
        return Challenge("bearer", told.get("realm", ""), told.get("service", ""), told.get("scope", ""))
    if re.search(r"\bbasic\b", header, re.IGNORECASE):
        return Challenge("basic")
    return None


def answer(challenge: Challenge, repository: str, credentials: Credentials | None, transport: Transport) -> str | None:
    """The value of an Authorization header; None if only credentials would help and there are none.

    Raises ImageFault if the credentials are refused, or the place that gives out tokens cannot be asked.
    """
    if challenge.scheme == "basic":
        return credentials.basic if credentials and credentials.name else None
    parts = urlsplit(challenge.realm)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise ImageFault(f"its registry sends for a token to {challenge.realm or 'nowhere'}, which is not safe")
    fields = {"service": challenge.service, "scope": challenge.scope or f"repository:{repository}:pull"}
    if credentials and not credentials.name:
        form = {"grant_type": "refresh_token", "refresh_token": credentials.secret, "client_id": CLIENT, **fields}
        response = transport.request("POST", challenge.realm, body=urlencode(form))
    else:
        join = "&" if parts.query else "?"
        headers = {"Authorization": credentials.basic} if credentials else {}
        response = transport.request("GET", f"{challenge.realm}{join}{urlencode(fields)}", headers)
    with response:
        if response.status in (400, 401, 403):
            raise wants_credentials()
        if response.status != 200:
            raise ImageFault(f"its registry gives out no token: {parts.hostname} answers {response.status}")
        try:
            told = json.loads(response.read(ANSWER_LIMIT))
            token = told.get("token") or told.get("access_token")
        except (ValueError, AttributeError):
            token = None
    if not isinstance(token, str) or not token.isprintable():
        raise ImageFault(f"its registry gives out no token: the answer of {parts.hostname} has none")
    return f"Bearer {token}"


def wants_credentials() -> ImageFault:
    """The fault of credentials that are refused."""
    return ImageFault("its registry wants other credentials", "`docker login` to the image's registry")
