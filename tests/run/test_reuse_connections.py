"""Reuse where plans settle connections: what runs again because of one, and where one makes that plans do not match.

Notation: `a` adds service a in subnetwork x, `b` service b in y, `c` service c in `default`, `b2` is b with another
config, `bx` is b in x; `set(n)` loses n percent between x and y, `all(n)` by default, `rm` removes the override,
`mv(s)` moves b to s, `ua` and `ub` run a command in a or b, `p` prints.
"""

from __future__ import annotations

import re

import pytest

from pytest_enclave.plan.connections import Connection
from pytest_enclave.run.outcome import Run
from tests.laboratory import Laboratory

FORMS = {
    r"([abc])(2?)(x?)": "",
    r"set\((\d+)\)": 'plan.set_connection(("x", "y"), ConnectionConfig(packet_loss_percentage = {0}))',
    r"all\((\d+)\)": "plan.set_connection(config = ConnectionConfig(packet_loss_percentage = {0}))",
    r"other\((\d+)\)": 'plan.set_connection(("x", "z"), ConnectionConfig(packet_loss_percentage = {0}))',
    r"rm": 'plan.remove_connection(("x", "y"))',
    r"mv\((\w+)\)": 'plan.update_service("b", UpdateServiceConfig("{0}"))',
    r"u([abc])": 'plan.exec("{0}", ExecRecipe(command = ["true"]))',
    r"p": 'plan.print("p")',
}
HOME = {"a": "x", "b": "y"}


def line(word: str) -> str:
    """The Starlark of one word of the notation."""
    form, match = next((f, m) for p, f in FORMS.items() if (m := re.fullmatch(p, word)))
    if form:
        return form.format(*match.groups())
    name, version, moved = match.groups()
    place = "x" if moved else HOME.get(name)
    subnetwork = f', subnetwork = "{place}"' if place else ""
    return f'plan.add_service("{name}", ServiceConfig(image = "img", cmd = ["{version}"]{subnetwork}))'


def script(notation: str) -> str:
    """The Starlark of a plan in this notation."""
    return "\n".join(map(line, notation.split()))


SHORT = {"executed": "run", "updated": "update", "skipped": "skip"}


def outcomes(finished: Run) -> str:
    """What became of each instruction."""
    return " ".join(SHORT[str(step.outcome)] for step in finished.instructions)


# enclave plan, submitted plan, outcome of each submitted instruction, enclave plan afterwards
ROWS = [
    # identical ones
    ("a b set(50) ua", "a b set(50) ua", "skip skip skip skip", 4),
    ("all(50) a b mv(x) rm", "all(50) a b mv(x) rm", "skip skip skip skip skip", 5),
    ("set(50)", "set(50)", "skip", 1),
    # in place: another connection, what may see it runs again
    ("a b set(50) ua p", "a b set(60) ua p", "skip skip update run skip", 5),
    ("a b ua set(50)", "a b ua set(60)", "skip skip skip update", 4),
    ("all(50) a b ua", "all(60) a b ua", "update skip skip run", 4),
    ("a b mv(x) ub", "a b mv(z) ub", "skip skip update run", 4),
    ("a b set(50) mv(x) rm ua", "a b set(60) mv(x) rm ua", "skip skip update skip skip run", 6),
    # a service in another subnetwork is another service
    ("a b ub set(50)", "a bx ub set(50)", "skip update run skip", 4),
    # not the same: neither the pair, nor what is done
    ("a b set(50)", "a b all(50)", "update update run", 6),
    ("a b set(50)", "a b rm", "update update run", 6),
    ("a b set(50)", "a b set(50) rm", "skip skip skip run", 4),
    # beyond the overlap, concerning it
    ("a b set(50)", "a b", "update update", 5),
    ("a b all(50)", "a b", "update update", 5),
    ("a b rm", "a b", "update update", 5),
    ("a b mv(x)", "a b", "update update", 5),
    ("a b ub mv(x)", "ub", "run", 5),
    ("a b ua set(50)", "a b ua", "update update run", 7),
    ("set(50) set(60)", "set(50)", "update", 2),
    ("all(50) all(60) p", "all(50)", "update", 3),
    # beyond the overlap, not concerning it
    ("a b set(50)", "a", "skip", 3),
    ("a b set(50) p", "p", "skip", 4),
    ("a b other(50)", "a b", "skip skip", 3),
    ("c all(50)", "c", "skip", 2),
    ("a b mv(x)", "a", "skip", 3),
    ("a b set(50) ub", "set(50)", "skip", 4),
    ("all(50) set(60)", "all(50)", "skip", 2),
    ("a b ub set(50)", "ub", "skip", 4),
    # a service that was in both
    ("a b mv(x) set(50)", "a b mv(x)", "update update run", 7),
    ("a bx mv(z) set(50)", "a bx mv(z)", "skip skip skip", 4),
]


