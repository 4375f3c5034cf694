"""`plan.set_connection`, `plan.remove_connection`, `plan.update_service`, `ServiceConfig.subnetwork`: what they take,
and what is between services afterwards."""

from __future__ import annotations

import pytest

from pytest_enclave.errors import InterpretationError, Problem, ValidationError
from pytest_enclave.plan.connections import ALLOWED, BLOCKED, Connection, ConnectionMatrix, Delay
from pytest_enclave.plan.events import Warned
from pytest_enclave.report.short_call import short_call
from tests.laboratory import Laboratory

SERVICES = """
plan.add_service("a", ServiceConfig(image = "img", subnetwork = "x"))
plan.add_service("b", ServiceConfig(image = "img", subnetwork = "y"))
plan.add_service("c", ServiceConfig(image = "img"))
"""
BLOCK = "plan.set_connection(config = kurtosis.connection.BLOCKED)\n"


def both(one: str, other: str, connection: Connection) -> ConnectionMatrix:
    """The connection, each way."""
    return {(one, other): connection, (other, one): connection}


ALL_BLOCKED = {**both("a", "b", BLOCKED), **both("a", "c", BLOCKED), **both("b", "c", BLOCKED)}


@pytest.mark.parametrize(
    ("config", "connection"),
    [
        ("ConnectionConfig()", ALLOWED),
        ("ConnectionConfig(packet_loss_percentage = 30.5)", Connection(30.5)),
        ("ConnectionConfig(packet_loss_percentage = 30)", Connection(30.0)),
        ("ConnectionConfig(packet_delay_distribution = UniformPacketDelayDistribution(ms = 500))",
         Connection(delay=Delay(500.0))),
        ("ConnectionConfig(1.0, NormalPacketDelayDistribution(150, 10))", Connection(1.0, Delay(150.0, 10.0))),
        ("ConnectionConfig(1.0, NormalPacketDelayDistribution(150, 10, 2.5))",
         Connection(1.0, Delay(150.0, 10.0, 2.5))),
        ("kurtosis.connection.BLOCKED", BLOCKED),
        ("kurtosis.connection.ALLOWED", ALLOWED),
    ],
)  # fmt: skip
def test_a_config_says_what_happens_to_packets(lab: Laboratory, config: str, connection: Connection):
    lab.ok(f'{SERVICES}plan.set_connection(("x", "y"), {config})')
    expected = both("a", "b", connection) if connection != ALLOWED else {}
    assert lab.state.site.shaped() == expected
    assert lab.state.topology().between("y", "x") == connection


def test_without_subnetworks_the_default_connection_is_set(lab: Laboratory):
    lab.ok(SERVICES + BLOCK)
    assert lab.state.site.shaped() == ALL_BLOCKED


def test_an_override_is_removed_and_the_default_connection_is_back(lab: Laboratory):
    lab.ok(f'{BLOCK}plan.set_connection(("x", "y"), kurtosis.connection.ALLOWED)\n{SERVICES}')
    assert ("a", "b") not in lab.state.site.shaped()
    lab.ok('plan.remove_connection(("y", "x"))')
    assert lab.state.site.shaped() == ALL_BLOCKED


def test_row_183_removing_what_never_was_does_nothing(lab: Laboratory):
    finished = lab.ok(f'plan.remove_connection(("never", "seen"))\n{SERVICES}plan.remove_connection(("x", "y"))')
    assert [step.message for step in finished.instructions][::4] == [
        "the connection between subnetworks `never` and `seen` is the default one, if both have services",
        "the connection between subnetworks `x` and `y` is the default one, if both have services",
    ]
    assert lab.engine.sites["lab-0"].asked("shape") == []


def test_an_override_stays_where_a_subnetwork_has_no_services(lab: Laboratory):
    lab.ok('plan.set_connection(("x", "y"), kurtosis.connection.BLOCKED)\nplan.remove_connection(("x", "y"))')
    lab.ok(SERVICES)
    assert lab.state.site.shaped() == both("a", "b", BLOCKED)


