"""Whom an image's USER means, by the image's own /etc/passwd and /etc/group. To be asked inside of its root."""

from __future__ import annotations

from collections.abc import Iterator


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
    elif wanted.isdigit():
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
    if wanted.isdigit():
        return int(wanted)
    raise LookupError(f'there is no group "{wanted}" in the image\'s /etc/group')


def _rows(path: str, fields: int) -> Iterator[list[str]]:
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            text = lines.read(1 << 20)
    except OSError:
        return
    for line in text.splitlines():
        row = line.split(":")
        if len(row) >= fields and row[2].isdigit() and (fields < 7 or row[3].isdigit()):
            yield row
