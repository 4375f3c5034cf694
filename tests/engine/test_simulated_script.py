from __future__ import annotations

import pytest

from pytest_enclave.engine.protocol import ExecResult, Exit, HttpRequest, HttpResponse, NotReached
from pytest_enclave.engine.simulated import Script, Timing, script_of
from pytest_enclave.plan.facts import Capacity


def test_telling_a_script_more_leaves_it_as_it_was() -> None:
    script = Script()
    longer = script.on_exec("db", None, ExecResult(0, "")).service("db", exits_after=1.0).image("a", missing=True)
    assert script == Script()
    assert longer != script


def test_what_is_told_of_a_service_adds_up_and_the_last_word_holds() -> None:
    script = Script().service("*", start_takes=1.0, exits_after=9.0).service("db", start_takes=2.0, exits_with=Exit(1))
    assert script.behaviour_of("db").start_takes == 2.0
    assert script.behaviour_of("db").exits_after == 9.0
    assert script.behaviour_of("db").exits_with == Exit(1)
    assert script.behaviour_of("api").start_takes == 1.0


@pytest.mark.parametrize(
    ("pattern", "fitting", "other"),
    [
        (["curl", "-f"], ("curl", "-f"), ("curl", "-f", "x")),
        (["curl", ...], ("curl", "x", "y"), ("wget", "x")),
        (["curl", ...], ("curl",), ()),
        (lambda command: "x" in command, ("a", "x"), ("a",)),
    ],
)
def test_a_command_pattern_fits(pattern: object, fitting: tuple[str, ...], other: tuple[str, ...]) -> None:
    script = Script().on_exec("api", pattern, ExecResult(0, ""))  # type: ignore[arg-type]
    assert script.rule_for_exec("api", fitting) is not None
    assert script.rule_for_exec("api", other) is None
    assert script.rule_for_exec("db", fitting) is None


@pytest.mark.parametrize(
    ("pattern", "fitting", "other"),
    [
        ("/health", "/health?deep=1", "/healthy"),
        ("/health?deep=1", "/health?deep=1", "/health"),
        (lambda request: request.endpoint.endswith("y"), "/healthy", "/health"),
    ],
)
def test_an_endpoint_pattern_fits(pattern: object, fitting: str, other: str) -> None:
    script = Script().on_request("api", pattern, HttpResponse(200, {}, b""))  # type: ignore[arg-type]
    assert script.rule_for_request("api", HttpRequest("GET", fitting)) is not None
    assert script.rule_for_request("api", HttpRequest("GET", other)) is None


def test_a_rule_may_be_for_one_method_only() -> None:
    script = Script().on_request("api", None, HttpResponse(200, {}, b""), method="POST")
    assert script.rule_for_request("api", HttpRequest("POST", "/")) is not None
    assert script.rule_for_request("api", HttpRequest("GET", "/")) is None


def test_of_several_rules_that_fit_the_one_told_last_holds() -> None:
    script = Script().on_exec("*", None, ExecResult(1, "")).on_exec("api", ["ls"], ExecResult(2, ""))
    assert script.rule_for_exec("api", ("ls",)) is script.execs[1]
    assert script.rule_for_exec("db", ("ls",)) is script.execs[0]


@pytest.mark.parametrize("pattern", ["curl -f", ["curl", ..., "x"]])
def test_a_pattern_that_could_never_fit_is_refused(pattern: object) -> None:
    with pytest.raises(ValueError, match="command"):
        Script().on_exec("api", pattern, ExecResult(0, ""))  # type: ignore[arg-type]


def test_no_answer_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="empty sequence"):
        Script().on_exec("api", None, [])


@pytest.mark.parametrize("bad", [-1.0, float("nan")])
def test_what_is_no_length_of_time_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="no length of time"):
        Script().service("db", exits_after=bad)
    with pytest.raises(ValueError, match="no length of time"):
        Script().service("db", opens_after={"pg": bad})
    with pytest.raises(ValueError, match="no length of time"):
        Script().on_exec("db", None, ExecResult(0, ""), takes=bad)
    with pytest.raises(ValueError, match="no length of time"):
        Script().timing(Timing(exec=bad))


def test_plain_data_tells_all_that_a_script_does() -> None:
    script = script_of(
        {
            "services": {
                "db": {
                    "opens_after": {"pg": 2.0},
                    "exits_after": 5.0,
                    "exits_with": {"code": 137, "out_of_memory": True},
                    "logs": [[0.2, "ready"], [0.1, "starting"]],
                    "files": {"/etc/motd": "hello"},
                    "exec": [{"command": ["psql", "..."], "answers": [{"code": 1}, {"output": "yes"}], "takes": 2}],
                    "request": [{"endpoint": "/health", "method": "GET", "answers": {"refused": "too early"}}],
                }
            },
            "images": {"postgres:61": {"missing": "manifest unknown"}},
            "capacity": {"cpu": 4_000, "memory": 8_192},
            "timing": {"start": 1.0},
            "unavailable": "no daemon",
        }
    )
    behaviour = script.behaviour_of("db")
    assert behaviour.opens_after == {"pg": 2.0}
    assert (behaviour.exits_after, behaviour.exits_with) == (5.0, Exit(137, out_of_memory=True))
    assert behaviour.logs == ((0.1, "starting"), (0.2, "ready"))
    assert behaviour.files == {"/etc/motd": b"hello"}
    command = ("psql", "-c", "select 1")
    rule = script.rule_for_exec("db", command)
    assert rule is not None
    assert rule.takes == 2
    assert [rule.answer(n, command, 0.0) for n in range(3)] == [
        ExecResult(1, ""),
        ExecResult(0, "yes"),
        ExecResult(0, "yes"),
    ]
    request = HttpRequest("GET", "/health")
    refusing = script.rule_for_request("db", request)
    assert refusing is not None
    with pytest.raises(NotReached, match="too early"):
        refusing.answer(0, request, 0.0)
    assert script.image_of("postgres:61").missing == "manifest unknown"
    assert script.limits == Capacity(4_000, 8_192)
    assert script.times == Timing(start=1.0)
    assert script.outage == "no daemon"


def test_in_plain_data_an_exit_code_alone_will_do_and_what_is_left_out_fits_all() -> None:
    script = script_of({"services": {"api": {"exits_with": 3, "exec": [{}], "request": [{}]}}, "capacity": None})
    assert script.behaviour_of("api").exits_with == Exit(3)
    assert script.rule_for_exec("api", ("anything",)) is not None
    request = HttpRequest("GET", "/any")
    rule = script.rule_for_request("api", request)
    assert rule is not None
    assert rule.answer(0, request, 0.0) == HttpResponse(200, {}, b"")
    assert script.limits is None


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"service": {}}, "the script: unknown key `service`"),
        ({"services": {"db": {"opens": 1}}}, r"services\.db: unknown key `opens`"),
        ({"services": {"db": {"exec": [{"cmd": []}]}}}, r"services\.db\.exec: unknown key `cmd`"),
        (
            {"services": {"db": {"request": [{"answers": [{"status": 1}]}]}}},
            "an answer to a request: .*`status`",
        ),
        ({"images": {"a": {"gone": True}}}, r"images\.a: unknown key `gone`"),
        ({"timing": {"stop": 1}}, "timing: .*stop"),
    ],
)
def test_an_unknown_key_in_plain_data_is_named_with_its_place(data: dict[str, object], place: str) -> None:
    with pytest.raises(ValueError, match=place):
        script_of(data)
