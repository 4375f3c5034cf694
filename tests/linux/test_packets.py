from __future__ import annotations

from tests.linux.test_netlink import started

START = """
import select, struct
from pytest_enclave.linux.packets import LARGEST, OFFLOAD, open_packets
own = service(2)
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind(("eth0", 3))
syscalls.setns(home)
packets = open_packets("br0")
time.sleep(0.1)
OTHER = bytes.fromhex("02420a4d0009")
def told(target, text):
    "What comes of a frame that the service sends: whether the socket has it."
    wire.send(target + bytes.fromhex("02420a4d0002") + bytes.fromhex("88b5") + text + bytes(50))
    while select.select([packets], [], [], 0.2)[0]:
        if text in (packet := packets.recv(LARGEST)):
            return packet[OFFLOAD:OFFLOAD + 6].hex()
    return "nothing"
def own_mac(name):
    return bytes.fromhex(mac(name).replace(":", ""))
"""


def test_what_a_bridge_takes_in_for_others_is_seen_and_nothing_that_is_its_own(inside):
    told = inside(
        started(START)
        + """
print(told(OTHER, b"first"))
net.take_in(net.index("br0"), OTHER)
print(told(OTHER, b"second"), told(b"\\xff" * 6, b"third"), told(own_mac("br0"), b"fourth"))
net.take_in_no_more(net.index("br0"), OTHER)
print(told(OTHER, b"fifth"))
"""
    )
    assert told.split("\n") == ["nothing", "02420a4d0009 ffffffffffff nothing", "nothing"]


def test_what_is_sent_goes_out_by_the_bridge_and_is_not_seen_again(inside):
    told = inside(
        started(START)
        + """
packets.send(bytes(OFFLOAD) + bytes.fromhex("02420a4d0002") + OTHER + bytes.fromhex("88b5") + b"inwards" + bytes(50))
while b"inwards" not in wire.recv(2000):
    pass
print("it arrived")
time.sleep(0.2)
try:
    while b"inwards" not in packets.recv(LARGEST):
        pass
except BlockingIOError:
    print("it does not block")
"""
    )
    assert told.split("\n") == ["it arrived", "it does not block"]


def test_a_link_that_is_not_there_is_told(inside):
    assert inside(started(START) + "print(error_of(open_packets, 'br7'))") == "ENODEV"
