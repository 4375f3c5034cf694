"""Bringing services up: start, wait for their ports, then for their ready condition; all of a batch, or none of it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from pytest_enclave.engine.protocol import Action, Address, ServiceSpec
from pytest_enclave.errors import EnclaveError, ExecutionError, PortNeverOpened
from pytest_enclave.instructions.condition import exited, wait_until
from pytest_enclave.instructions.protocol import Context
from pytest_enclave.plan.events import Waiting
from pytest_enclave.plan.service import PortSpec, ServiceConfig, name_of_merged

LOG_LINES = 40
"""How many of a failed service's last log lines an error carries."""

FIRST_MOMENT = 0.05
"""Seconds that a service with nothing to wait for is watched: engines tell of an exit some 15 to 50 ms after it."""

FIRST_PROBE_PAUSE = 0.002
LARGEST_PROBE_PAUSE = 0.2
"""Seconds between probes of a port: most services listen within milliseconds, so the first ones come quickly."""


def start_services(context: Context, configs: Mapping[str, ServiceConfig]) -> None:
    """Start services side by side and wait until every one is ready.

    A service that was already there is replaced. If any fails, those that are new are removed again; the error carries
    the last log lines of each service that failed.
    """
    specs = [service_spec(name, config, context.site.reserve(name)) for name, config in configs.items()]
    new = [name for name in configs if name not in context.services]
    try:
        merged = context.artifacts.merged(names for config in configs.values() for names in config.files.values())
        artifacts = {**context.artifacts.directories(), **merged}
        started = context.site.start(specs, artifacts, context.parallelism)
        failed = {name: error for name, error in started.items() if error is not None}
        if not failed:
            failed = _await_all(context, configs)
        if failed:
            raise _combined(context, failed)
    except BaseException:
        for name in new:
            context.site.act(name, Action.REMOVE)
        raise


def service_spec(name: str, config: ServiceConfig, address: Address) -> ServiceSpec:
    """What the engine is told, with the service's own address put in where the config asks for it."""

    def with_address(text: str) -> str:
        return text.replace(config.ip_address_placeholder, address.ip_address)

    return ServiceSpec(
        name=name,
        image=config.image,
        address=address,
        ports=config.ports,
        public_ports=config.public_ports,
        files={path: name_of_merged(names) for path, names in config.files.items()},
        directories=config.directories,
        entrypoint=tuple(map(with_address, config.entrypoint)),
        cmd=tuple(map(with_address, config.cmd)),
        env_vars={key: with_address(text) for key, text in config.env_vars.items()},
        labels=config.labels,
        max_cpu=config.max_cpu,
        max_memory=config.max_memory,
        user=config.user,
        devices=config.devices,
        capabilities=config.capabilities,
        gpu=config.gpu,
        init=config.init,
        terminal=config.terminal,
        moved=config.moved,
    )


def _await_all(context: Context, configs: Mapping[str, ServiceConfig]) -> dict[str, EnclaveError]:
    since = context.clock.now()

    def attempt(name: str) -> EnclaveError | None:
        try:
            await_ready(context, name, configs[name], since)
        except EnclaveError as error:
            return error
        return None

    outcomes = context.clock.map(attempt, configs, max(context.parallelism, 1))
    return {name: error for name, error in zip(configs, outcomes, strict=True) if error is not None}


def await_ready(context: Context, name: str, config: ServiceConfig, since: float) -> None:
    """Wait until the service's ports accept connections and its ready condition holds.

    With neither it is watched for a moment, `since` it was started (`Clock.now()`): a command that fails at once shall
    not count as up, but one that ends well is a finished job. Raises PortNeverOpened, WaitTimedOut or ServiceExited.
    """
    ports = awaited_ports(config)
    _await_ports(context, name, ports)
    if config.ready_conditions is not None:
        within = replace(context, services={**context.services, name: config})
        wait_until(within, name, config.ready_conditions)
    elif not ports:
        left = max(0.0, since + FIRST_MOMENT - context.clock.now())
        ended = context.site.exit_of(name) or context.site.pause(left, watching=name)
        if ended is not None and ended.code != 0:
            raise exited(name, ended, "as soon as it was started")


def awaited_ports(config: ServiceConfig) -> dict[str, PortSpec]:
    """The ports with a wait, private and public ones, each number once; inside the enclave, where all engines see them.

    A public port with the id of a private one is the way to it, so it is the private one's number that is awaited.
    """
    awaited: dict[str, PortSpec] = {}
    numbers: set[tuple[int, str]] = set()
    for port_id, port in (*config.ports.items(), *config.public_ports.items()):
        inside = replace(config.ports.get(port_id, port), wait=port.wait)
        number = (inside.number, inside.transport_protocol)
        if inside.wait is not None and number not in numbers:
            awaited[port_id] = inside
            numbers.add(number)
    return awaited


def _await_ports(context: Context, name: str, waiting: Mapping[str, PortSpec]) -> None:
    clock, site = context.clock, context.site
    started = clock.now()
    pause = FIRST_PROBE_PAUSE
    told = False
    while True:
        waiting = {port_id: port for port_id, port in waiting.items() if not site.accepts(name, port)}
        if not waiting:
            return
        if not told:
            listed = ", ".join(f"{p} ({s.number}/{s.transport_protocol})" for p, s in waiting.items())
            context.emit(Waiting(f"{name}: port {listed} to open"))
            told = True
        ended = site.exit_of(name) or site.pause(pause, watching=name)
        if ended is not None:
            raise exited(name, ended, f"before its port `{next(iter(waiting))}` opened")
        waited = clock.now() - started
        for port_id, port in waiting.items():
            if port.wait is not None and (waited > port.wait or _over(context)):
                raise PortNeverOpened(
                    f"port `{port_id}` ({port.number}/{port.transport_protocol}) of service `{name}` did not open "
                    f"in {waited:.3g} s",
                    service=name,
                    port=port_id,
                    timeout=port.wait,
                    remedy="see whether it listens on another port, or on 127.0.0.1 only; "
                    "`PortSpec(wait = …)` sets how long to wait",
                )
        pause = min(pause * 1.5, LARGEST_PROBE_PAUSE)


def _over(context: Context) -> bool:
    return context.deadline is not None and context.clock.now() > context.deadline


def _combined(context: Context, failed: Mapping[str, EnclaveError]) -> EnclaveError:
    """The first failure, with the others as details and everybody's last log lines."""
    first, *others = failed.values()
    if isinstance(first, ExecutionError):
        first.details = (*first.details, *(("also", str(other)) for other in others))
        logs = {name: _last_lines(context, name) for name in failed}
        first.logs = {**logs, **{name: lines for name, lines in first.logs.items() if lines}}
    return first


def _last_lines(context: Context, name: str) -> list[str]:
    try:
        return [line.text for line in context.site.logs(name)][-LOG_LINES:]
    except EnclaveError:
        return []
