"""Packets that wait in the kernel for a decision, in a network namespace of the test's own."""

from __future__ import annotations

import textwrap

from tests.linux.child import run

START = """
import os, socket
from pytest_enclave.linux.netfilter import *
from pytest_enclave.linux.netlink import Netlink
from pytest_enclave.linux.packet_queue import PacketQueue
syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNET)
with Netlink() as links:
    links.up("lo")
arriving, leaving = Chain(IPV4, "one", "arriving", PREROUTING), Chain(IPV4, "one", "leaving", OUTPUT)
netfilter = Netfilter()
netfilter.table("one", [(arriving, []), (leaving, [])], ours=True)
def hold(sources, destinations=()):
    for foreign in (False, True):
        try:
            ask = queue(7, foreign=foreign)
            rules = {arriving: [[sent_from(each), ask] for each in sources]}
            netfilter.rewrite({**rules, leaving: [[sent_to(each), ask] for each in destinations]})
            return
        except FileNotFoundError:
            if foreign:
                raise
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.bind(("127.0.0.2", 0))
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("127.0.0.1", 999))
receiver.settimeout(0.2)
def send(*words):
    for word in words:
        sender.sendto(word.encode(), ("127.0.0.1", 999))
def received():
    found = []
    try:
        while True:
            found.append(receiver.recv(100).decode())
    except TimeoutError:
        return " ".join(found) or "nothing"
"""


def made(code: str) -> list[str]:
    return run(START + textwrap.dedent(code)).splitlines()


def test_a_packet_is_held_until_it_is_let_go_or_dropped():
    told = made("""
        packets = PacketQueue(7)
        hold(["127.0.0.2"])
        send("one", "two", "three")
        held = packets.arrived()
        print(received(), len(held), packets.arrived())
        packets.decide([held[2].number, held[0].number], passes=True)
        packets.decide([held[1].number], passes=False)
        print(received())
    """)
    assert told == ["nothing 3 []", "three one"]


def test_addresses_are_told_and_where_the_packet_is_held():
    told = made("""
        packets = PacketQueue(7)
        hold(["127.0.0.2"], ["127.0.0.1"])
        send("one")
        for _ in range(2):
            held, = packets.arrived()
            print(socket.inet_ntoa(held.source), socket.inet_ntoa(held.destination), held.hook == PREROUTING)
            packets.decide([held.number], passes=True)
        print(received())
    """)
    assert told == ["127.0.0.2 127.0.0.1 False", "127.0.0.2 127.0.0.1 True", "one"]


def test_who_sends_what_is_dropped_is_told_nothing():
    told = made("""
        packets = PacketQueue(7)
        hold([], ["127.0.0.1"])
        send("one")
        packets.decide([held.number for held in packets.arrived()], passes=False)
        send("two")
        packets.decide([held.number for held in packets.arrived()], passes=True)
        print(received())
    """)
    assert told == ["two"]


def test_others_pass_and_so_do_all_when_nobody_serves_the_queue():
    told = made("""
        hold(["127.0.0.2", "127.0.0.9"])
        send("before")
        print(received())
        packets = PacketQueue(7)
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        other.bind(("127.0.0.3", 0))
        other.sendto(b"other", ("127.0.0.1", 999))
        send("held")
        print(received())
        packets.close()
        send("after")
        print(received())
    """)
    assert told == ["before", "other", "after"]


def test_rules_are_replaced_all_at_once():
    told = made("""
        packets = PacketQueue(7)
        hold(["127.0.0.2", "127.0.0.3"])
        print(len(netfilter.rules(arriving)), len(netfilter.rules(leaving)))
        hold([], ["127.0.0.9"])
        print(len(netfilter.rules(arriving)), len(netfilter.rules(leaving)))
        try:
            netfilter.rewrite({arriving: [], Chain(IPV4, "one", "none"): []})
        except OSError as error:
            print(error)
        print(len(netfilter.rules(leaving)))
    """)
    missing = "[Errno 2] No such file or directory: 'write the rules of arriving, none'"
    assert told == ["2 0", "0 1", missing, "1"]


def test_a_queue_that_is_taken_is_told():
    told = made("""
        packets = PacketQueue(7)
        try:
            PacketQueue(7)
        except OSError as error:
            print(error.filename)
    """)
    assert told == ["bind queue 7 of packets"]


def test_thousands_of_packets_are_held_and_decided_about_at_once():
    told = made("""
        packets = PacketQueue(7)
        hold(["127.0.0.2"])
        held = []
        for number in range(2600):
            send(str(number))
            held += packets.arrived()
        numbers = [each.number for each in held]
        packets.decide(numbers[:2500], passes=False)
        packets.decide(numbers[2500:], passes=True)
        print(received() == " ".join(map(str, range(2500, 2600))))
    """)
    assert told == ["True"]
