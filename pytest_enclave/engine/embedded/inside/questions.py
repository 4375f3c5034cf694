"""The Domain Name System as far as an enclave needs it (RFC 1035): one question in, an answer out."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping

HEADER = struct.Struct("!6H")

RECORD = struct.Struct("!HHIH")
"""What follows a record's name: type, class, time to live in seconds, length of the data."""

RESPONSE, OPCODES, AUTHORITATIVE, RECURSION_DESIRED, RECURSION_AVAILABLE = 0x8000, 0x7800, 0x0400, 0x0100, 0x0080

FORMAT_ERROR, SERVER_FAILURE, NO_SUCH_NAME, NOT_IMPLEMENTED = 1, 2, 3, 4

ADDRESS, POINTER, ANYTHING = 1, 12, 255

INTERNET = 1

LONGEST_LABEL = 63

LONGEST_NAME = 255

TO_THE_QUESTION = b"\xc0\x0c"
"""A name that is the one of the question, which begins right after the header."""

SECONDS_TO_LIVE = 1
"""Services are replaced, and then have other addresses."""

REVERSE = ".in-addr.arpa"


class Malformed(Exception):
    """Bytes that are no question, and deserve no answer."""


class Question:
    """A query with one question. `name` is in lower case, without a dot at the end."""

    __slots__ = ("family", "flags", "kind", "name", "number", "text")

    def __init__(self, number: int, flags: int, name: str, kind: int, family: int, text: bytes) -> None:
        self.number = number
        self.flags = flags
        self.name = name
        self.kind = kind
        self.family = family
        self.text = text

    def failed(self, code: int) -> bytes:
        """The answer that there is none, and why."""
        return self._answer(code, ())

    def answered(self, records: Iterable[bytes]) -> bytes:
        """The answer with the data of these records, of the kind that was asked for. None: there is nothing of it."""
        return self._answer(0, records)

    def _answer(self, code: int, records: Iterable[bytes]) -> bytes:
        kind = ADDRESS if self.kind == ANYTHING else self.kind
        written = [TO_THE_QUESTION + RECORD.pack(kind, INTERNET, SECONDS_TO_LIVE, len(data)) + data for data in records]
        flags = RESPONSE | AUTHORITATIVE | RECURSION_AVAILABLE | (self.flags & (OPCODES | RECURSION_DESIRED)) | code
        return (
            HEADER.pack(self.number, flags, 1 if self.text else 0, len(written), 0, 0) + self.text + b"".join(written)
        )


class Table:
    """Names and addresses of an enclave, for looking up either way."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._addresses: dict[str, bytes] = {}
        self._names: dict[str, list[str]] = {}
        for written, address in names.items():
            name = written.rstrip(".").lower()
            self._addresses[name] = socket.inet_aton(address)
            self._names.setdefault(".".join(reversed(address.split("."))) + REVERSE, []).append(name)

    def answer(self, question: Question) -> bytes | None:
        """The answer, or None where the name is not of this enclave."""
        if question.family not in (INTERNET, ANYTHING):
            return None
        if address := self._addresses.get(question.name):
            asked = question.kind in (ADDRESS, ANYTHING)
            return question.answered([address] if asked else [])
        if names := self._names.get(question.name):
            return question.answered(map(written_name, names) if question.kind == POINTER else [])
        return None


def read_question(packet: bytes) -> Question:
    """The question of a query. What follows it, such as EDNS options, is not looked at. Raises Malformed.

    A query that cannot be answered has an empty `text`; `refusal` says why.
    """
    if len(packet) < HEADER.size:
        raise Malformed
    number, flags, questions, _, _, _ = HEADER.unpack_from(packet)
    if flags & RESPONSE:
        raise Malformed
    if flags & OPCODES or questions != 1:
        return Question(number, flags, "", 0, 0, b"")
    name, end = _name(packet, HEADER.size)
    if end + 4 > len(packet):
        raise Malformed
    kind, family = struct.unpack_from("!HH", packet, end)
    return Question(number, flags, name, kind, family, packet[HEADER.size : end + 4])


def refusal(question: Question) -> bytes | None:
    """The answer to what is no ordinary question, None for one that is."""
    if question.text:
        return None
    return question.failed(NOT_IMPLEMENTED if question.flags & OPCODES else FORMAT_ERROR)


def is_answer(packet: bytes, number: int, question: Question) -> bool:
    """Whether this is the answer to that question, as it was asked under that number."""
    if len(packet) < HEADER.size:
        return False
    answered, flags, questions, _, _, _ = HEADER.unpack_from(packet)
    if answered != number or not flags & RESPONSE:
        return False
    asked = packet[HEADER.size : HEADER.size + len(question.text)]
    return questions == 0 or asked.lower() == question.text.lower()


def renumbered(packet: bytes, number: int) -> bytes:
    """The same packet under another number."""
    return struct.pack("!H", number) + packet[2:]


def written_name(name: str) -> bytes:
    """A name as it is in packets. Labels that are too long are cut."""
    labels = [label.encode()[:LONGEST_LABEL] for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _name(packet: bytes, position: int) -> tuple[str, int]:
    """A name, and where it ends. One of a question cannot point elsewhere: only the header precedes it."""
    labels: list[bytes] = []
    start = position
    while position < len(packet):
        length = packet[position]
        position += 1
        if length == 0:
            return b".".join(labels).decode("latin-1").lower(), position
        labels.append(packet[position : position + length])
        position += length
        if length > LONGEST_LABEL or position - start > LONGEST_NAME:
            break
    raise Malformed
