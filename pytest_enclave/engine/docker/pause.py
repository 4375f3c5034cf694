"""The image of pods: one static program, of 130 bytes or so, that waits for ever.

It comes from nowhere but here: it is imported into an engine that does not have it, as `pytest-enclave/pause:1`, and
stays there, for the next session. It takes a kilobyte; `docker rmi pytest-enclave/pause:1` removes it.
"""

from __future__ import annotations

import io
import json
import struct
import tarfile
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from pytest_enclave.engine.docker import labels
from pytest_enclave.engine.docker.client import Client
from pytest_enclave.engine.docker.images import Images
from pytest_enclave.engine.docker.translation import translate
from pytest_enclave.errors import EngineError

if TYPE_CHECKING:
    from docker import APIClient

REPOSITORY, TAG = "pytest-enclave/pause", "1"
REFERENCE = f"{REPOSITORY}:{TAG}"

_HEADER, _SEGMENT = 64, 56
"""Bytes of the ELF header, and of the description of the only segment after it; the code follows."""

_BASE = 0x400000
"""Where the file is put in memory."""


class _Machine(msgspec.Struct, frozen=True):
    """A kind of processor: its number in ELF files, and the code of a loop around a system call that waits."""

    number: int
    code: bytes


MACHINES: Mapping[str, _Machine] = {
    "x86_64": _Machine(
        62,
        bytes.fromhex(
            "b822000000"  # mov eax, 34   the system call pause(2)
            "0f05"  #       syscall
            "ebf7"  #       jmp -9        a signal woke us: once more
        ),
    ),
    # There is no pause(2); ppoll(2) of nothing, without a timeout, is the same.
    "aarch64": _Machine(
        183,
        struct.pack(
            "<8I",
            0xD2800000,  # mov x0, 0    no descriptors
            0xD2800001,  # mov x1, 0    none of them
            0xD2800002,  # mov x2, 0    no timeout
            0xD2800003,  # mov x3, 0    no other mask of signals …
            0xD2800004,  # mov x4, 0    … and so none of any size
            0xD2800928,  # mov x8, 73   the system call ppoll(2)
            0xD4000001,  # svc 0
            0x17FFFFF9,  # b -7         a signal woke us: once more
        ),
    ),
}
"""By the engine's name for its architecture."""


def program(architecture: str) -> bytes:
    """The program as an ELF file. Raises KeyError for an architecture that is not in `MACHINES`."""
    machine = MACHINES[architecture]
    begin = _HEADER + _SEGMENT
    size = begin + len(machine.code)
    # 64 bits, lowest byte first, version 1; an executable that begins after the headers, and has one segment.
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    layout = (2, machine.number, 1, _BASE + begin, _HEADER, 0, 0, _HEADER, _SEGMENT, 1, 0, 0, 0)
    # The whole file is loaded (1), to be read and executed (5), on pages of 4 KB.
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 4096)
    return identity + struct.pack("<HHIQQQIHHHHHH", *layout) + segment + machine.code


def have_image(client: APIClient, architecture: str) -> None:
    """Have the image on the engine. Raises EngineError, also for an architecture that there is no program for."""
    if architecture not in MACHINES:
        raise EngineError(f"there is no pause program for {architecture}")
    if Images(Client.over(client)).digest(REFERENCE) is not None:
        return
    changes = ['ENTRYPOINT ["/pause"]', f"LABEL {labels.PAUSE}={TAG}"]
    with translate("cannot import the image of pods"):
        said = client.import_image_from_data(_archive(program(architecture)), REPOSITORY, TAG, changes)
    # The engine has begun its answer, with a status of success, before it knows.
    last = json.loads(said.strip().splitlines()[-1])
    if "error" in last:
        raise EngineError(f"cannot import the image of pods: {last['error']}")


def _archive(content: bytes) -> bytes:
    """A root directory with nothing but the program."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("pause")
        entry.size, entry.mode = len(content), 0o755
        tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()
