"""`plan.run_sh(run = …)`: run a shell command in a service of its own (behaviour.md §1.13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_enclave.engine.protocol import Action, DeadlineExceeded, NotReached
from pytest_enclave.errors import ExecutionError, Problem, UnacceptableCode
from pytest_enclave.instructions.protocol import Context, Defaults, Result
from pytest_enclave.instructions.recipe import code_list, describe
from pytest_enclave.instructions.service_checks import (
    duplicate_artifact,
    missing_artifacts,
    problem,
    service_name_problems,
)
from pytest_enclave.instructions.starting import start_services
from pytest_enclave.instructions.store_service_files import store_from_service
from pytest_enclave.plan import checks
from pytest_enclave.plan.footprint import Footprint, Replay
from pytest_enclave.plan.futures import Future
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter, Substitution
from pytest_enclave.plan.service import ServiceConfig, seconds
from pytest_enclave.plan.values import Struct, Value
from pytest_enclave.plan.world import World

IMAGE = "badouralix/curl-jq"
"""Kurtosis' own default for `run_sh`: a shell with curl and jq."""

WAIT = "180s"

KEEP_ALIVE = ("/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done")
"""What the helper service does while the command runs beside it: nothing, but it stops when told to."""


class RunSh(Defaults):
    """Runs `/bin/sh -c <run>` once; what it writes and its code are the result, `store` paths become artifacts."""

    name = "run_sh"
    parameters = (
        Parameter("name", checks.NON_EMPTY_STRING),
        Parameter("run", checks.NON_EMPTY_STRING, required=True, substitution=Substitution.TEXT),
        Parameter("image", checks.NON_EMPTY_STRING, default=IMAGE, image=True),
        Parameter("files", checks.STRING_DICT, default={}),
        Parameter("store", checks.list_of(checks.NON_EMPTY_STRING), default=[]),
        Parameter("env_vars", checks.STRING_DICT, default={}, substitution=Substitution.TEXT),
        Parameter("wait", checks.optional(checks.duration(positive=True)), default=WAIT),
        Parameter("acceptable_codes", checks.list_of(checks.integer()), default=[0]),
        Parameter("skip_code_check", checks.BOOL, default=False),
    )

    def returns(self, call: Instruction) -> Value:
        """A struct: `code` and `output` are future references, `files_artifacts` plain names."""
        return Struct(
            "struct",
            {
                "code": str(Future(call.producer, "code")),
                "output": str(Future(call.producer, "output")),
                "files_artifacts": _stored(call),
            },
        )

    def configs(self, call: Instruction) -> Mapping[str, ServiceConfig]:
        """The helper service that the command runs in."""
        return {_helper(call): ServiceConfig.of(_config(call))}

    def footprint(self, call: Instruction) -> Footprint:
        """Reads artifacts, makes artifacts, and may talk to any service."""
        return Footprint(
            Replay.OBSERVE,
            artifacts=frozenset(_stored(call)),
            reads=frozenset(call.get("files", {}).values()),
            images=frozenset({call.get("image", IMAGE)}),
        )

    def check(self, call: Instruction, world: World) -> tuple[World, Sequence[Problem]]:
        """The helper's name must be free; mounted artifacts must exist; what is stored must be told apart."""
        helper = _helper(call)
        found = service_name_problems(call, helper)
        if helper in world.services:
            found.append(problem(call, helper, f"there is a service `{helper}` already", "give the task another name"))
        found += missing_artifacts(call, "", call.get("files", {}).values(), world)
        store = call.get("store", [])
        for path in sorted({path for path in store if store.count(path) > 1}):
            found.append(problem(call, path, f"`store` names `{path}` more than once"))
        for name in _stored(call):
            found += duplicate_artifact(call, name, world)
            world = world.with_artifact(name, call.location)
        return world, found

    def execute(self, call: Instruction, context: Context) -> Result:
        """Start the helper, run the command in it, store what is asked for, remove the helper."""
        helper = _helper(call)
        try:
            start_services(context, {helper: ServiceConfig.of(_config(call))})
            fields = self._run(call, context, helper)
            contents = {
                name: store_from_service(context, helper, path, name)
                for path, name in zip(call.get("store", []), _stored(call), strict=True)
            }
        finally:
            context.site.act(helper, Action.REMOVE)
        return Result(describe(fields), {call.producer: fields}, contents)

    def _run(self, call: Instruction, context: Context, helper: str) -> Mapping[str, Value]:
        wait = call.get("wait", WAIT)
        ends = [context.clock.now() + seconds(wait)] if wait is not None else []
        ends += [context.deadline] if context.deadline is not None else []
        try:
            done = context.site.exec(helper, ("/bin/sh", "-c", call.get("run")), min(ends, default=None))
        except DeadlineExceeded:
            raise ExecutionError(
                f"the command did not end in {wait}", service=helper, remedy="`wait` sets how long it may take"
            ) from None
        except NotReached as error:
            raise ExecutionError(f"the command could not run: {error}", service=helper) from None
        acceptable = call.get("acceptable_codes", [0])
        if not call.get("skip_code_check", False) and done.code not in acceptable:
            raise UnacceptableCode(
                f"$ {call.get('run')}: exit code {done.code} is not acceptable ({code_list(acceptable)})",
                service=helper,
                code=done.code,
                acceptable=acceptable,
                output=done.output,
                remedy="`acceptable_codes` or `skip_code_check` allow others",
            )
        return {"code": done.code, "output": done.output}


def _helper(call: Instruction) -> str:
    return str(call.get("name") or f"task-{call.producer[:12]}")


def _stored(call: Instruction) -> list[str]:
    return [f"task-{call.producer[:12]}-{index}" for index, _ in enumerate(call.get("store", []))]


def _config(call: Instruction) -> Struct:
    fields = {"image": call.get("image", IMAGE), "entrypoint": list(KEEP_ALIVE)}
    for name in ("files", "env_vars"):
        if call.get(name):
            fields[name] = call.get(name)
    return Struct("ServiceConfig", fields)
