"""The reports of the design, word for word."""

from __future__ import annotations

from textwrap import dedent

import pytest

from pytest_enclave import errors
from pytest_enclave.errors import EngineUnavailable, ExecutionError, Problem, ValidationError, VerifyFailed
from pytest_enclave.plan.record import Origin, Outcome, Step
from pytest_enclave.report.codes import CODES, code_of
from pytest_enclave.report.failure import render, render_again
from pytest_enclave.report.masking import Secrets
from pytest_enclave.report.text import cells
from pytest_enclave.source import Frame, Location
from tests.report import samples


def text(expected: str) -> str:
    return dedent(expected).strip("\n")


def test_a_failed_interpretation_shows_the_expression_its_function_and_who_called_it() -> None:
    report = render(samples.interpretation_error())
    assert str(report) == text("""
        error[E101]: key `image` not found in `cfg`
          --> src/db.star:12:13
           |
        10 | def add_db(plan, cfg):
        12 |     image = cfg["image"]
           |             ^^^^^^^^^^^^
           |
           = called from main.star:31  db.add_db(plan, args["db"])
           = phase: interpretation; nothing was started
           = help: did you mean `img`?
        """)
    assert report.headline == "E101 key `image` not found in `cfg` (src/db.star:12)"


def test_all_problems_of_a_plan_are_listed_by_file_and_line() -> None:
    assert str(render(samples.validation_error(), width=120)) == text("""
        error[E201]: 3 problems in the plan (44 instructions, nothing was started)
         1  main.star:18    add_service("api")   port `http` is 8080/TCP, which `metrics` is already
         2  main.star:27    exec("ap1")          service `ap1` does not exist — did you mean `api`?
         3  src/db.star:9   add_service("db")    image postgres:61 not found at docker.io
        """)


def test_on_a_narrow_terminal_problems_stand_below_their_places() -> None:
    assert str(render(samples.validation_error(), width=60)) == text("""
        error[E201]: 3 problems in the plan (44 instructions, nothing was started)
         1  main.star:18    add_service("api")
              port `http` is 8080/TCP, which `metrics` is already
         2  main.star:27    exec("ap1")
              service `ap1` does not exist — did you mean `api`?
         3  src/db.star:9   add_service("db")
              image postgres:61 not found at docker.io
        """)


def test_a_single_problem_is_shown_at_its_place() -> None:
    problem = Problem(
        "service `ap1` does not exist", Location("main.star", 1, 10), 'exec("ap1")', "did you mean `api`?"
    )
    error = ValidationError([problem], instructions=1)
    error.sources = {"main.star": 'plan.exec("ap1", recipe)'}
    assert str(render(error)) == text("""
        error[E201]: service `ap1` does not exist
          --> main.star:1:10
           |
         1 | plan.exec("ap1", recipe)
           | ^^^^^^^^^
           |
           = 1 problem in the plan (1 instruction, nothing was started)
           = help: did you mean `api`?
        """)


def failed_build(number: int, lines: int = 2) -> Problem:
    return Problem(
        "image `shop/api` cannot be built in step 2 of 3 (`RUN make`, api/Dockerfile:7): exit code 2",
        Location("main.star", number, 10),
        'add_service("api")',
        "see there",
        output="\n".join(f"\x1b[31mline {number}\x1b[0m" for number in range(1, lines + 1)),
    )


def test_what_a_failed_build_wrote_is_shown_below_its_place() -> None:
    error = ValidationError([failed_build(1)], instructions=1)
    error.sources = {"main.star": 'plan.add_service("api", config)'}
    assert str(render(error)) == text("""
        error[E201]: image `shop/api` cannot be built in step 2 of 3 (`RUN make`, api/Dockerfile:7): exit code 2
          --> main.star:1:10
           |
         1 | plan.add_service("api", config)
           |          ^^^^^^^
           |
           = 1 problem in the plan (1 instruction, nothing was started)
           = what it wrote last
               line 1
               line 2
           = help: see there
        """)


