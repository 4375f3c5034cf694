"""`plan.run_python(run = …)`: run a Python program in a service of its own (behaviour.md §1.13)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from pytest_enclave.engine.protocol import DeadlineExceeded, ExecResult
from pytest_enclave.errors import ExecutionError
from pytest_enclave.instructions.protocol import Context
from pytest_enclave.instructions.starting import LOG_LINES
from pytest_enclave.instructions.task import ENDING, FILES, NAME, NOT_FOUND, SCHEDULING, STORE, Task, run_in
from pytest_enclave.plan import checks
from pytest_enclave.plan.image_sources import ANY_IMAGE
from pytest_enclave.plan.images import HOST_ROOT
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter, Substitution

IMAGE = "python:3.11-alpine"
"""Kurtosis' own default for `run_python`."""

PYTHON, PYTHON_3 = "python", "python3"
"""What the interpreter is called in images made for it, and what it is called where there is none of that name."""

MISSING = re.compile(
    r'(.*: )?"python3?": executable file not found in \$PATH|'
    r'(.*: )?"python3?": its interpreter or loader is not in the image|'
    r'(.*: )?("python3?": .*|exec \S*/python3?: )no such file or directory'
)
"""What engines say, in one line, where there is no such interpreter; a program may end with the same code."""

PIP = ("-m", "pip", "install", "--disable-pip-version-check", "--no-input")


class RunPython(Task):
    """Runs `python -c <run> <args…>` once, after pip has installed its packages."""

    name = "run_python"
    image = IMAGE
    parameters = (
        NAME,
        Parameter("run", checks.NON_EMPTY_STRING, required=True),
        Parameter("args", checks.STRINGS, default=[], substitution=Substitution.TEXT),
        Parameter("packages", checks.list_of(checks.NON_EMPTY_STRING), default=[]),
        Parameter("image", ANY_IMAGE, default=IMAGE, image=True),
        FILES,
        STORE,
        *ENDING,
        *SCHEDULING,
    )

    def command(self, call: Instruction) -> tuple[str, ...]:
        """The interpreter, with what it writes not held back; no shell is between."""
        return (PYTHON, *self._arguments(call))

    def _arguments(self, call: Instruction) -> tuple[str, ...]:
        return ("-u", "-c", call.get("run"), *call.get("args", []))

    def perform(self, call: Instruction, context: Context, helper: str, deadline: float | None) -> ExecResult:
        """By `python3` where there is no `python`."""
        return _interpret(context, helper, self._arguments(call), deadline)

    def shown(self, call: Instruction) -> str:
        """Without the program, which is long."""
        return f"python -c … {shlex.join(call.get('args', []))}".rstrip()

    def remedy(self, call: Instruction, done: ExecResult) -> str:
        """Another image, where this one has no interpreter."""
        if not _is_missing(done):
            return super().remedy(call, done)
        if call.get("image") == HOST_ROOT:
            return "install `python3` on this machine, or let `image` name an image with it"
        return "`image` has to name one with `python` or `python3`"

    def prepare(self, call: Instruction, context: Context, helper: str) -> None:
        """Install the packages. Raises ExecutionError with the last that pip had to say."""
        packages = call.get("packages", [])
        if not packages:
            return
        wanted = shlex.join(packages)
        try:
            done = _interpret(context, helper, (*PIP, *packages), context.deadline)
        except DeadlineExceeded:
            raise ExecutionError(f"pip has not installed {wanted} in time", service=helper) from None
        if done.code != 0:
            missing = _is_missing(done) or "No module named pip" in done.output
            error = ExecutionError(
                f"pip could not install {wanted}: exit code {done.code}",
                service=helper,
                remedy="`image` has to name one with Python and pip" if missing else "",
            )
            error.logs = {"pip": done.output.splitlines()[-LOG_LINES:]}
            raise error


def _interpret(context: Context, helper: str, arguments: Sequence[str], deadline: float | None) -> ExecResult:
    """Run the interpreter, by its other name where there is none of the first: then nothing has run yet."""
    done = run_in(context, helper, (PYTHON, *arguments), deadline)
    return run_in(context, helper, (PYTHON_3, *arguments), deadline) if _is_missing(done) else done


def _is_missing(done: ExecResult) -> bool:
    return done.code == NOT_FOUND and MISSING.fullmatch(done.output.strip()) is not None
