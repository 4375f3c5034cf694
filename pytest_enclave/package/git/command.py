"""Running git on repositories that nobody vouches for: without prompts, hooks or submodules, within time and space.

What the user has configured holds: credential helpers, `insteadOf`, proxies, ssh. What a surrounding git process has
put into the environment does not: a test run may be started by a git hook.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePath

from pytest_enclave.package.git.failures import GitFailure

TIME_LIMIT = 300.0
"""Seconds that one git command may take."""

SIZE_LIMIT = 1024**3
"""Bytes that a repository may have, packed, and unpacked as well."""

TEXT_LIMIT = 64 * 1024**2
"""Bytes that a git command may print."""

_PAUSE = 0.1
_SETTINGS = (
    "protocol.ext.allow=never",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=",
    "core.autocrlf=false",
    "core.eol=lf",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "transfer.unpackLimit=1",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "credential.interactive=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=30",
)
_OF_OTHERS = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)


class Git:
    """Runs git with the user's environment. `limit` is in bytes, `timeout` in seconds."""

    def __init__(self, environ: Mapping[str, str], limit: int = SIZE_LIMIT, timeout: float = TIME_LIMIT) -> None:
        self.limit = limit
        self._timeout = timeout
        self._environ = {
            **{name: value for name, value in environ.items() if name not in _OF_OTHERS},
            "LC_ALL": "C",
            "LANGUAGE": "",
            "GIT_TERMINAL_PROMPT": "0",
            # A program that gives passwords may be set for git; git's other choices are windows that ask.
            "GIT_ASKPASS": environ.get("GIT_ASKPASS", ""),
            "SSH_ASKPASS_REQUIRE": "never",
            "GCM_INTERACTIVE": "never",
        }
        self._asked_for_ssh = False

    def __call__(self, *arguments: str, within: Path, over_network: bool = False, object_format: str = "") -> str:
        """What git prints. What it writes is expected below the directory `within`. Raises GitFailure.

        A repository that is made has this `object_format`, whatever the user prefers; older git knows but one.
        """
        if over_network and not self._asked_for_ssh:
            self._use_ssh_in_batches(within)
        environ = {**self._environ, "GIT_CEILING_DIRECTORIES": str(within.parent)}
        if object_format:
            environ["GIT_DEFAULT_HASH"] = object_format
        settings = [part for setting in _SETTINGS for part in ("-c", setting)]
        with tempfile.TemporaryFile(dir=within) as output, tempfile.TemporaryFile(dir=within) as errors:
            try:
                process = subprocess.Popen(
                    ["git", *settings, *arguments],
                    cwd=within,
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=errors,
                    start_new_session=True,
                )
            except OSError as error:
                raise GitFailure("missing", str(error)) from None
            with process:
                try:
                    self._await(process, output.fileno(), errors.fileno(), within if over_network else None)
                except BaseException:
                    _kill(process)
                    raise
            if process.returncode:
                raise GitFailure.of(_text(errors.fileno()))
            return _text(output.fileno())

    def _await(self, process: subprocess.Popen[bytes], output: int, errors: int, growing: Path | None) -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PAUSE)
                return
            if time.monotonic() > deadline:
                raise GitFailure("slow", f"it took longer than {self._timeout:g} s")
            if growing is not None and size_of(growing) > self.limit:
                raise GitFailure("large", f"it has more than {self.limit // 1024**2} MiB")
            if os.fstat(output).st_size + os.fstat(errors).st_size > TEXT_LIMIT:
                raise GitFailure("large", "it has far too many files or versions")

    def _use_ssh_in_batches(self, within: Path) -> None:
        """Have OpenSSH fail where it would ask, whoever configured its command."""
        self._asked_for_ssh = True
        command = self._environ.get("GIT_SSH_COMMAND", "")
        if not command and "GIT_SSH" not in self._environ:
            with suppress(GitFailure):
                command = self("config", "--get", "core.sshCommand", within=within).strip()
            command = command or "ssh"
        if command and PurePath(command.split()[0]).name == "ssh":
            self._environ["GIT_SSH_COMMAND"] = f"{command} -o BatchMode=yes"


def size_of(directory: Path) -> int:
    """Bytes of all files below; what vanishes meanwhile does not count."""
    size = 0
    for folder, _, files in os.walk(directory):
        for file in files:
            with suppress(OSError):
                size += os.lstat(os.path.join(folder, file)).st_size
    return size


def _text(descriptor: int) -> str:
    return os.pread(descriptor, TEXT_LIMIT, 0).decode("utf-8", "surrogateescape")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Git and what it has started, ssh for example."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
