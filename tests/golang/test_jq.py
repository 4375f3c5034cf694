"""jq_extract.json: what Kurtosis' recipe extractor yields; and that a query can neither hang nor look around."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_enclave.golang.floats import format_float
from pytest_enclave.golang.jq import (
    BodyError,
    ExtractionCrash,
    ExtractionTimeout,
    JqProcess,
    NoResultError,
    QuerySyntaxError,
)

GOLDEN = Path(__file__).parent.parent / "golden" / "jq_extract.json"
CASES: list[dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]

FROM_JSON = "the reference's fromjson makes text of numbers, an accident"
BIG_LITERAL = "libjq's numbers are float64; the reference keeps big integers, and gives text beyond 64 bits"
NOT_FINITE = "libjq has no infinity or NaN in its results"
DIFFERENT = {
    ".json | fromjson": FROM_JSON,
    ".json | fromjson | .x": FROM_JSON,
    ".dict|tojson|fromjson": FROM_JSON,
    ".list|tojson|fromjson": FROM_JSON,
    "100000000000000000000": BIG_LITERAL,
    "12345678901234567": BIG_LITERAL,
    "9223372036854775807": BIG_LITERAL,
    "9223372036854775808": BIG_LITERAL,
    "9007199254740993": BIG_LITERAL,
    "infinite": NOT_FINITE,
    "-infinite": NOT_FINITE,
    "nan": NOT_FINITE,
    "[nan]": NOT_FINITE,
    "1e1000": NOT_FINITE,
    '.integer, error("x"), .str': "libjq stops at an error; the reference goes on behind the comma",
    "$__loc__": "a variable of libjq that the reference lacks",
    "$__prog_args": "a variable of libjq that the reference lacks; empty here",
    'gsub("a";"b")': "on an object the reference changes nothing, libjq refuses",
    "abs": "on an object libjq changes nothing, the reference refuses",
}


@pytest.fixture(scope="module")
def jq() -> Iterator[JqProcess]:
    with JqProcess() as process:
        yield process


@pytest.fixture
def hasty() -> Iterator[JqProcess]:
    with JqProcess(seconds=0.5) as process:
        yield process


def starlark(value: object) -> str:
    """A value as Starlark prints it."""
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\\u00", "\\x")
    if isinstance(value, float):
        return format_float(value, "g")
    if isinstance(value, list):
        return "[" + ", ".join(map(starlark, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{starlark(key)}: {starlark(item)}" for key, item in value.items()) + "}"
    return str(value)


def outcome(jq: JqProcess, case: dict[str, Any]) -> tuple[str, str | None]:
    body = base64.b64decode(case["input"]) if case.get("input_b64") else case["input"]
    try:
        return "ok", starlark(jq.extract(case["query"], body))
    except QuerySyntaxError:
        return "parse", None
    except BodyError as error:
        return "input", str(error)
    except NoResultError as error:
        return "empty", error.told


def expected(case: dict[str, Any]) -> tuple[str, str | None]:
    if case["stage"] == "ok":
        return "ok", case["starlark_repr"]
    return case["stage"], None if case["stage"] == "parse" else case["error"]


def test_extraction_yields_what_kurtosis_yields(jq: JqProcess) -> None:
    different = {
        case["query"]: (outcome(jq, case), expected(case)) for case in CASES if outcome(jq, case) != expected(case)
    }
    assert {query: pair for query, pair in different.items() if query not in DIFFERENT} == {}
    assert sorted(different) == sorted(DIFFERENT), "a difference that is gone should leave the list"


@pytest.mark.parametrize("query", ["[repeat(1)]", "def f: f; f", "reduce range(1e12) as $i (0; .)", "last(repeat(1))"])
def test_a_query_that_never_ends_is_stopped_and_the_next_one_works(hasty: JqProcess, query: str) -> None:
    started = time.monotonic()
    with pytest.raises(ExtractionTimeout, match=r"took longer than 0\.5s"):
        hasty.extract(query, "{}")
    assert time.monotonic() - started < 2
    assert hasty.extract(".a", '{"a": 1}') == 1


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux")
def test_a_query_that_eats_memory_is_stopped() -> None:
    with JqProcess(seconds=60) as jq:
        with pytest.raises((ExtractionCrash, NoResultError)):
            jq.extract("[range(4000) | tostring * 2000000] | length", "{}")
        assert jq.extract(".", "1") == 1


def test_a_query_cannot_read_the_hosts_environment(jq: JqProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "hidden")
    for query in ("$ENV", "env", "$ENV | tostring", "[env, $ENV]", "def f: $ENV; f", "$__prog_args", "$ARGS"):
        assert "SECRET" not in str(jq.extract(query, "{}"))
    fresh = JqProcess()
    assert fresh.extract("[env, $ENV]", "1") == [{}, {}]
    fresh.close()


@pytest.mark.parametrize(
    "query",
    ['include "x"; 1', 'import "x" as x; 1', 'import "x" as $x; 1', "1) | (2", "input_filename", '"x" | modulemeta'],
)
def test_a_query_cannot_reach_files_or_leave_its_place(jq: JqProcess, query: str) -> None:
    with pytest.raises((QuerySyntaxError, NoResultError)):
        jq.extract(query, "{}")


def test_a_syntax_error_points_into_the_query(jq: JqProcess) -> None:
    with pytest.raises(QuerySyntaxError, match="line 2"):
        jq.extract(".a |\n | .b", "{}")


def test_no_result_tells_query_body_and_reason(jq: JqProcess) -> None:
    with pytest.raises(NoResultError, match=r"No field 'nope' was found on input '1'") as caught:
        jq.extract("nope", "1")
    assert "nope/0 is not defined" in caught.value.reason
    assert "nope/0 is not defined" in str(caught.value)
    with pytest.raises(NoResultError) as caught:
        jq.extract(".a | keys", '{"a": 1}')
    assert str(caught.value) == "No field '.a | keys' was found on input '{\"a\": 1}' (number (1) has no keys)"


def test_threads_share_one_process(jq: JqProcess) -> None:
    results: list[object] = []

    def work(number: int) -> None:
        results.extend(jq.extract(f". + {number}", str(i)) for i in range(20))

    threads = [threading.Thread(target=work, args=(1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, map(str, results))) == sorted(1000 * n + i for n in range(4) for i in range(20))


def test_a_killed_child_is_replaced(jq: JqProcess) -> None:
    jq.extract(".", "1")
    pid = jq.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)
    assert jq.extract(".", "2") == 2
    assert jq.pid != pid


def test_closing_ends_the_child() -> None:
    jq = JqProcess()
    assert jq.pid is None
    jq.extract(".", "1")
    pid = jq.pid
    assert pid is not None
    jq.close()
    assert not is_alive(pid)


PARENT = """
import sys, threading, time
from pytest_enclave.golang.jq import JqProcess
jq = JqProcess(seconds=2)
jq.extract(".", "1")
print(jq.pid, flush=True)
if sys.argv[1] == "spinning":
    jq.extract("[repeat(1)]", "{}")
time.sleep(60)
"""


@pytest.mark.parametrize("state", ["idle", "spinning"])
def test_nothing_is_left_behind_when_the_parent_is_killed(state: str) -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    parent = subprocess.Popen([sys.executable, "-c", PARENT, state], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.3)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(pid)


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")
