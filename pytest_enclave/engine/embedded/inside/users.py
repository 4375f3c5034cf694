"""Whom an image's USER means, by the image's own /etc/passwd and /etc/group. To be asked inside of its root."""

from __future__ import annotations

import os
from collections.abc import Iterator

LARGEST = 1 << 20
"""Bytes that are read of a file."""

HIGHEST = (1 << 32) - 2
"""The last id; the next one means none."""


class User:
    """Ids, further groups, home directory."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: list[int], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


def find_user(text: str) -> User:
    """The user for `name`, `uid`, `name:group`, `uid:gid`; nothing means root. Raises LookupError."""
    wanted, _, wanted_group = text.partition(":")
    wanted = wanted or "0"
    entry = next((row for row in _rows("/etc/passwd", 7) if wanted == row[0] or wanted == row[2]), None)
    if entry is not None:
        name, uid, gid, home = entry[0], int(entry[2]), int(entry[3]), entry[5] or "/"
    elif _is_number(wanted):
        name, uid, gid, home = "", int(wanted), 0, "/root" if wanted == "0" else "/"
    else:
        raise LookupError(f'there is no user "{wanted}" in the image\'s /etc/passwd')
    groups = [int(row[2]) for row in _rows("/etc/group", 4) if name and name in row[3].split(",")]
    if wanted_group:
        gid, groups = _group(wanted_group), []
    return User(uid, gid, sorted({gid, *groups}), home)


def _group(wanted: str) -> int:
    for row in _rows("/etc/group", 4):
        if wanted in (row[0], row[2]):
            return int(row[2])
    if _is_number(wanted):
        return int(wanted)
    raise LookupError(f'there is no group "{wanted}" in the image\'s /etc/group')


def _rows(path: str, fields: int) -> Iterator[list[str]]:
    try:
        # In an image it may be anything, even a pipe that nobody writes to.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:
            text = (file.read(LARGEST) or b"").decode(errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        row = line.split(":")
        if len(row) >= fields and _is_number(row[2]) and (fields < 7 or _is_number(row[3])):
            yield row


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= HIGHEST