def test_of_several_failed_builds_the_last_lines_are_shown_below_each() -> None:
    report = str(render(ValidationError([failed_build(1, 9), failed_build(2, 1)], instructions=2)))
    below = [line for line in report.splitlines() if line.startswith("      line")]
    assert below == [f"      line {number}" for number in (4, 5, 6, 7, 8, 9, 1)]


def test_a_failed_verify_shows_the_value_its_type_and_where_it_came_from() -> None:
    report = render(samples.verify_failed())
    assert str(report) == text("""
        error[E301]: verify failed: `code` == 200 does not hold, it is 503
          --> main.star:44:16
           |
        44 |     plan.verify(value = resp["code"], assertion = "==", target_value = 200)
           |                         ^^^^^^^^^^^^ 503 (int)
           |
           = expected: == 200 (int)
           = `code` was produced at main.star:41 by plan.request("api", GET /health): 503 in 12 ms
               {"status": "starting", "db": "connecting"}
           = api · last log line
               12:00:03.120 WARN db connect refused 172.20.0.4:5432
        """)
    assert report.headline == "E301 verify failed: `code` == 200 does not hold, it is 503 (main.star:44)"


def test_a_verify_of_different_types_keeps_the_message_that_says_so() -> None:
    error = samples.verify_failed()
    told = VerifyFailed("verify failed: 503 is an int …", value=503, assertion="==", target="200")
    told.instruction, told.location, told.sources = error.instruction, error.location, error.sources
    assert str(render(told)) == text("""
        error[E301]: verify failed: 503 is an int …
          --> main.star:44:16
           |
        44 |     plan.verify(value = resp["code"], assertion = "==", target_value = 200)
           |                         ^^^^^^^^^^^^ 503 (int)
           |
           = expected: == "200" (string)
        """)


def test_a_verify_of_long_texts_says_where_they_differ() -> None:
    error = VerifyFailed("verify failed: …", value="x" * 70 + "a", assertion="==", target="x" * 70 + "b")
    assert str(render(error, width=80)) == text("""
        error[E301]: verify failed: …
           = value:      "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx… (string, 71 characters)
           = expected:   == "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx… (string, 71 characters)
           = difference: from character 71 on: …"xxxxxxxxxxa"… is not …"xxxxxxxxxxb"…
        """)


def test_a_timed_out_wait_shows_the_whole_call_and_its_attempts_compressed() -> None:
    assert str(render(samples.wait_timed_out())) == text("""
        error[E302]: wait timed out after 30 s: api GET /ready → code == 200
          --> main.star:45:14
           |
        45 |     plan.wait(
           |     ^^^^^^^^^
        46 |         service_name = "api",
        47 |         recipe = ready,
        48 |         field = "code",
        49 |         assertion = "==",  # not (yet
        50 |         target_value = 200,
        51 |         timeout = "30s",
        52 |     )
           |
           = expected: code == 200
           = last:     503 {"ready": false, "peers": 2}
           = timeout:  30 s (set on line 51; interval 1 s; 31 attempts)
           = call log
                +0.0 s   4 ×  connection refused 127.0.0.1:49213
                +4.1 s  22 ×  503 {"ready": false, "peers": 0}
               +26.3 s   5 ×  503 {"ready": false, "peers": 2}   ← still changing when time ran out
           = help: a longer `timeout` may be all it takes
        """)


def test_a_service_that_ended_tells_how_and_what_it_wrote() -> None:
    assert str(render(samples.service_exited())) == text("""
        error[E311]: service `db` ran out of memory (exit code 137) before its port `sql` opened
          --> main.star:3:21
           |
         3 |     plan.add_service("db", config = database)
           |     ^^^^^^^^^^^^^^^^
           |
           = service:   db
           = exit code: 137 (killed by SIGKILL), out of memory
           = also:      main.star:3: service `cache` exited with code 1
           = db · last 2 log lines
               starting
               FATAL: cannot allocate memory
           = help: raise its `max_memory`
        """)


