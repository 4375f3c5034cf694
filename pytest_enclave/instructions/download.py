"""Downloading one file over http(s) for `plan.upload_files`: with limits, and not again while it is unchanged."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit

import msgspec

from pytest_enclave.errors import ExecutionError
from pytest_enclave.package.locators import is_remote, is_url

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from urllib.request import OpenerDirector

LARGEST = 1 << 30
"""Bytes that a download may have."""

LONGEST = 300.0
"""Seconds that it may take in all."""

SILENCE = 30.0
"""Seconds without a byte after which it is given up."""

REDIRECTS = 5

NAMELESS = "download"
"""What the file is called where the URL does not say."""

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*")
_CHUNK = 1 << 16
_MOVED = (301, 302, 303, 307, 308)
_NOT_MODIFIED = 304


class State(msgspec.Struct, frozen=True):
    """What the server said of the file's version, empty where it said nothing: a later request can ask for newer."""

    etag: str = ""
    modified: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> State:
        """As `fields` had it."""
        return cls(str(values.get("etag", "")), str(values.get("modified", "")))

    def fields(self) -> dict[str, Any]:
        """What is kept of it."""
        return {"etag": self.etag, "modified": self.modified}

    def headers(self) -> dict[str, str]:
        """The headers of a request for a newer version only."""
        asked = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {name: value for name, value in asked.items() if value}


def url_problem(url: str) -> str:
    """Why nothing can be downloaded from there, or nothing."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        return f"is no URL: {error}"
    if not parts.hostname:
        return "is a URL without a host"
    plain = all("!" <= character <= "~" for character in url)
    return "" if plain else "is a URL with characters that have to be percent-encoded"


def scheme_problem(name: str) -> str:
    """Why nothing can be downloaded by that scheme, or nothing; locators with one have an error of their own."""
    scheme, separator, rest = name.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme) or is_remote(rest):
        return ""
    host, slash, path = rest.partition("/")
    rest = f"{host.rpartition('@')[2]}{slash}{path}"  # not with the password that may be in it
    only = f'is "{scheme}://{rest}", and only http:// and https:// are downloaded'
    if scheme.lower() == "file":
        return f"{only}: a file of the package is named by its path alone"
    near = difflib.get_close_matches(scheme.lower(), ("http", "https"), 1)
    return f"{only}; did you mean `{near[0] if near else 'http'}://{rest}`?"


def shown(url: str) -> str:
    """The URL without the name and password that may be in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def file_name(url: str) -> str:
    """What the file of that URL is called: as the URL's path ends."""
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    usable = name not in ("", "..") and "\0" not in name and len(name.encode("utf-8", "replace")) <= 255
    return name if usable else NAMELESS


def download(
    url: str, directory: Path, known: State, time_left: float | None, *, trusted: bool = True
) -> tuple[Path, State] | None:
    """Fetch the file into the directory; None where the server says that it is still the known version.

    `time_left` in seconds, None for no limit but this file's own. Who is not `trusted` gets nothing that answers on
    this machine, or that a cloud tells its machines of themselves. Raises ExecutionError.
    """
    from http.client import HTTPException

    deadline = time.monotonic() + min(LONGEST, LONGEST if time_left is None else max(time_left, 0.0))
    try:
        with _open(url, known, deadline, trusted) as response:
            if response.status == _NOT_MODIFIED:
                return None
            path = directory / file_name(url)
            with path.open("wb") as file:
                _copy(response, file, deadline)
            return path, State(response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""))
    except _Failed as failure:
        reason, remedy = failure.reason, failure.remedy
    except HTTPException as error:
        reason, remedy = f"the server's answer is no HTTP ({type(error).__name__})", ""
    except (OSError, ValueError) as error:
        reason, remedy = _reason(error), ""
    raise ExecutionError(f"cannot download {shown(url)}: {reason}", remedy=remedy) from None


class _Failed(Exception):
    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


def _open(url: str, known: State, deadline: float, trusted: bool) -> HTTPResponse:
    """The response, redirects followed."""
    opener = _opener()
    for _ in range(REDIRECTS + 1):
        if not trusted:
            _refuse_this_machine(url)
        response = _request(opener, url, known, deadline)
        if response.status not in _MOVED:
            break
        target = urljoin(url, response.headers.get("Location", ""))
        response.close()
        if not is_url(target) or url_problem(target):
            raise _Failed(f"it leads to {shown(target)}, which is not fetched")
        if url.lower().startswith("https:") and not target.lower().startswith("https:"):
            raise _Failed(f"it leads from https to {shown(target)}")
        url = target
    else:
        raise _Failed(f"it leads on more than {REDIRECTS} times")
    if response.status not in (200, _NOT_MODIFIED):
        response.close()
        raise _Failed(f"the server says {response.status} {response.reason}".rstrip())
    return response


def _refuse_this_machine(url: str) -> None:
    import socket
    from ipaddress import ip_address

    parts = urlsplit(url)
    for *_, address in socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM):
        found = ip_address(str(address[0]).partition("%")[0])
        meant = getattr(found, "ipv4_mapped", None) or found
        if meant.is_loopback or meant.is_link_local or meant.is_unspecified:
            raise _Failed(
                f"{parts.hostname} is this machine, which a package that was fetched may not ask",
                "check the package out and name its directory, for a dependency under `replace` in `kurtosis.yml`",
            )


def _opener() -> OpenerDirector:
    """Knows http and https, proxies as the environment has them, and nothing else."""
    from urllib import request

    opener = request.OpenerDirector()
    for handler in (request.ProxyHandler(), request.HTTPHandler(), request.HTTPSHandler()):
        opener.add_handler(handler)
    return opener


def _request(opener: OpenerDirector, url: str, known: State, deadline: float) -> HTTPResponse:
    from base64 import b64encode
    from urllib.request import Request

    parts = urlsplit(url)
    headers = {"User-Agent": "pytest-enclave", "Accept": "*/*", **known.headers()}
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
    response: HTTPResponse = opener.open(Request(shown(url), headers=headers), timeout=_patience(deadline))
    return response


def _copy(response: HTTPResponse, file: IO[bytes], deadline: float) -> None:
    size = 0
    while chunk := response.read1(_CHUNK):
        size += len(chunk)
        if size > LARGEST:
            raise _Failed(f"it has more than {LARGEST >> 20} MB", "let a service fetch it, or have it in an image")
        file.write(chunk)
        _patience(deadline)
    if response.length:
        raise _Failed(f"the connection ended with {response.length} bytes missing")


def _patience(deadline: float) -> float:
    """Seconds to wait for the next byte."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise _Failed(f"it took longer than {LONGEST:g} s")
    return min(left, SILENCE)


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    if isinstance(inner, TimeoutError):
        return f"nothing came for {SILENCE:g} s"
    return str(getattr(inner, "strerror", None) or inner)