@pytest.mark.parametrize(("enclave", "submitted", "expected", "kept"), ROWS)
def test_what_runs(lab: Laboratory, enclave: str, submitted: str, expected: str, kept: int):
    lab.ok(script(enclave))
    finished = lab.ok(script(submitted))
    assert outcomes(finished) == expected
    assert len(lab.kept) == kept
    assert lab.state.site.shaped() == lab.state.topology().matrix()


@pytest.mark.parametrize(
    ("enclave", "submitted", "reasons"),
    [
        ("a b set(50) ua", "a b set(60) ua",
         ["already done", "already done", "config.packet_loss_percentage changed",
          "connections between services changed"]),
        ("a b mv(x) ub", "a b mv(z) ub",
         ["already done", "already done", "config.subnetwork changed", "connections between services changed"]),
        ("a b ub", "a bx ub", ["already done", "config.subnetwork changed", "service `b` was replaced"]),
    ],
)  # fmt: skip
def test_why(lab: Laboratory, enclave: str, submitted: str, reasons: list[str]):
    lab.ok(script(enclave))
    assert [step.reason for step in lab.ok(script(submitted)).instructions] == reasons


def test_where_a_connection_has_since_changed_what_a_plan_asks_for_it_is_named(lab: Laboratory):
    lab.ok(script("a b"))
    lab.ok(script("p set(50)"))
    assert lab.ok(script("a b")).mismatch == (
        "set_connection at <source>:3:24 has since changed what this plan asks for"
    )


def test_plans_of_others_in_other_subnetworks_do_not_disturb(lab: Laboratory):
    mine, theirs = script("a ua"), script("b c set(100)").replace('"x"', '"w"')
    lab.ok(mine)
    lab.ok(theirs)
    assert lab.ok(mine).executed == 0
    assert lab.ok(theirs).executed == 0


def test_the_override_of_an_earlier_plan_stays_until_a_plan_says_otherwise(lab: Laboratory):
    lab.ok(script("a b set(50)"))
    lab.ok(script("a b"))
    assert lab.state.site.shaped()["a", "b"] == Connection(50.0)
    lab.ok(script("a b set(0)"))
    assert lab.state.site.shaped() == {}


def test_a_run_that_failed_leaves_the_connections_that_it_had_set(lab: Laboratory):
    lab.ok(script("a b set(50) ua"))
    lab.error(script("a b set(60)") + '\nplan.verify("a", "==", "b")')
    assert lab.state.site.shaped()["a", "b"] == Connection(60.0)
    assert outcomes(lab.ok(script("a b set(60) ua"))) == "skip skip skip run"


def test_another_process_finds_the_connections_in_the_journal(lab: Laboratory):
    lab.ok(script("a b set(50) mv(z)"))
    other = lab.elsewhere()
    try:
        assert other.state.topology() == lab.state.topology()
        assert outcomes(other.ok(script("a b set(50) mv(z)"))) == "skip skip skip skip"
    finally:
        other.state.journal.close()
