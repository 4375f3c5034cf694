"""The process in which jq runs, started by `jq_process` as a script of its own.

jq cannot be interrupted: a query that spins does so in C, where no signal handler and no other thread gets a turn.
So it runs here, where it can be killed. Requests and answers are JSON with the length in front (4 bytes, big-endian).

    {"query": …, "text": …, "seconds": …}  →  {"outputs": […]} | {"syntax": "…"} | {"outputs": […], "error": "…"}

End of input ends the process, and so does an alarm shortly after the deadline of a query: the default action of
SIGALRM needs no cooperation, so nothing is left behind when the parent was killed during a query that spins.
This file imports nothing of the project: it starts in milliseconds.
"""

from __future__ import annotations

import contextlib
import json
import re
import struct
import sys
from typing import Any, BinaryIO

MEMORY_LIMIT = 2 * 2**30
"""Address space of this process, in bytes; jq beyond it fails and the parent reports that."""

CACHED_PROGRAMS = 64

# A package must not see the host: its environment, files and modules are hidden behind definitions of the same
# names. Coming first, they also make `import` and `include`, legal only at the very start, syntax errors.
# Left as errors: what the reference's jq lacks too, and what would write to our standard error.
PRELUDE = """
def env: {}; def input_filename: null; def get_search_list: []; def modulemeta: error("not available");
def input: error("not available"); def inputs: error("not available"); def input_line_number: error("not available");
def debug: error("not available"); def debug(f): error("not available"); def stderr: error("not available");
def halt: error("not available"); def halt_error: error("not available"); def halt_error($c): error("not available");
def have_literal_numbers: error("not available"); def have_decnum: error("not available");
{} as $ENV | {"positional": [], "named": {}} as $ARGS | {} as $__prog_args |
"""


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    programs: dict[str, Any] = {}
    while (header := requests.read(4)) and len(header) == 4:
        request = json.loads(requests.read(struct.unpack(">I", header)[0]))
        _set_alarm(request["seconds"] + 1)
        answer = json.dumps(_answer(programs, request["query"], request["text"])).encode()
        _set_alarm(0)
        answers.write(struct.pack(">I", len(answer)) + answer)
        answers.flush()


def _answer(programs: dict[str, Any], query: str, text: str) -> dict[str, Any]:
    import jq

    program = programs.get(query)
    if program is None:
        try:
            program = jq.compile(f"{PRELUDE}{query}\n")
        except ValueError as error:
            message = _in_lines_of_the_query(str(error))
            return {"syntax": message} if "syntax error" in message else {"outputs": [], "error": message}
        if len(programs) >= CACHED_PROGRAMS:
            programs.clear()
        programs[query] = program
    outputs: list[Any] = []
    try:
        outputs.extend(program.input_text(text))
    except ValueError as error:
        return {"outputs": outputs, "error": str(error)}
    return {"outputs": outputs}


def _in_lines_of_the_query(message: str) -> str:
    above = PRELUDE.count("\n")
    return re.sub(r"\bline ([0-9]+)", lambda found: f"line {int(found[1]) - above}", message)


def _limit_resources() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    for limit, value in ((resource.RLIMIT_AS, MEMORY_LIMIT), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):  # a stricter limit is in force
            resource.setrlimit(limit, (value, value))


def _set_alarm(seconds: float) -> None:
    import signal

    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _ignore_interrupts() -> None:
    """Ctrl-C reaches every process of the terminal; the parent decides what becomes of this one."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    sys.path[:] = sys.argv[1:]
    _ignore_interrupts()
    import jq  # noqa: F401  (before memory is limited, and not within the time of the first query)

    _limit_resources()
    serve(sys.stdin.buffer, sys.stdout.buffer)