def test_a_service_moves_without_being_started_again(lab: Laboratory):
    lab.ok(BLOCK + SERVICES)
    finished = lab.ok('plan.update_service("b", UpdateServiceConfig(subnetwork = "x"))')
    assert finished.instructions[0].message == "service `b` is in subnetwork `x`"
    assert lab.state.site.shaped() == {**both("a", "c", BLOCKED), **both("b", "c", BLOCKED)}
    assert len(lab.engine.sites["lab-0"].asked("start")) == 3


def test_row_184_moving_a_service_to_where_it_is_changes_nothing(lab: Laboratory):
    lab.ok(BLOCK + SERVICES)
    told = len(lab.engine.sites["lab-0"].asked("shape"))
    lab.ok('plan.update_service("b", UpdateServiceConfig("y"))')
    assert len(lab.engine.sites["lab-0"].asked("shape")) == told


def test_a_service_may_move_to_a_new_subnetwork_and_back_to_the_one_of_those_that_name_none(lab: Laboratory):
    lab.ok(BLOCK + SERVICES + 'plan.update_service("b", UpdateServiceConfig("new"))')
    assert lab.state.site.shaped() == ALL_BLOCKED
    lab.ok('plan.update_service("b", UpdateServiceConfig("default"))')
    assert lab.state.site.shaped() == {**both("a", "b", BLOCKED), **both("a", "c", BLOCKED)}


def test_services_of_a_batch_have_subnetworks_of_their_own(lab: Laboratory):
    lab.ok(BLOCK + 'plan.add_services({n: ServiceConfig(image = "img", subnetwork = n) for n in ["a", "b", "c"]})')
    assert lab.state.site.shaped() == ALL_BLOCKED


def test_row_185_a_service_that_is_added_again_is_where_its_new_config_says(lab: Laboratory):
    lab.ok(BLOCK + SERVICES)
    lab.ok('plan.add_service("b", ServiceConfig(image = "img", subnetwork = "x"))')
    assert lab.state.topology().services == {"a": "x", "b": "x", "c": "default"}
    assert lab.state.site.shaped() == {**both("a", "c", BLOCKED), **both("b", "c", BLOCKED)}


def test_set_service_can_say_where_a_service_is(lab: Laboratory):
    lab.ok(SERVICES + 'plan.set_service("c", ServiceConfig(image = "img", subnetwork = "y"))')
    assert lab.state.topology().services["c"] == "y"


def test_none_of_them_gives_anything_to_the_script(lab: Laboratory):
    finished = lab.ok(
        SERVICES + "return [plan.set_connection(config = ConnectionConfig(1.0)), "
        'plan.remove_connection(("x", "y")), plan.update_service("a", UpdateServiceConfig("y"))]'
    )
    assert finished.output == [None, None, None]


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        pytest.param('plan.set_connection(("x",), ConnectionConfig())', "set_connection: `subnetworks` must be a tuple "
                     'of the names of two subnetworks, not ("x",) (tuple)', id="row-76-one"),
        pytest.param('plan.set_connection(("x", "y", "z"), ConnectionConfig())', "set_connection: `subnetworks` must "
                     'be a tuple of the names of two subnetworks, not ("x", "y", "z") (tuple)', id="row-76-three"),
        pytest.param('plan.set_connection(("x", 1), ConnectionConfig())', "set_connection: `subnetworks[1]` must be a "
                     "non-empty string, known before execution, not 1 (int)", id="row-76-no-string"),
        pytest.param('plan.remove_connection(["x", "y"])', "remove_connection: `subnetworks` must be a tuple of the "
                     'names of two subnetworks, not ["x", "y"] (list)', id="row-76-list"),
        ("plan.remove_connection()", "remove_connection: `subnetworks` is missing"),
        ('plan.set_connection(("x", "y"))', "set_connection: `config` is missing"),
        ('plan.set_connection(("x", ""), 1)', "set_connection: `subnetworks[1]` must be a non-empty string, known "
         'before execution, not "" (string); `config` must be a ConnectionConfig, not 1 (int)'),
        ('plan.update_service("a", "x")', "update_service: `config` must be an UpdateServiceConfig, "
         'not "x" (string)'),
        ('plan.update_service(config = UpdateServiceConfig("x"))', "update_service: `name` is missing"),
    ],
)  # fmt: skip
def test_other_arguments_are_refused_where_they_are_written(lab: Laboratory, plan: str, told: str):
    error = lab.error(plan)
    assert type(error) is InterpretationError
    assert error.message == told
    assert error.location is not None
    assert (error.location.line, error.location.file) == (2, "<source>")


