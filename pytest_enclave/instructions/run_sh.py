"""`plan.run_sh(run = …)`: run a shell command in a service of its own (behaviour.md §1.13)."""

from __future__ import annotations

from pytest_enclave.instructions.task import ENDING, FILES, NAME, SCHEDULING, STORE, Task
from pytest_enclave.plan import checks
from pytest_enclave.plan.image_sources import ANY_IMAGE
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter, Substitution
from pytest_enclave.plan.rights import RIGHTS

IMAGE = "badouralix/curl-jq"
"""Kurtosis' own default for `run_sh`: a shell with curl and jq."""


class RunSh(Task):
    """Runs `/bin/sh -c <run>` once; what it writes and its code are the result."""

    name = "run_sh"
    image = IMAGE
    parameters = (
        NAME,
        Parameter("run", checks.NON_EMPTY_STRING, required=True, substitution=Substitution.TEXT),
        Parameter("image", ANY_IMAGE, default=IMAGE, image=True),
        FILES,
        STORE,
        Parameter("env_vars", checks.STRING_DICT, default={}, substitution=Substitution.TEXT),
        *ENDING,
        *SCHEDULING,
        *RIGHTS,
    )

    def command(self, call: Instruction) -> tuple[str, ...]:
        """The command in a shell."""
        return ("/bin/sh", "-c", call.get("run"))

    def shown(self, call: Instruction) -> str:
        """As it is written."""
        return str(call.get("run"))
