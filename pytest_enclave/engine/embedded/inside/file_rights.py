"""Capabilities of files (`setcap`), which archives of files tell of as extended attributes."""

from __future__ import annotations

import os
import tarfile
from typing import Any

ATTRIBUTE = "security.capability"

HEADER = f"SCHILY.xattr.{ATTRIBUTE}"
"""Under this name archives have it. It is binary, and `tarfile` takes texts."""


class TarFile(tarfile.TarFile):
    """An archive whose files are added with their capabilities."""

    def gettarinfo(self, name: Any = None, arcname: Any = None, fileobj: Any = None) -> tarfile.TarInfo:
        """What `tarfile` says of a file, and what it is allowed."""
        member = super().gettarinfo(name, arcname, fileobj)
        if member is not None and member.isreg() and name is not None:
            try:
                told = os.getxattr(name, ATTRIBUTE, follow_symlinks=False)
            except OSError:
                return member
            member.pax_headers = {**member.pax_headers, HEADER: told.decode("utf-8", "surrogateescape")}
        return member


def give(path: str, member: tarfile.TarInfo) -> bool:
    """Give a file the capabilities that its archive says; false where it cannot have them.

    To be called after it has its owner: another owner takes them away.
    """
    told = member.pax_headers.get(HEADER)
    if told is None:
        return True
    try:
        os.setxattr(path, ATTRIBUTE, told.encode("utf-8", "surrogateescape"), follow_symlinks=False)
    except OSError:
        return False
    return True
