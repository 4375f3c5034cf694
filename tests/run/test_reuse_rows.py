"""The reuse scenarios of behaviour.md §6.5 and §6.6, by row, with the outcomes that design §4 settles.

Notation: `p1` prints, `s(a,1)` adds service a with config version 1, `x(a)` runs a command in it, `r(f,1)` renders
artifact f, `sf(a,1)` is a service that mounts f, `rm`, `stop`, `start` act on a service.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from pytest_enclave.engine.simulated.script import Script
from tests.laboratory import Laboratory

FORMS = {
    r"p(\w+)": 'plan.print("{0}")',
    r"s\((\w+),(\d+)\)": '{0} = plan.add_service("{0}", ServiceConfig(image = "img", env_vars = {{"V": "{1}"}}))',
    r"sf\((\w+),(\d+)\)": (
        '{0} = plan.add_service("{0}", ServiceConfig(image = "img", files = {{"/f": "f"}}, env_vars = {{"V": "{1}"}}))'
    ),
    r"sg\((\w+),(\d+)\)": (
        '{0} = plan.add_service("{0}", ServiceConfig(image = "img", files = {{"/g": "g"}}, env_vars = {{"V": "{1}"}}))'
    ),
    r"x(\w*)\((\w+)\)": 'plan.exec("{1}", ExecRecipe(command = ["echo", "{0}"]))',
    r"r\((\w+),(\w+)\)": 'plan.render_templates({{"t": struct(template = "{1}", data = {{}})}}, name = "{0}")',
    r"ip\((\w+)\)": 'plan.print("address " + {0}.ip_address)',
    r"assert\((\w+)\)": 'plan.verify({0}.ip_address, "!=", "")',
    r"store\((\w+),(\w+)\)": 'plan.store_service_files("{0}", "/data", name = "{1}")',
    r"fs\((\w+),(\d+)\)": (
        'plan.add_service("{0}", ServiceConfig(image = "img", env_vars = {{"V": "{1}"}}), force_update = True)'
    ),
    r"set\((\w+),(\w+)\)": 'plan.set_service("{0}", ServiceConfig(image = "{1}"))',
    r"(rm|stop|start)\((\w+)\)": 'plan.{0}_service("{1}")',
}


@pytest.fixture
def lab(laboratory: Callable[..., Laboratory]) -> Laboratory:
    """Services that all have the file which `store` takes."""
    return laboratory(Script().service("*", files={"/data": "content"}))


def script(notation: str) -> str:
    """The Starlark of a row's notation."""
    lines = []
    for word in notation.split():
        form, match = next((f, m) for p, f in FORMS.items() if (m := re.fullmatch(p, word)))
        lines.append(form.format(*match.groups()).replace("plan.rm_service", "plan.remove_service"))
    return "\n".join(lines) or "pass"


# row, enclave plan, submitted plan, outcome of each submitted instruction, enclave plan afterwards
ROWS = [
    ("I1", "p1 p2 p3", "p1 p2 p3", "skip skip skip", 3),
    ("I2", "p1 p2", "p1 p2 p3", "skip skip run", 3),
    ("I3", "p1 p2", "p3", "run", 3),
    ("I4", "p1 p2 p3", "p1 p2", "skip skip", 3),
    ("I5", "p1 p2 p3", "p1 px p3", "run run run", 6),
    ("I6", "s(a,1) ip(a) x(a) assert(a)", "s(a,2) ip(a) x(a) assert(a)", "update skip run skip", 4),
    ("I7", "r(f,Hello) sf(a,1) x(a) assert(a)", "r(f,Bonjour) sf(a,1) x(a) assert(a)", "update update run skip", 4),
    ("I8", "s(d,1)", "s(d,1) set(d,latest)", "update run", 2),
    ("I9", "s(d,1)", "s(d,1) set(d,old) set(d,latest)", "update run run", 3),
    ("I10", "s(db,1) s(be,1)", "s(db,1) s(be,1) set(db,debian)", "update skip run", 3),
    ("I11", "s(db,1) s(be,1) set(db,debian)", "s(db,1) s(be,1) set(db,alpine)", "update skip run", 3),
    ("I12", "p1", "p1", "skip", 1),
    ("I14", "p1", "p2", "run", 2),
    ("I15", "pA pO", "pO pB", "skip run", 3),
    ("I17", "r(f,Hello) s(gen,1) store(gen,g) sf(t,1)", "r(f,Bonjour) s(gen,1) store(gen,g) sf(t,1)",
     "update skip skip update", 4),
    ("I18", "r(f,Hello) s(gen,1) store(gen,g) sf(t,1)", "r(f,Hello) s(gen,2) store(gen,g) sf(t,1)",
     "skip update run skip", 4),
    ("J1", "p1 p2 p3", "p2", "skip", 3),
    ("J2", "p1 p2 p3", "p2 p3", "skip skip", 3),
    ("J3", "p1 p2 p3", "p2 p3 p4", "skip skip run", 4),
    ("J4", "p1 p2 p3", "p3 p4", "skip run", 4),
    ("J5", "p1 p2", "p0 p1 p2", "run run run", 5),
    ("J6", "p1 p2 p3", "p1 p4", "run run", 5),
    ("J7", "p1 p1 p2", "p1 p2", "skip skip", 3),
    ("J8", "p1 p2 p1", "p1 p3", "skip run", 4),
    ("J9", "p1 p2", "", "", 2),
    ("J10", "p1", "p1 p2 p3", "skip run run", 3),
    ("J11", "p1 p2", "p2 p1", "skip run", 3),
    ("J12", "s(a,1) p1", "s(a,2)", "update", 2),
    ("J13", "p1 s(a,1)", "s(a,2) p2", "update run", 3),
    ("J14", "s(a,1) p1", "s(a,1) p1 rm(a)", "skip skip run", 3),
    ("J15", "s(a,1) rm(a) p1", "p1 p2", "skip run", 4),
    ("J16", "s(a,1) rm(a)", "s(a,1)", "run", 3),
    ("J17", "s(a,1)", "s(a,1) x(a)", "skip run", 2),
    ("J18", "s(a,1) x(a)", "s(a,1) xother(a)", "update run", 4),
    ("J19", "r(f,1) sf(a,1) x(a)", "r(f,2) sf(a,1) x(a)", "update update run", 3),
    ("J20", "p0 p1 p2 p3 p4", "p1 p2", "skip skip", 5),
]  # fmt: skip
WORDS = {"skipped": "skip", "executed": "run", "updated": "update"}


