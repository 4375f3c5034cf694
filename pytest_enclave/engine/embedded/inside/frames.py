"""Ethernet frames between services, as packet sockets have them, with `OFFLOAD` bytes in front.

A service's hardware address derives from its IP address, so where a frame goes is known without asking anybody.
"""

from __future__ import annotations

import socket

from pytest_enclave.linux.packets import OFFLOAD

TARGET = slice(OFFLOAD, OFFLOAD + 6)
SOURCE = slice(OFFLOAD + 6, OFFLOAD + 12)
DIRECTION = slice(OFFLOAD, OFFLOAD + 12)

_KIND = slice(OFFLOAD + 12, OFFLOAD + 14)
_ARP = b"\x08\x06"
_QUESTION = slice(OFFLOAD + 14, OFFLOAD + 22)
_WHO_HAS = b"\x00\x01\x08\x00\x06\x04\x00\x01"
_TELLS = b"\x00\x01\x08\x00\x06\x04\x00\x02"
_ASKER = slice(OFFLOAD + 22, OFFLOAD + 32)
_WANTED = slice(OFFLOAD + 38, OFFLOAD + 42)


def mac_of(ip: str) -> bytes:
    """The hardware address of the service with this IP address."""
    return bytes((0x02, 0x42, *socket.inet_aton(ip)))


def direction(one: str, other: str) -> bytes:
    """The `DIRECTION` of frames from one IP address to another."""
    return mac_of(other) + mac_of(one)


def is_for_several(frame: bytes) -> bool:
    """Whether it goes to more than one service."""
    return bool(frame[OFFLOAD] & 1)


def readdressed(frame: bytes, target: bytes) -> bytes:
    """The same frame for one hardware address alone."""
    return frame[:OFFLOAD] + target + frame[OFFLOAD + 6 :]


def is_about_addresses(frame: bytes) -> bool:
    """Whether it asks or tells who has an IP address (ARP)."""
    return frame[_KIND] == _ARP


def wanted(frame: bytes) -> bytes | None:
    """The hardware address that a question is about; None if it is no question."""
    return b"\x02\x42" + frame[_WANTED] if frame[_QUESTION] == _WHO_HAS and len(frame) >= _WANTED.stop else None


def answer(frame: bytes) -> bytes:
    """The answer to a question, as if it came from the service that it is about."""
    mac = b"\x02\x42" + frame[_WANTED]
    return bytes(OFFLOAD) + frame[SOURCE] + mac + _ARP + _TELLS + mac + frame[_WANTED] + frame[_ASKER]
