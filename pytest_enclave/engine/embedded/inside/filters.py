"""Other programs' filters of what the machine forwards, such as Docker's: they refuse what no rule of theirs names.

A packet passes if every filter lets it pass, so enclaves' links need rules of their own at the head of each. They are
known by the names of the links in them; those whose link is gone have no use, whoever made them.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import suppress

from pytest_enclave.linux.netfilter import (
    ACCEPT,
    FORWARD,
    INET,
    IPV4,
    Chain,
    Netfilter,
    Rule,
    coming_from,
    going_to,
)

PREFIX = "enclave-"
"""How the names of enclaves' links on the machine begin."""

GUARD = f"{PREFIX}forwarding"
"""The table that keeps the machine from sending on what is not for enclaves (`forwarding`), which outlives each."""

LEGACY_TABLES = "/proc/net/ip_tables_names"
LEGACY_PROGRAMS = ("iptables-legacy", "iptables")
DIRECTORIES = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")

_OURS = re.compile(rb"(enclave-\d+)\0")


def let_pass(link: str) -> None:
    """Add rules for a link to all filters, in place of those of links that are gone. Raises OSError."""
    rules = [[coming_from(link), ACCEPT], [going_to(link), ACCEPT]]
    with Netfilter() as netfilter:
        _sweep(netfilter, _links())
        for chain in _filters(netfilter):
            try:
                netfilter.insert(chain, rules)
            except PermissionError:
                # It belongs to a program that lets nobody else change it.
                continue
    if lines := _legacy_rules():
        _sweep_legacy(lines, _links())
        for side in ("-i", "-o"):
            _legacy("-I", "FORWARD", side, link, "-j", "ACCEPT")


def stop(link: str) -> None:
    """Remove the rules of a link that is about to go. Raises OSError."""
    links = _links() - {link}
    with Netfilter() as netfilter:
        _sweep(netfilter, links)
    _sweep_legacy(_legacy_rules(), links)


def _links() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def _sweep(netfilter: Netfilter, links: set[str]) -> None:
    if rules := list(_without_link(netfilter, links)):
        _delete(netfilter, rules)
    kept = {*links, GUARD}
    for table in {chain.table for chain in netfilter.chains() if _is_ours(chain) and chain.table not in kept}:
        # Left by a supervisor that was killed, where the kernel does not tie tables to processes.
        with suppress(FileNotFoundError, PermissionError):
            netfilter.delete_table(table)


def _sweep_legacy(lines: list[list[str]], links: set[str]) -> None:
    for line in lines:
        if any(word.startswith(PREFIX) and word not in links for word in line):
            try:
                _legacy("-D", *line[1:])
            except OSError:
                # Unless another was faster.
                if line in _legacy_rules():
                    raise


def _delete(netfilter: Netfilter, rules: list[Rule]) -> None:
    try:
        # The kernel waits for packets under way, once for all of them.
        netfilter.delete(rules)
    except FileNotFoundError:
        # Another enclave's supervisor was faster with one.
        for rule in rules:
            with suppress(FileNotFoundError):
                netfilter.delete([rule])


def _filters(netfilter: Netfilter) -> Iterator[Chain]:
    for chain in netfilter.chains():
        forwards = chain.hook == FORWARD and chain.type == "filter" and chain.family in (IPV4, INET)
        if forwards and not _is_ours(chain):
            yield chain


def _without_link(netfilter: Netfilter, links: set[str]) -> Iterator[Rule]:
    for chain in _filters(netfilter):
        for rule in netfilter.rules(chain):
            named = _OURS.search(rule.expressions)
            if named and named[1].decode() not in links:
                yield rule


def _is_ours(chain: Chain) -> bool:
    return chain.table.startswith(PREFIX)


def _legacy_rules() -> list[list[str]]:
    """The rules of the older iptables, if it is in use and refuses anything, each as its words."""
    try:
        with open(LEGACY_TABLES) as tables:
            if "filter" not in tables.read().split():
                return []
    except OSError:
        return []
    lines = [line.split() for line in _legacy("-S", "FORWARD").splitlines()]
    return [] if lines == [["-P", "FORWARD", "ACCEPT"]] else lines


def _legacy(*arguments: str) -> str:
    """Run the older iptables; its output. Raises OSError."""
    places = [f"{directory}/{program}" for program in LEGACY_PROGRAMS for directory in DIRECTORIES]
    program = next((path for path in places if os.access(path, os.X_OK)), None)
    if program is None:
        raise FileNotFoundError(2, "not installed, but its rules are in force", LEGACY_PROGRAMS[0])
    reader, writer = os.pipe()
    try:
        child = os.posix_spawn(
            program, [program, "-w", *arguments], {}, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)]
        )
    finally:
        os.close(writer)
    with open(reader, encoding="utf-8", errors="replace") as output:
        text = output.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(f"{program} {' '.join(arguments)} ended with {code}")
    return text