BY = ("the same process", "another process", "a later session")
"""Who runs the second plan."""


@pytest.fixture
def then(lab: Laboratory, request: pytest.FixtureRequest) -> Iterator[Callable[[], Laboratory]]:
    """The enclave, after its first run, as whoever runs the second plan has it."""
    opened = [lab.elsewhere()] if request.param == "another process" else []

    def take() -> Laboratory:
        if request.param == "a later session":
            lab.state.journal.close()
            opened.append(lab.elsewhere())
        other = opened[-1] if opened else lab
        other.state.refresh()
        return other

    yield take
    for other in opened:
        other.state.journal.close()


by_anybody = pytest.mark.parametrize("then", BY, indirect=True)


@by_anybody
@pytest.mark.parametrize(
    ("before", "submitted", "expected", "kept"), [row[1:] for row in ROWS], ids=[r[0] for r in ROWS]
)
def test_row(lab: Laboratory, then: Callable[[], Laboratory], before: str, submitted: str, expected: str, kept: int):
    lab.ok(script(before))
    other = then()
    assert [WORDS[outcome] for outcome in other.outcomes(script(submitted))] == expected.split()
    assert len(other.kept) == kept


@by_anybody
@pytest.mark.parametrize("row", [row for row in ROWS if row[2]], ids=[row[0] for row in ROWS if row[2]])
def test_an_identical_run_after_any_row_executes_nothing(
    lab: Laboratory, then: Callable[[], Laboratory], row: tuple[str, str, str, str, int]
):
    lab.ok(script(row[1]))
    lab.ok(script(row[2]))
    assert set(then().outcomes(script(row[2]))) == {"skipped"}


@by_anybody
@pytest.mark.parametrize("version", [1, 2])
def test_row_I19_a_forced_update_replaces_a_service_whether_it_changed_or_not(
    lab: Laboratory, then: Callable[[], Laboratory], version: int
):
    lab.ok(script("s(a,1) p1 x(a)"))
    other = then()
    again = script(f"fs(a,{version}) p1 x(a)")
    for _ in range(2):
        assert other.outcomes(again) == ["updated", "skipped", "executed"]
    assert len(other.kept) == 3


def test_row_I13_a_script_that_grows_by_one_line_a_run_runs_one_line_a_run(lab: Laboratory):
    for length in range(1, 4):
        outcomes = lab.outcomes(script(" ".join(f"p{number}" for number in range(length))))
        assert outcomes == ["skipped"] * (length - 1) + ["executed"]


def test_row_I13_whoever_runs_it(lab: Laboratory):
    processes = [lab, lab.elsewhere(), lab.elsewhere()]
    for length, process in enumerate([*processes, *processes], 1):
        process.state.refresh()
        outcomes = process.outcomes(script(" ".join(f"p{number}" for number in range(length))))
        assert outcomes == ["skipped"] * (length - 1) + ["executed"]
    for process in processes[1:]:
        process.state.journal.close()


def test_what_another_process_has_in_the_enclave_is_what_this_one_gets_back(lab: Laboratory):
    plan = script("r(f,1) sf(a,1)") + '\nreturn plan.exec("a", ExecRecipe(command = ["cat", "/f/t"]))["output"]'
    other = lab.elsewhere()
    assert lab.ok(plan).output == "1"
    other.state.refresh()
    assert (other.ok(plan).output, other.ok(plan).executed) == ("1", 0)
    assert other.ok(plan.replace('"1", data', '"2", data')).output == "2"
    lab.state.refresh()
    assert lab.ok(plan.replace('"1", data', '"2", data')).executed == 0
    assert lab.state.artifacts.directories() == other.state.artifacts.directories()
    other.state.journal.close()


def test_row_I16_without_the_cache_a_new_enclave_runs_everything(laboratory):
    assert [laboratory().outcomes(script("p1")) for _ in range(2)] == [["executed"], ["executed"]]
