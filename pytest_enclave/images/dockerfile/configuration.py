"""The configuration of an image while it is built: what each instruction that runs nothing makes of it."""

from __future__ import annotations

import copy
import json
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_enclave.images.dockerfile.stages import Step
from pytest_enclave.images.dockerfile.values import exposed, refuse_wrong_health_check, stop_signal
from pytest_enclave.images.dockerfile.words import expand, split
from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.manifests import this_platform

SHELL = ("/bin/sh", "-c")
PLATFORM = ("architecture", "variant")

_STRINGS = ("Env", "Cmd", "Entrypoint", "Shell", "OnBuild")
_OBJECTS = ("Labels", "ExposedPorts", "Volumes")

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
PROXIES = (*_PROXIES, *(name.upper() for name in _PROXIES))
"""Build arguments that need no `ARG`."""


def inner_of(document: bytes) -> dict[str, Any]:
    """The `config` of an image's configuration, empty where it has none. Raises ImageFault."""
    whole = json.loads(document)
    found = (whole.get("config") or {}) if isinstance(whole, dict) else None
    if not isinstance(found, dict):
        raise ImageFault("the image's configuration has no object `config`")
    for name, value in found.items():
        good = (
            isinstance(value, list) and all(isinstance(each, str) for each in value)
            if name in _STRINGS
            else name not in _OBJECTS or isinstance(value, dict)
        )
        if value is not None and not good:
            raise ImageFault(f"`{name}` in the image's configuration is not what images have there")
    return found


