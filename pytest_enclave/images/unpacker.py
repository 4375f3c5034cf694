"""Starting the process that unpacks layers and removes them, as whoever may own files in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.stream import Limits
from pytest_enclave.linux.identity import run_mapped

if TYPE_CHECKING:
    from pytest_enclave.linux.identity import IdMap

PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from pytest_enclave.images.unpack import main; main(sys.argv[2:])"
)

SPARE = 256 << 20
"""Bytes that are left free on the disk."""


class Unpacker(msgspec.Struct, frozen=True):
    """Unpacks with the ids of `ids`; a layer may grow to `size` bytes, `entries`, and `ratio` times its size."""

    ids: IdMap
    size: int = 20 << 30
    entries: int = 1_000_000
    ratio: int = 300

    def limits(self, place: Path) -> Limits:
        """What may be unpacked in a directory now: no more than there is room for."""
        free = os.statvfs(place)
        room = max(0, free.f_bavail * free.f_frsize - SPARE)
        return Limits(min(self.size, room), self.entries, self.ratio)

    def unpack(self, layer: int, length: int | None, digest: str, into: Path) -> None:
        """Unpack the archive that descriptor `layer` gives (`length` bytes of it) into a new directory.

        `digest` is what its content must have. Raises ImageFault; what is there by then is left for `remove`.
        """
        limits = self.limits(into.parent)
        owners = self.ids.kind != "single"
        work = {"into": str(into), "length": length, "digest": digest, "owners": owners}
        told = (limits.size, limits.entries, limits.ratio)
        self._run({"do": "unpack", "parent": os.getpid(), "limits": told, **work}, layer)

    def remove(self, path: Path) -> None:
        """Remove a directory of a layer, and all below it; nothing if it is not there. Raises ImageFault."""
        if os.path.lexists(path):
            self._run({"do": "remove", "path": str(path)}, subprocess.DEVNULL)

    def _run(self, work: dict[str, object], stdin: int) -> None:
        package = str(Path(__file__).parents[2])
        command = [sys.executable, "-I", "-S", "-c", PROGRAM, package, json.dumps(work)]
        if self.ids.kind == "range":
            done = run_mapped(self.ids, command, stdin, subprocess.PIPE, subprocess.PIPE)
        else:
            done = subprocess.run(command, stdin=stdin, capture_output=True, check=False)
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            said = bytes(done.stderr).decode(errors="replace").strip().splitlines()[-1:] or [f"code {done.returncode}"]
            raise ImageFault(f"the process that unpacks layers failed: {said[0]}") from None
        if "meaning" in answer:
            raise ImageFault(answer["meaning"], answer["remedy"])
