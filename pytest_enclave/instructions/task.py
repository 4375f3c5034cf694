"""What `plan.run_sh` and `plan.run_python` share: a command in a service of its own (behaviour.md §1.13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_enclave.engine.protocol import Action, DeadlineExceeded, ExecResult, NotReached
from pytest_enclave.errors import ExecutionError, Problem, UnacceptableCode
from pytest_enclave.instructions.protocol import Context, Defaults, Result
from pytest_enclave.instructions.recipe import code_list, describe
from pytest_enclave.instructions.service_checks import (
    duplicate_artifact,
    image_problems,
    missing_artifacts,
    problem,
    scheduling_problems,
    service_name_problems,
)
from pytest_enclave.instructions.starting import start_services
from pytest_enclave.instructions.store_service_files import store_from_service
from pytest_enclave.plan import checks
from pytest_enclave.plan.footprint import Footprint, Replay
from pytest_enclave.plan.futures import Future
from pytest_enclave.plan.image_sources import image_name
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.parameters import Parameter
from pytest_enclave.plan.rights import refused_rights
from pytest_enclave.plan.service import ServiceConfig, scheduling, seconds
from pytest_enclave.plan.values import Struct, Value
from pytest_enclave.plan.world import World

WAIT = "180s"

KEEP_ALIVE = ("/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done")
"""What the helper service does while the command runs beside it: nothing, but it stops when told to."""

NOT_FOUND = 127
"""The exit code of a command that is not there."""

NAME = Parameter("name", checks.NON_EMPTY_STRING)
FILES = Parameter("files", checks.STRING_DICT, default={})


def _storable(value: Value) -> bool:
    return value.kind == "StoreSpec" if isinstance(value, Struct) else isinstance(value, str) and value != ""


STORE = Parameter(
    "store",
    checks.list_of(checks.simple("a non-empty string or a StoreSpec", _storable)),
    default=[],
)
ENDING = (
    Parameter("wait", checks.optional(checks.duration(positive=True)), default=WAIT),
    Parameter("acceptable_codes", checks.list_of(checks.integer()), default=[0]),
    Parameter("skip_code_check", checks.BOOL, default=False),
)
"""How long the command may take, and which codes it may end with."""

SCHEDULING = (
    Parameter("node_selectors", checks.STRING_DICT, default={}),
    Parameter("tolerations", checks.list_of(checks.instance("Toleration")), default=[]),
)


class Task(Defaults):
    """Runs one command in a helper service, which is removed again; `store` paths become artifacts."""

    image: str
    """What the helper service is made of where the call names nothing else."""

    def command(self, call: Instruction) -> tuple[str, ...]:
        """The command, its arguments resolved."""
        raise NotImplementedError

    def shown(self, call: Instruction) -> str:
        """The command as messages show it."""
        raise NotImplementedError

    def prepare(self, call: Instruction, context: Context, helper: str) -> None:
        """What has to be done in the helper service before the command; it does not count for `wait`."""

    def perform(self, call: Instruction, context: Context, helper: str, deadline: float | None) -> ExecResult:
        """Run the command in the helper service. Raises DeadlineExceeded, ExecutionError."""
        return run_in(context, helper, self.command(call), deadline)

    def remedy(self, call: Instruction, done: ExecResult) -> str:
        """What to do about an exit code that is not acceptable."""
        return "`acceptable_codes` or `skip_code_check` allow others"

    def problems(self, arguments: Mapping[str, Value]) -> Mapping[str, str]:
        """No rights on the machine."""
        return refused_rights(arguments)

    def returns(self, call: Instruction) -> Value:
        """A struct: `code` and `output` are future references, `files_artifacts` plain names."""
        return Struct(
            "struct",
            {
                "code": str(Future(call.producer, "code")),
                "output": str(Future(call.producer, "output")),
                "files_artifacts": list(_stored(call)),
            },
        )

    def configs(self, call: Instruction) -> Mapping[str, ServiceConfig]:
        """The helper service that the command runs in."""
        return {_helper(call): ServiceConfig.of(self._config(call))}

    def footprint(self, call: Instruction) -> Footprint:
        """Reads artifacts, makes artifacts, and may talk to any service."""
        return Footprint(
            Replay.OBSERVE,
            artifacts=frozenset(_stored(call)),
            reads=frozenset(call.get("files", {}).values()),
            images=frozenset({image_name(call.get("image", self.image))}),
        )

    def check(self, call: Instruction, world: World) -> tuple[World, Sequence[Problem]]:
        """The helper's name must be free; mounted artifacts must exist; what is stored must be told apart."""
        helper = _helper(call)
        found = service_name_problems(call, helper)
        if helper in world.services:
            found.append(problem(call, helper, f"there is a service `{helper}` already", "give the task another name"))
        found += image_problems(call, helper, ServiceConfig.of(self._config(call)))
        found += scheduling_problems(call, helper, scheduling(call.arguments))
        found += missing_artifacts(call, "", call.get("files", {}).values(), world)
        paths = [_path(entry) for entry in call.get("store", [])]
        for path in sorted({path for path in paths if paths.count(path) > 1}):
            found.append(problem(call, path, f"`store` names `{path}` more than once"))
        for name in _stored(call):
            found += duplicate_artifact(call, name, world)
            world = world.with_artifact(name, call.location)
        return world, found

    def execute(self, call: Instruction, context: Context) -> Result:
        """Start the helper, run the command in it, store what is asked for, remove the helper."""
        helper = _helper(call)
        try:
            start_services(context, {helper: ServiceConfig.of(self._config(call))})
            self.prepare(call, context, helper)
            fields = self._run(call, context, helper)
            contents = {
                name: store_from_service(context, helper, _path(entry), name)
                for entry, name in zip(call.get("store", []), _stored(call), strict=True)
            }
        finally:
            context.site.act(helper, Action.REMOVE)
        return Result(describe(fields), {call.producer: fields}, contents)

    def _run(self, call: Instruction, context: Context, helper: str) -> Mapping[str, Value]:
        wait = call.get("wait", WAIT)
        ends = [context.clock.now() + seconds(wait)] if wait is not None else []
        ends += [context.deadline] if context.deadline is not None else []
        try:
            done = self.perform(call, context, helper, min(ends, default=None))
        except DeadlineExceeded:
            raise ExecutionError(
                f"the command did not end in {wait}", service=helper, remedy="`wait` sets how long it may take"
            ) from None
        acceptable = call.get("acceptable_codes", [0])
        if not call.get("skip_code_check", False) and done.code not in acceptable:
            raise UnacceptableCode(
                f"$ {self.shown(call)}: exit code {done.code} is not acceptable ({code_list(acceptable)})",
                service=helper,
                code=done.code,
                acceptable=acceptable,
                output=done.output,
                remedy=self.remedy(call, done),
            )
        return {"code": done.code, "output": done.output}

    def _config(self, call: Instruction) -> Struct:
        fields = {"image": call.get("image", self.image), "entrypoint": list(KEEP_ALIVE)}
        for name in ("files", "env_vars"):
            if call.get(name):
                fields[name] = call.get(name)
        return Struct("ServiceConfig", fields)


def run_in(context: Context, helper: str, command: Sequence[str], deadline: float | None) -> ExecResult:
    """Run a command in the helper service. Raises DeadlineExceeded, or ExecutionError where it cannot be run."""
    try:
        return context.site.exec(helper, command, deadline)
    except NotReached as error:
        raise ExecutionError(f"the command could not run: {error}", service=helper) from None


def _helper(call: Instruction) -> str:
    return str(call.get("name") or f"task-{call.producer[:12]}")


def _path(entry: Value) -> str:
    return str(entry.fields["src"] if isinstance(entry, Struct) else entry)


def _stored(call: Instruction) -> list[str]:
    """The names of the artifacts: those that `StoreSpec`s give, or else such as are made from the call itself."""
    return [
        (entry.get("name") if isinstance(entry, Struct) else None) or f"task-{call.producer[:12]}-{index}"
        for index, entry in enumerate(call.get("store", []))
    ]
