"""Reading tar archives that nobody vouches for, as one stream, with the standard library's smallest parts.

`tarfile` believes what headers say of their own size, and takes 30 times as long. This reader knows what layers of
images are made of: ustar, GNU long names, PAX headers. It holds no more than one header in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from pytest_enclave.images.faults import ImageFault

BLOCK = 512
ZEROS = bytes(BLOCK)

HEADER_LIMIT = 1 << 20
"""Bytes that the extended header of one entry may have."""

PATH_LIMIT = 4096
"""Bytes that a name may have: what the kernel takes as a path."""

LARGEST_ID = 2**32 - 2
LARGEST_SIZE = 2**62
EARLIEST, LATEST = -(2**31) * 10**9, 2**33 * 10**9
"""What file systems take: owners, sizes, times in nanoseconds."""

FILE, HARD_LINK, SYMLINK, CHARACTERS, BLOCKS, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
WITHOUT_DATA = (HARD_LINK, SYMLINK, CHARACTERS, BLOCKS, DIRECTORY, FIFO)
XATTR = b"SCHILY.xattr."


class Bytes(Protocol):
    """Where the archive comes from."""

    def take(self, count: int) -> bytes:
        """The next bytes, fewer only at the end."""

    def skip(self, count: int) -> int:
        """Pass over bytes; how many there were, fewer only at the end."""


class Entry:
    """One entry: `name` and `link` as written, ids, permission bits, time in nanoseconds, extended attributes."""

    __slots__ = ("gid", "kind", "link", "mode", "mtime", "name", "size", "uid", "xattrs")

    def __init__(self, header: bytes, extended: dict[bytes, bytes]) -> None:
        self.name = extended.get(b"path") or _name(header)
        self.link = extended.get(b"linkpath") or _text(header[157:257])
        self.kind = _kind(header[156:157], self.name)
        told = self.told
        self.mode = _number(header[100:108], told) & 0o7777
        self.uid = _decimal(extended, b"uid", told) if b"uid" in extended else _number(header[108:116], told)
        self.gid = _decimal(extended, b"gid", told) if b"gid" in extended else _number(header[116:124], told)
        seconds = _time(extended[b"mtime"], told) if b"mtime" in extended else _number(header[136:148], told) * 10**9
        self.mtime = min(max(seconds, EARLIEST), LATEST)
        size = _decimal(extended, b"size", told) if b"size" in extended else _number(header[124:136], told)
        if min(size, self.uid, self.gid) < 0 or max(self.uid, self.gid) > LARGEST_ID or size > LARGEST_SIZE:
            _bad(told)
        self.size = 0 if self.kind in WITHOUT_DATA else size
        self.xattrs = {key[len(XATTR) :]: value for key, value in extended.items() if key.startswith(XATTR)}
        if len(self.name) > PATH_LIMIT or len(self.link) > PATH_LIMIT:
            raise ImageFault(f"entry {told}: its name is longer than {PATH_LIMIT} bytes")
        if b"\0" in self.name or b"\0" in self.link:
            raise ImageFault(f"entry {told}: a null byte in a name")
        if any(key.startswith(b"GNU.sparse") for key in extended):
            raise _sparse(told)

    @property
    def told(self) -> str:
        """The name as messages show it: quoted, short, in printable characters."""
        text = self.name.decode("utf-8", "backslashreplace")
        if not text.isprintable():
            text = text.encode("unicode_escape").decode()
        return f'"{text}"' if len(text) <= 200 else f'"{text[:160]}…{text[-30:]}"'


class TarReader:
    """The entries of an archive, in order. After an entry, `data` gives its content; what is not read is skipped."""

    def __init__(self, source: Bytes) -> None:
        self._source = source
        self._left = 0
        self._padding = 0
        self.position = 0

    def __iter__(self) -> Iterator[Entry]:
        extended: dict[bytes, bytes] = {}
        while (header := self._header()) is not None:
            kind = header[156:157]
            if kind in b"xgLK":
                data = self._extension(header)
                if kind == b"x":
                    extended.update(_records(data))
                elif kind in b"LK":
                    extended[b"path" if kind == b"L" else b"linkpath"] = _text(data)
                continue
            entry = Entry(header, extended)
            extended = {}
            self._expect(entry.size)
            yield entry
            self._pass_over()
        if extended:
            raise ImageFault("the archive is cut off: it ends after the extended header of an entry")

    def data(self, chunk: int = 1 << 20) -> Iterator[bytes]:
        """The content of the entry that was given last, in pieces."""
        while self._left:
            piece = self._source.take(min(chunk, self._left))
            if not piece:
                raise _cut_off()
            self._left -= len(piece)
            self.position += len(piece)
            yield piece

    def _expect(self, size: int) -> None:
        self._left, self._padding = size, -size % BLOCK

    def _pass_over(self) -> None:
        count = self._left + self._padding
        if count and self._source.skip(count) != count:
            raise _cut_off()
        self.position += count
        self._left = self._padding = 0

    def _header(self) -> bytes | None:
        header = self._block()
        if header == ZEROS and self._block() in (ZEROS, b""):
            return None
        if not header:
            return None
        if len(header) < BLOCK:
            raise _cut_off()
        checksum = sum(header) - sum(header[148:156]) + 8 * 32
        if header[148:156].strip(b"\0 ").lstrip(b"0") != b"%o" % checksum:
            raise ImageFault(f"no tar archive, or a damaged one: the header at byte {self.position - BLOCK} is wrong")
        return header

    def _block(self) -> bytes:
        block = self._source.take(BLOCK)
        self.position += len(block)
        return block

    def _extension(self, header: bytes) -> bytes:
        size = _number(header[124:136], "(an extended header)")
        if not 0 <= size <= HEADER_LIMIT:
            raise ImageFault(f"an extended header of {size} bytes; {HEADER_LIMIT} are the limit")
        self._expect(size)
        data = b"".join(self.data())
        self._pass_over()
        return data


def _cut_off() -> ImageFault:
    return ImageFault("the archive is cut off")


def _sparse(told: str) -> ImageFault:
    return ImageFault(f"entry {told}: a sparse file, which is not supported", "make the archive without `--sparse`")


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _name(header: bytes) -> bytes:
    name = _text(header[:100])
    if header[257:263] == b"ustar\0" and (prefix := _text(header[345:500])):
        return prefix + b"/" + name
    return name


def _kind(flag: bytes, name: bytes) -> bytes:
    if flag in (b"0", b"\0", b"7"):
        return DIRECTORY if name.endswith(b"/") else FILE
    if flag in WITHOUT_DATA:
        return flag
    told = f'"{name[:200].decode("utf-8", "backslashreplace")}"'
    if flag == b"S":
        raise _sparse(told)
    raise ImageFault(f"entry {told}: of a kind that layers do not have ({flag!r})")


def _number(field: bytes, told: str) -> int:
    """A number in octal digits or, with the first bit set, in base 256 (the second bit is its sign)."""
    if field[0] & 0x80:
        number = int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
        return number - (1 << 8 * len(field) - 1) if field[0] & 0x40 else number
    digits = field.strip(b"\0 ").partition(b"\0")[0]
    try:
        return int(digits or b"0", 8) if digits.isdigit() or not digits else _bad(told)
    except ValueError:
        return _bad(told)


def _decimal(extended: dict[bytes, bytes], key: bytes, told: str) -> int:
    value = extended[key]
    return int(value) if value.isdigit() and len(value) < 20 else _bad(told)


def _time(value: bytes, told: str) -> int:
    """Seconds with a fraction, as nanoseconds."""
    seconds, _, fraction = value.partition(b".")
    digits = seconds.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > 12 or (fraction and not fraction.isdigit()):
        _bad(told)
    return int(seconds) * 10**9 + (-1 if seconds.startswith(b"-") else 1) * int(fraction[:9].ljust(9, b"0"))


def _bad(told: str) -> int:
    raise ImageFault(f"entry {told}: its header has a number that is none")


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The records of a PAX header: `length key=value\\n`."""
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        length = int(data[at:space]) if space > at and data[at:space].isdigit() else 0
        record = data[space + 1 : at + length - 1]
        key, equals, value = record.partition(b"=")
        if not length or at + length > len(data) or data[at + length - 1 : at + length] != b"\n" or not equals:
            raise ImageFault("a PAX header is malformed")
        yield key, value
        at += length
