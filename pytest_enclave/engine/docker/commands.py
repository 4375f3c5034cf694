"""Running a command in a container, with a deadline that the engine itself does not have."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_enclave.engine.docker.translation import BROKEN_OFF, Refused, accepted, clean, translate
from pytest_enclave.engine.protocol import DeadlineExceeded, ExecResult, NotReached
from pytest_enclave.errors import EngineError

if TYPE_CHECKING:
    from docker import APIClient

FRAME_HEADER = 8
"""Bytes before each piece of output: which stream, three zeros, and its length."""

NOT_FOUND, NOT_EXECUTABLE = 127, 126

SETTLING = 1.0
"""Seconds within which the engine knows the exit code after the output has ended."""

BEGINNING = 5.0
"""Seconds within which the engine knows the process of a command after that has begun."""

NOT_BEGUN_OUTPUT = b"OCI runtime exec failed"
NOT_BEGUN = re.compile(r"executable file not found|no such file or directory|permission denied|exec format error")


class _TimeIsUp(Exception):
    """The deadline has come while output was read."""


def run_command(
    client: APIClient, container: str, command: Sequence[str], deadline: float | None, where: str = "a service"
) -> ExecResult:
    """Exit code and output of a command; `deadline` is in monotonic seconds, `where` for errors.

    Raises DeadlineExceeded, after killing what it started as well as can be, NotReached and EngineError.
    """
    doing = f"cannot run a command in {where}"
    begun = time.monotonic()
    try:
        with translate(doing):
            run = client.exec_create(container, list(command))["Id"]
            output = _output(client, run, deadline)
            code = exit_code(client, run, doing)
    except _TimeIsUp:
        kill_command(client, container, run)
        raise DeadlineExceeded(f"the command took longer than {max(0.0, (deadline or begun) - begun):.3g} s") from None
    except Refused as refused:
        if refused.status in (404, 409):
            raise NotReached(short_refusal(refused.explanation)) from None
        if not NOT_BEGUN.search(refused.explanation):
            raise
        return not_begun(refused.explanation)
    text = output.decode(errors="replace")
    if code in (NOT_FOUND, NOT_EXECUTABLE) and NOT_BEGUN_OUTPUT.decode() in text:
        return not_begun(text)
    return ExecResult(code, text)


def _output(client: APIClient, run: str, deadline: float | None) -> bytes:
    """All output, stdout and stderr as they came. Raises _TimeIsUp.

    Asked for without the SDK's helper: that one reads below the buffer which may hold the first bytes already, and
    knows no deadline.
    """
    response = accepted(
        client.post(
            f"{client.base_url}/v{client.api_version}/exec/{run}/start",
            json={"Detach": False, "Tty": False},
            stream=True,
            timeout=client.timeout,
        )
    )
    try:
        socket = socket_of(response)
        if socket is not None:
            # The answer has begun; the command may be silent for as long as it likes.
            socket.settimeout(None)
        pieces = []
        while header := _read(response.raw, socket, FRAME_HEADER, deadline):
            length = int.from_bytes(header[4:], "big")
            pieces.append(_read(response.raw, socket, length, deadline))
            if len(header) < FRAME_HEADER or len(pieces[-1]) < length:
                raise ConnectionError(BROKEN_OFF)
        return b"".join(pieces)
    finally:
        response.close()


def socket_of(response: Any) -> Any:
    """What the response comes through: its timeout is to be set anew as the deadline draws near."""
    stream = response.raw._fp.fp
    if stream is None:
        return None
    return getattr(getattr(stream, "raw", stream), "_sock", None)


def _read(raw: Any, socket: Any, count: int, deadline: float | None) -> bytes:
    """So many bytes, or none at the end."""
    from urllib3.exceptions import ReadTimeoutError

    if deadline is not None:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise _TimeIsUp
        if socket is not None:
            socket.settimeout(remaining)
    try:
        data: bytes = raw.read(count)
    except ReadTimeoutError:
        raise _TimeIsUp from None
    return data


def exit_code(client: APIClient, run: str, doing: str) -> int:
    """The command's exit code; the end of its output is known a moment earlier."""
    give_up = time.monotonic() + SETTLING
    while (code := client.exec_inspect(run)["ExitCode"]) is None:
        if time.monotonic() >= give_up:
            raise EngineError(f"{doing}: its output has ended, and the engine does not tell its exit code")
        time.sleep(0.005)
    return int(code)


def not_begun(said: str) -> ExecResult:
    """The result of a command that could not be executed, by what the engine says about it (`NOT_BEGUN`)."""
    text = clean(said).removesuffix(": unknown")
    missing = "not found" in text or "no such file" in text
    return ExecResult(NOT_FOUND if missing else NOT_EXECUTABLE, text)


def short_refusal(explanation: str) -> str:
    """Why no command can run in a container, in a few words, by what the engine says about it."""
    if "paused" in explanation:
        return "the service is paused"
    if "restarting" in explanation:
        return "the service is restarting"
    if "not running" in explanation or "No such" in explanation:
        return "the service is not running"
    return explanation


def kill_command(client: APIClient, container: str, run: str) -> None:
    """Kill a command, its children and its jobs: directly, or through `kill` inside the container.

    The engine has no call for that and only tells the process's number on its own machine; on another machine than
    ours it goes on until its service ends.
    """
    with suppress(EngineError):
        pid = _pid(client, run)
        if not pid or container not in _read_proc(pid, "cgroup"):
            return
        killed: set[int] = set()
        # They may be forking meanwhile.
        while family := _family(pid) - killed:
            inside = [_inner_pid(member) for member in family]
            try:
                for member in family:
                    with suppress(ProcessLookupError):
                        os.kill(member, signal.SIGKILL)
            except PermissionError:
                with translate("cannot kill a command"):
                    killer = client.exec_create(container, ["kill", "-9", *inside], user="root")["Id"]
                    client.exec_start(killer, detach=True)
            killed |= family


def _pid(client: APIClient, run: str) -> int:
    """The process of a command; 0 where there is none. The engine may pass on output before it tells of it."""
    give_up = time.monotonic() + BEGINNING
    with translate("cannot find the process of a command"):
        while not (state := client.exec_inspect(run))["Pid"] and state["ExitCode"] is None:
            if time.monotonic() >= give_up:
                break
            time.sleep(0.005)
    return int(state["Pid"] or 0)


def _family(pid: int) -> set[int]:
    """A process, all that descend from it, and all of its session: jobs of a shell whose parents have ended."""
    session = {process for process in _processes() if _session(process) == pid}
    return session | _descendants(pid)


def _descendants(pid: int) -> set[int]:
    children = _read_proc(pid, f"task/{pid}/children").split()
    return {pid}.union(*(_descendants(int(child)) for child in children))


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _session(pid: int) -> int:
    """The id of its session; 0 where it has just ended."""
    # Its name, in brackets, may contain anything.
    fields = _read_proc(pid, "stat").rpartition(")")[2].split()
    return int(fields[3]) if fields else 0


def _inner_pid(pid: int) -> str:
    """What a process is called inside its container."""
    lines = _read_proc(pid, "status").splitlines()
    return next((line.split()[-1] for line in lines if line.startswith("NSpid:")), "")


def _read_proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""
