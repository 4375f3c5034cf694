from __future__ import annotations

import textwrap

import pytest

from tests.linux.child import run

START = """
from pytest_enclave.linux.netfilter import *
syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNET)
forward = Chain(IPV4, "one", "forward", FORWARD)
leaving = Chain(IPV4, "one", "leaving", POSTROUTING, "nat")
rules = [
    (forward, [going_to("link"), connection(state=NEW), DROP]),
    (forward, [coming_from("link"), going_to("br-*"), connection(status=REWRITTEN), ACCEPT]),
    (leaving, [sent_from("169.254.192.2"), MASQUERADE]),
]
netfilter = Netfilter()
def tables():
    with Netfilter() as other:
        return sorted({chain.table for chain in other.chains()})
"""


def made(code: str) -> list[str]:
    return run(START + textwrap.dedent(code)).splitlines()


@pytest.mark.parametrize("ours", [True, False])
def test_a_table_that_is_ours_ends_with_the_object_that_made_it(ours: bool):
    told = made(f"""
        netfilter.table("one", rules, ours={ours})
        print(tables())
        netfilter.close()
        import time
        time.sleep(0.2)
        print(tables())
    """)
    assert told == ["['one']", "[]" if ours else "['one']"]


def test_chains_and_rules_are_as_they_were_made():
    told = made("""
        netfilter.table("one", rules, ours=False)
        print(sorted(netfilter.chains()) == sorted([forward, leaving]))
        print([len(netfilter.rules(chain)) for chain in (forward, leaving)])
    """)
    assert told == ["True", "[2, 1]"]


def test_a_rule_is_inserted_before_the_others_and_deleted():
    told = made("""
        netfilter.table("one", rules, ours=False)
        netfilter.insert(forward, [[coming_from("other"), ACCEPT]])
        found = netfilter.rules(forward)
        print(["other" in rule.expressions.decode(errors="replace") for rule in found])
        netfilter.delete(found[:1])
        print(len(netfilter.rules(forward)), error_of(netfilter.delete, found[:1]))
        netfilter.delete_table("one")
        print(tables(), error_of(netfilter.delete_table, "one"))
    """)
    assert told == ["[True, False, False]", "2 ENOENT", "[] ENOENT"]


def test_a_table_is_made_with_all_its_rules_or_not_at_all():
    told = made("""
        wrong = [(forward, [MASQUERADE])]
        try:
            netfilter.table("one", [*rules, *wrong], ours=True)
        except OSError as error:
            print(error.filename)
        print(tables())
        netfilter.table("one", rules, ours=True)
        print(error_of(lambda: netfilter.table("one", rules, ours=True)))
        with Netfilter() as other:
            print(error_of(other.insert, forward, [[ACCEPT]]))
    """)
    assert told == ['make table "one" of rules', "[]", "EEXIST", "EPERM"]


def test_without_rights_the_request_is_named():
    told = made("""
        capabilities.keep_only(set())
        try:
            netfilter.table("one", rules, ours=True)
        except PermissionError as error:
            print(error.filename)
    """)
    assert told == ['make table "one" of rules']