def test_an_unacceptable_code_comes_with_the_output_of_the_command() -> None:
    assert str(render(samples.unacceptable_code())) == text("""
        error[E303]: db $ psql -f migrate.sql: exit code 2 is not acceptable (0)
          --> main.star:53:14
           |
        53 |     plan.exec("db", recipe = migrate)
           |     ^^^^^^^^^ code 2
           |
           = acceptable: 0
           = output
               psql: connecting
               FATAL:  role `app` does not exist
           = help: `acceptable_codes` or `skip_code_check` allow others
        """)


def test_an_unavailable_engine_lists_what_was_tried() -> None:
    tried = [("DOCKER_HOST", "not set"), ("/var/run/docker.sock", "no such file")]
    error = EngineUnavailable("no engine answers", tried=tried, remedy="start Docker")
    assert str(render(error)) == text("""
        error[E401]: no engine answers
           = tried DOCKER_HOST:          not set
           = tried /var/run/docker.sock: no such file
           = help: start Docker
        """)


def test_a_follower_gets_one_line() -> None:
    again = render_again(samples.verify_failed(), "tests/test_a.py::test_login", "net")
    assert str(again) == again.headline
    assert again.headline == (
        "enclave `net` is unavailable: E301 verify failed: `code` == 200 does not hold, it is 503 (main.star:44)"
        " — reported at tests/test_a.py::test_login"
    )


def test_segments_have_styles_and_their_text_is_the_report() -> None:
    report = render(samples.verify_failed())
    styles = {segment.style for line in report.lines for segment in line}
    assert {"error", "headline", "location", "caret", "dim"} <= styles


def test_every_error_class_has_its_own_number() -> None:
    classes = {
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EnclaveError)
    }
    assert classes == CODES.keys()
    assert len(set(CODES.values())) == len(CODES)


def test_a_class_of_a_third_party_has_the_number_of_its_base() -> None:
    class Special(errors.ServiceError):
        pass

    assert code_of(Special("no")) == "E310"


def test_a_problem_without_source_is_told_without_an_excerpt() -> None:
    error = samples.unacceptable_code()
    error.sources = {}
    assert str(render(error)).splitlines()[:4] == [
        "error[E303]: db $ psql -f migrate.sql: exit code 2 is not acceptable (0)",
        "  --> main.star:53:14",
        "   = code:       2",
        "   = acceptable: 0",
    ]


def test_a_place_without_column_shows_the_line_without_carets() -> None:
    error = samples.unacceptable_code()
    error.location = Location("main.star", 53)
    shown = str(render(error))
    assert "--> main.star:53\n" in shown
    assert '53 |     plan.exec("db", recipe = migrate)\n   |\n' in shown
    assert "^" not in shown


@pytest.mark.parametrize("location", [Location("main.star"), Location("main.star", 999, 1), Location("", 1, 1)])
def test_a_place_that_the_source_does_not_have_is_only_named(location: Location) -> None:
    error = samples.unacceptable_code()
    error.location = location
    assert " | " not in str(render(error))


def test_carets_stand_under_wide_characters_and_after_tabs() -> None:
    error = errors.PackageError("no", location=Location("main.star", 1, 10))
    error.sources = {"main.star": '\tx("日本", name)'}
    lines = str(render(error)).splitlines()
    assert lines[3:5] == [' 1 |     x("日本", name)', "   |               ^^^^"]
    assert cells(lines[3].partition("name")[0]) == lines[4].index("^")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_very_long_line_is_cut_to_a_window_around_the_carets(width: int) -> None:
    source = "x = [" + "filler, " * 40 + "wrong_name, " + "filler, " * 40 + "]"
    error = errors.InterpretationError("`wrong_name` is not defined", location=Location("m.star", 1, 326))
    error.sources = {"m.star": source}
    lines = str(render(error, width=width)).splitlines()
    assert max(map(cells, lines)) <= width
    at = lines[4].index("^")
    assert lines[3][at : at + 10] == "wrong_name"
    assert lines[4].count("^") == 10