class Configuration:
    """One stage's image so far: `layers` are digests from the bottom, `inner` its `config` in the words of the format.

    `given` are the build arguments, `known` the values of the `ARG`s before the first stage.
    """

    def __init__(self, base: bytes | None, given: Mapping[str, str], known: Mapping[str, str], escape: str) -> None:
        document: dict[str, Any] = json.loads(base) if base else {}
        self._platform: dict[str, Any] = {key: document[key] for key in PLATFORM if key in document}
        self.inner: dict[str, Any] = copy.deepcopy(inner_of(base)) if base else {}
        self.layers: list[str] = list((document.get("rootfs") or {}).get("diff_ids") or ())
        self._given = given
        self._known = known
        self._escape = escape
        self._arguments: dict[str, str] = {name: given[name] for name in PROXIES if name in given}
        self._own_cmd = False

    @property
    def document(self) -> bytes:
        """The configuration as it is kept."""
        platform = self._platform or {"architecture": this_platform().split("/")[1]}
        inner = {key: value for key, value in self.inner.items() if value}
        layers = {"type": "layers", "diff_ids": self.layers}
        whole: dict[str, Any] = {**platform, "os": "linux", "config": inner, "rootfs": layers}
        return json.dumps(whole, sort_keys=True).encode()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the image sets."""
        entries: list[str] = self.inner.get("Env") or []
        return {name: value for name, _, value in (entry.partition("=") for entry in entries)}

    @property
    def arguments(self) -> dict[str, str]:
        """The build arguments that commands see as variables: what the image sets counts more."""
        environment = self.environment
        return {name: value for name, value in self._arguments.items() if name not in environment}

    @property
    def variables(self) -> dict[str, str]:
        """What can be put into words."""
        return {**self._arguments, **self.environment}

    @property
    def directory(self) -> str:
        """Where relative paths begin."""
        return str(self.inner.get("WorkingDir") or "/")

    @property
    def shell(self) -> tuple[str, ...]:
        """What runs commands that are text."""
        return tuple(self.inner.get("Shell") or SHELL)

    def words(self, text: str) -> list[str]:
        """The words of a text, variables put in. Raises ImageFault."""
        return [expand(word, self.variables, self._escape) for word in split(text, self._escape)]

    def path(self, word: str) -> str:
        """A path in the image, absolute; a `/` at its end stays."""
        joined = posixpath.join(self.directory, word)
        return posixpath.normpath(joined) + ("/" if word.endswith("/") and joined.strip("/") else "")

    def apply(self, step: Step) -> None:
        """Have the effect of an instruction that neither runs nor copies anything. Raises ImageFault."""
        getattr(self, f"_{step.keyword.lower()}")(step)

    def _arg(self, step: Step) -> None:
        for name, value in self._pairs(step, lone=True):
            if name in self._given:
                self._arguments[name] = self._given[name]
            elif value is not None:
                self._arguments[name] = value
            elif name in self._known:
                self._arguments[name] = self._known[name]

    def _env(self, step: Step) -> None:
        environment = self.environment
        environment.update((name, value or "") for name, value in self._pairs(step))
        self.inner["Env"] = [f"{name}={value}" for name, value in environment.items()]

    def _label(self, step: Step) -> None:
        self.inner["Labels"] = {**(self.inner.get("Labels") or {}), **dict(self._pairs(step))}

    def _workdir(self, step: Step) -> None:
        self.inner["WorkingDir"] = self.path(" ".join(self.words(step.text))).rstrip("/") or "/"

    def _user(self, step: Step) -> None:
        self.inner["User"] = self._one(step)

    def _stopsignal(self, step: Step) -> None:
        self.inner["StopSignal"] = stop_signal(self._one(step))

    def _shell(self, step: Step) -> None:
        self.inner["Shell"] = list(step.argv or ())

    def _expose(self, step: Step) -> None:
        ports: dict[str, Any] = {}
        for word in split(step.text, self._escape):
            meant = expand(word, self.variables, self._escape)
            if not meant:
                remedy = "give it a value, in an `ARG` or `ENV` before it or in `build_args`"
                raise ImageFault(f"`{word}` is empty", remedy)
            ports |= {port: {} for port in exposed(meant)}
        self.inner["ExposedPorts"] = {**(self.inner.get("ExposedPorts") or {}), **ports}

    def _volume(self, step: Step) -> None:
        paths = list(step.argv) if step.argv is not None else self.words(step.text)
        self.inner["Volumes"] = {**(self.inner.get("Volumes") or {}), **{path: {} for path in paths}}

    def _cmd(self, step: Step) -> None:
        self.inner["Cmd"] = self.command(step)
        self._own_cmd = True

    def _entrypoint(self, step: Step) -> None:
        self.inner["Entrypoint"] = self.command(step)
        if not self._own_cmd:
            # What the base image has is meant for its own entry point.
            self.inner["Cmd"] = []

    def _healthcheck(self, step: Step) -> None:
        """Without effect: what waits for services asks them itself. But it is what `docker build` takes."""
        refuse_wrong_health_check(step.flags, step.text)

    def _maintainer(self, step: Step) -> None:
        """Without effect."""

    def command(self, step: Step) -> list[str]:
        """The command that an instruction names: a list, or text for the shell."""
        if step.argv is not None:
            return list(step.argv)
        return [*self.shell, step.text] if step.text else []

    def _one(self, step: Step) -> str:
        words = self.words(step.text)
        if len(words) != 1:
            raise ImageFault(f"`{step.keyword}` takes one argument")
        return words[0]

    def _pairs(self, step: Step, *, lone: bool = False) -> Iterator[tuple[str, str | None]]:
        """`NAME=value …`; where `lone` names may stand without a value, else in the old form `NAME value`."""
        words = split(step.text, self._escape)
        if not lone and "=" not in words[0]:
            if len(words) < 2:
                raise ImageFault(f"`{step}`: there is no value", f"write `{step.keyword} NAME=value`")
            rest = step.text.lstrip()[len(words[0]) :].strip()
            yield words[0], expand(rest, self.variables, self._escape)
            return
        variables = self.variables
        for word in words:
            name, equals, value = word.partition("=")
            if not equals and not lone:
                raise ImageFault(f"`{step}`: `{word}` has no value", f"write `{step.keyword} NAME=value`")
            name = expand(name, variables, self._escape)
            yield name, expand(value, variables, self._escape) if equals else None
