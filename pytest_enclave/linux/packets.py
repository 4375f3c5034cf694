"""Whole packets, as they pass a link: AF_PACKET sockets."""

from __future__ import annotations

import socket
import struct

OFFLOAD = 10
"""Bytes before each packet: what the kernel has yet to do to it, checksums and cutting into pieces (virtio_net_hdr)."""

LARGEST = OFFLOAD + 18 + (1 << 16)
"""Bytes of the largest packet."""

BUFFER = 8 << 20
"""Bytes of packets that may wait to be read. The kernel gives what this machine allows."""

_SOL_PACKET = 263
_VNET_HEADER = 15
_ATTACH_FILTER = 26
_ALL = 3

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_PACKET_TYPE = 0xFFFFF004
_TO_US, _FROM_US = 0, 4


def open_packets(link: str) -> socket.socket:
    """A socket that has what comes in by a link for other hardware addresses than its own, and for several at once.

    It does not block. What is sent goes out by the link. Packets begin with `OFFLOAD` bytes. Raises OSError.
    """
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
    try:
        packets.setsockopt(_SOL_PACKET, _VNET_HEADER, 1)
        packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        _attach(packets, _of_others())
        packets.bind((link, _ALL))
    except BaseException:
        packets.close()
        raise
    return packets


def _of_others() -> bytes:
    program = (
        (_LOAD, 0, 0, _PACKET_TYPE),
        (_EQUAL, 2, 0, _TO_US),
        (_EQUAL, 1, 0, _FROM_US),
        (_RETURN, 0, 0, 0xFFFFFFFF),
        (_RETURN, 0, 0, 0),
    )
    return b"".join(struct.pack("=HBBI", code, if_true, if_false, value) for code, if_true, if_false, value in program)


def _attach(packets: socket.socket, program: bytes) -> None:
    from ctypes import addressof, create_string_buffer

    code = create_string_buffer(program, len(program))
    packets.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", len(program) // 8, addressof(code)))