def test_a_subnetwork_cannot_be_called_what_is_known_later_only(lab: Laboratory):
    error = lab.error(SERVICES + 'd = plan.exec("a", ExecRecipe(["x"]))["output"]\nplan.set_connection((d, "y"), None)')
    assert "`subnetworks[0]` must be a non-empty string, known before execution" in error.message


def problems(error: object) -> list[tuple[str, str, str]]:
    """What is told: place, message, remedy."""
    assert isinstance(error, ValidationError)

    def shown(problem: Problem) -> tuple[str, str, str]:
        assert problem.location is not None
        return f"{problem.location.line}:{problem.location.column}", problem.message, problem.remedy

    return [shown(problem) for problem in error.problems]


def test_a_service_that_does_not_exist_cannot_move(lab: Laboratory):
    error = lab.error(SERVICES + 'plan.update_service("bb", UpdateServiceConfig("x"))')
    assert problems(error) == [("5:24", "service `bb` does not exist at this point", "did you mean `b`?")]
    error = lab.error(SERVICES + 'plan.remove_service("b")\nplan.update_service("b", UpdateServiceConfig("x"))')
    assert problems(error) == [
        ("6:24", "service `b` does not exist any more: it is removed at <source>:5:24", ""),
    ]


@pytest.mark.parametrize(
    "call",
    [
        'plan.set_connection(("x", "x"), kurtosis.connection.BLOCKED)',
        'plan.remove_connection(("x", "x"))',
    ],
)
def test_a_subnetwork_and_itself_are_no_pair_and_that_is_told(lab: Laboratory, call: str):
    finished = lab.ok(f'{SERVICES}plan.add_service("d", ServiceConfig(image = "img", subnetwork = "x"))\n{call}')
    assert lab.state.site.shaped() == {}
    [told] = [event.problem for event in lab.events if isinstance(event, Warned)]
    assert (told.message, told.remedy) == (
        "this has no effect: both subnetworks are `x`, and inside of one nothing is ever in the way",
        "name two different subnetworks",
    )
    assert told.location is not None
    assert (told.location.line, told.subject) == (6, finished.instructions[-1].name)


def test_row_127_nothing_has_to_be_enabled(lab: Laboratory):
    plan = BLOCK + SERVICES + 'plan.update_service("c", UpdateServiceConfig("x"))\nplan.remove_connection(("x", "y"))'
    assert lab.outcomes(plan) == ["executed"] * 6


@pytest.mark.parametrize(
    ("plan", "shown"),
    [
        ("plan.set_connection(config = kurtosis.connection.BLOCKED)", "set_connection(default, blocked)"),
        ('plan.set_connection(("x", "y"), ConnectionConfig(2, NormalPacketDelayDistribution(150, 10)))',
         'set_connection("x" ↔ "y", 2 % loss, 150 ms ± 10 ms delay)'),
        ('plan.set_connection(("x", "y"), kurtosis.connection.ALLOWED)',
         'set_connection("x" ↔ "y", nothing in the way)'),
        ('plan.remove_connection(("x", "y"))', 'remove_connection("x" ↔ "y")'),
        (SERVICES + 'plan.update_service("a", UpdateServiceConfig("y"))', 'update_service("a", "y")'),
    ],
)  # fmt: skip
def test_in_one_line_each_says_what_it_is_about(lab: Laboratory, plan: str, shown: str):
    assert short_call(lab.ok(plan).instructions[-1].instruction) == shown


def test_what_has_been_set_is_told(lab: Laboratory):
    finished = lab.ok(
        'plan.set_connection(("x", "y"), ConnectionConfig(50, UniformPacketDelayDistribution(20)))\n' + BLOCK
    )
    assert [step.message for step in finished.instructions] == [
        "the connection between subnetworks `x` and `y`: 50 % loss, 20 ms delay",
        "the default connection: blocked",
    ]
