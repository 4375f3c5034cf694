"""The errors of the design, as runs would raise them."""

from __future__ import annotations

from pytest_enclave.errors import (
    Attempt,
    InterpretationError,
    Problem,
    ServiceExited,
    UnacceptableCode,
    ValidationError,
    VerifyFailed,
    WaitTimedOut,
)
from pytest_enclave.plan.futures import Future
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.record import Origin, Outcome, Step
from pytest_enclave.plan.values import Struct, Value
from pytest_enclave.source import Frame, Location

REQUEST, VERIFY, WAIT = (digit * 32 for digit in "abc")

MAIN = (
    "\n" * 40
    + """\
    resp = plan.request("api", recipe = health)


    plan.verify(value = resp["code"], assertion = "==", target_value = 200)
    plan.wait(
        service_name = "api",
        recipe = ready,
        field = "code",
        assertion = "==",  # not (yet
        target_value = 200,
        timeout = "30s",
    )
    plan.exec("db", recipe = migrate)
"""
)


def call(name: str, location: Location, producer: str = "", /, **arguments: Value) -> Instruction:
    return Instruction(name, arguments, location, f"{name}()", producer or name.encode().hex().ljust(32, "0")[:32])


def request() -> Instruction:
    recipe = Struct("GetHttpRequestRecipe", {"port_id": "http", "endpoint": "/health"})
    return call("request", Location("main.star", 41, 24), REQUEST, service_name="api", recipe=recipe)


def verify_failed() -> VerifyFailed:
    error = VerifyFailed("verify failed: 503 == 200 does not hold", value=503, assertion="==", target=200)
    error.location = Location("main.star", 44, 16)
    error.instruction = call(
        "verify", error.location, VERIFY, value=str(Future(REQUEST, "code")), assertion="==", target_value=200
    )
    error.sources = {"main.star": MAIN}
    answer = '503 {"status": "starting", "db": "connecting"}'
    error.origins = [Origin("code", 503, Step(request(), Outcome.EXECUTED, 0.012, answer))]
    error.logs = {"api": ["12:00:03.120 WARN db connect refused 172.20.0.4:5432"]}
    return error


def wait_timed_out() -> WaitTimedOut:
    attempts = [Attempt(float(second), "connection refused 127.0.0.1:49213") for second in range(4)]
    attempts += [Attempt(4.1 + second, '503 {"ready": false, "peers": 0}') for second in range(22)]
    attempts += [Attempt(26.3 + second, '503 {"ready": false, "peers": 2}') for second in range(5)]
    error = WaitTimedOut(
        "wait timed out",
        service="api",
        condition="api GET /ready → code == 200",
        timeout=30,
        interval=1,
        attempts=attempts,
        remedy="a longer `timeout` may be all it takes",
    )
    error.location = Location("main.star", 45, 14)
    error.instruction = call("wait", error.location, WAIT, service_name="api")
    error.sources = {"main.star": MAIN}
    return error


def interpretation_error() -> InterpretationError:
    error = InterpretationError(
        "key `image` not found in `cfg`",
        location=Location("src/db.star", 12, 13),
        frames=[Frame(Location("main.star", 31, 5), "run"), Frame(Location("src/db.star", 12, 13), "add_db")],
        remedy="did you mean `img`?",
    )
    error.sources = {
        "src/db.star": "\n" * 9 + 'def add_db(plan, cfg):\n    name = cfg["name"]\n    image = cfg["image"]\n',
        "main.star": "\n" * 30 + '    db.add_db(plan, args["db"])\n',
    }
    return error


def validation_error() -> ValidationError:
    return ValidationError(
        [
            Problem(
                "port `http` is 8080/TCP, which `metrics` is already",
                Location("main.star", 18, 5),
                'add_service("api")',
            ),
            Problem("image postgres:61 not found at docker.io", Location("src/db.star", 9, 5), 'add_service("db")'),
            Problem("service `ap1` does not exist", Location("main.star", 27, 5), 'exec("ap1")', "did you mean `api`?"),
        ],
        instructions=44,
    )


def service_exited() -> ServiceExited:
    error = ServiceExited(
        "service `db` ran out of memory (exit code 137) before its port `sql` opened",
        service="db",
        code=137,
        out_of_memory=True,
        remedy="raise its `max_memory`",
    )
    error.location = Location("main.star", 3, 21)
    error.sources = {"main.star": 'def run(plan):\n\n    plan.add_service("db", config = database)\n'}
    error.details = (("also", "main.star:3: service `cache` exited with code 1"),)
    error.logs = {"db": ["starting", "FATAL: cannot allocate memory"], "cache": []}
    return error


def unacceptable_code() -> UnacceptableCode:
    error = UnacceptableCode(
        "db $ psql -f migrate.sql: exit code 2 is not acceptable (0)",
        service="db",
        code=2,
        acceptable=[0],
        output="psql: connecting\nFATAL:  role \x1b[31m`app`\x1b[0m does not exist\n",
        remedy="`acceptable_codes` or `skip_code_check` allow others",
    )
    error.location = Location("main.star", 53, 14)
    error.sources = {"main.star": MAIN}
    return error
