"""`plan.run_python(run = …)`: run a Python program in a service of its own (behaviour.md §1.13)."""

from __future__ import annotations

import shlex

from pytest_enclave.engine.protocol import DeadlineExceeded, ExecResult
from pytest_enclave.errors import ExecutionError
from pytest_enclave.instructions.protocol import Context
from pytest_enclave.instructions.starting import LOG_LINES
from pytest_enclave.instructions.task import ENDING, FILES, NAME, NOT_FOUND, SCHEDULING, STORE, Task, run_in
from pytest_enclave.plan import checks
from pytest_enclave.plan.image_sources import ANY_IMAGE
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter, Substitution

IMAGE = "python:3.11-alpine"
"""Kurtosis' own default for `run_python`."""

PIP = ("python", "-m", "pip", "install", "--disable-pip-version-check", "--no-input")


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
        return ("python", "-u", "-c", call.get("run"), *call.get("args", []))

    def shown(self, call: Instruction) -> str:
        """Without the program, which is long."""
        return f"python -c … {shlex.join(call.get('args', []))}".rstrip()

    def remedy(self, done: ExecResult) -> str:
        """Another image, where this one has no interpreter."""
        return "`image` has to name one with `python`" if done.code == NOT_FOUND else super().remedy(done)

    def prepare(self, call: Instruction, context: Context, helper: str) -> None:
        """Install the packages. Raises ExecutionError with the last that pip had to say."""
        packages = call.get("packages", [])
        if not packages:
            return
        wanted = shlex.join(packages)
        try:
            done = run_in(context, helper, (*PIP, *packages), context.deadline)
        except DeadlineExceeded:
            raise ExecutionError(f"pip has not installed {wanted} in time", service=helper) from None
        if done.code != 0:
            missing = done.code == NOT_FOUND or "No module named pip" in done.output
            error = ExecutionError(
                f"pip could not install {wanted}: exit code {done.code}",
                service=helper,
                remedy="`image` has to name one with Python and pip" if missing else "",
            )
            error.logs = {"pip": done.output.splitlines()[-LOG_LINES:]}
            raise error