def test_a_long_call_keeps_its_beginning_its_end_and_the_marked_line() -> None:
    filler = "".join(f"    # line {number}\n" for number in range(2, 30))
    error = VerifyFailed("verify failed", value=1, assertion="==", target=2)
    error.location = Location("m.star", 1, 12)
    error.sources = {"m.star": f"plan.verify(\n{filler}    value = seen,\n    assertion = '==', target_value = 2)"}
    assert str(render(error)).splitlines()[2:13] == [
        "   |",
        " 1 | plan.verify(",
        " 2 |     # line 2",
        " 3 |     # line 3",
        " 4 |     # line 4",
        " 5 |     # line 5",
        "...",
        "30 |     value = seen,",
        "   |             ^^^^ 1 (int)",
        "31 |     assertion = '==', target_value = 2)",
        "   |",
    ]
    assert " 17 | " not in str(render(error))
    assert "17 |     # line 17" in str(render(error, verbose=True))


def test_a_report_has_forty_lines_at_most_unless_it_is_verbose() -> None:
    error = samples.unacceptable_code()
    error.output = "\n".join(f"output {number}" for number in range(100))
    error.logs = {name: [f"{name} {number}" for number in range(100)] for name in ("api", "db", "cache")}
    lines = str(render(error)).splitlines()
    assert len(lines) == 40
    assert "output 99" in lines[-30].strip() or any("output 99" in line for line in lines)
    assert any("earlier log lines (-vv shows all)" in line for line in lines)
    assert lines[-1].startswith("   = help:")
    verbose = str(render(error, verbose=True))
    assert "output 0\n" in verbose
    assert "cache 0\n" in verbose


def test_fifty_problems_say_how_many_more_there_are() -> None:
    problems = [Problem(f"wrong {number}", Location("main.star", number)) for number in range(1, 51)]
    lines = str(render(ValidationError(problems, instructions=60))).splitlines()
    assert len(lines) == 40
    assert lines[-1] == " … 12 more lines (-vv shows all)"
    assert len(str(render(ValidationError(problems), verbose=True)).splitlines()) == 51


def test_several_problems_of_one_interpretation_are_all_listed() -> None:
    problems = [Problem("`imge` is not a field", Location("main.star", 1, 1)), Problem("`image` is missing")]
    error = errors.InterpretationError(
        "ServiceConfig: 2 problems", location=Location("main.star", 1), problems=problems
    )
    assert str(render(error)) == text("""
        error[E101]: ServiceConfig: 2 problems
          --> main.star:1
         1  main.star:1   `imge` is not a field
         2                `image` is missing
           = phase: interpretation; nothing was started
        """)


def test_a_deep_stack_shows_the_nearest_calls() -> None:
    frames = [Frame(Location("main.star", number, 1), "f") for number in range(1, 30)]
    lines = str(render(errors.ScriptFailed("no\nsecond line", frames=frames))).splitlines()
    assert lines[:3] == ["error[E102]: no", "  second line", "   = called from main.star:29 in f"]
    assert "   = … 23 more calls (-vv shows all)" in lines


def test_an_origin_that_is_a_secret_is_not_told() -> None:
    error = ExecutionError("failed")
    producer = samples.request()
    error.origins = [Origin("extract.token", "sesame-open", Step(producer, Outcome.EXECUTED, 1.0, "200 sesame-open"))]
    assert "sesame" not in str(render(error))


def test_secrets_are_masked_in_source_and_message_and_carets_stay_in_place() -> None:
    error = errors.ExecutionError("cannot log in with correct-horse")
    error.location = Location("m.star", 1, 27)
    error.sources = {"m.star": 'login("correct-horse", to(api))'}
    secrets = Secrets(frozenset({"correct-horse"}))
    lines = str(render(error, secrets=secrets)).splitlines()
    assert lines[0] == "error[E300]: cannot log in with ••••"
    assert lines[3:5] == [' 1 | login("••••", to(api))', "   |                  ^^^"]


def test_a_message_without_end_is_cut_unless_everything_is_wanted() -> None:
    error = ExecutionError("x" * 300_000)
    assert max(map(len, str(render(error)).splitlines())) < 500
    assert len(str(render(error, verbose=True))) > 300_000
