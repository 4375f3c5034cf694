"""Checks that several instructions share: services, ports and artifacts must exist where they are used."""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pytest_enclave.errors import Problem
from pytest_enclave.plan.futures import find
from pytest_enclave.plan.image_sources import Build, Flake
from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.plan.recipes import HttpRecipe, Recipe
from pytest_enclave.plan.service import PERSISTENT_KEY, PORT_NAME, SERVICE_NAME, PortSpec, ServiceConfig
from pytest_enclave.plan.values import quote
from pytest_enclave.plan.world import World

_RFC_1035 = "1 to 63 lower-case letters, digits and `-`, beginning with a letter and not ending with `-` (RFC 1035)"


def problem(call: Instruction, subject: str, message: str, remedy: str = "", severity: str = "error") -> Problem:
    """A problem at the call; `subject` names the service, port or artifact it is about."""
    about = f'{call.name}("{subject}")' if subject else call.name
    return Problem(message, call.location, about, remedy, severity)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A remedy naming the nearest of the known names, or all of them where none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, 1)
    if near:
        return f"did you mean `{near[0]}`?"
    return "known here: " + ", ".join(f"`{n}`" for n in names) if names else ""


def unknown_service(call: Instruction, name: str, world: World) -> Problem | None:
    """The problem where no service of that name exists at this point."""
    if name in world.services:
        return None
    if name in world.removed:
        return problem(call, name, f"service `{name}` does not exist any more: it is removed at {world.removed[name]}")
    if is_known_later(name):
        return problem(
            call, "", "the service name is a value known only after execution", "pass the service's `name` instead"
        )
    return problem(call, name, f"service `{name}` does not exist at this point", did_you_mean(name, world.services))


def recipe_problems(call: Instruction, service: str, recipe: Recipe, world: World) -> list[Problem]:
    """What keeps a recipe from being carried out on a service: the service, or the port it names."""
    missing = unknown_service(call, service, world)
    if missing is not None:
        return [missing]
    ports = world.services[service].ports
    if isinstance(recipe, HttpRecipe) and recipe.port_id not in ports:
        return [
            problem(call, service, f"service `{service}` has no port `{recipe.port_id}`", _known_ports(recipe, ports))
        ]
    return []


def _known_ports(recipe: HttpRecipe, ports: Mapping[str, object]) -> str:
    return did_you_mean(recipe.port_id, ports) or "it declares no ports: add one to its `ServiceConfig`"


def missing_artifacts(call: Instruction, subject: str, names: Iterable[str], world: World) -> Iterator[Problem]:
    """A problem for each artifact that does not exist at this point."""
    for name in sorted(set(names)):
        if name not in world.artifacts:
            yield problem(
                call,
                subject,
                f"files artifact `{name}` does not exist at this point",
                did_you_mean(name, world.artifacts),
            )


def duplicate_artifact(call: Instruction, name: str, world: World) -> list[Problem]:
    """A problem where this plan has made an artifact of that name already."""
    place = world.artifacts.get(name)
    if place is None:
        return []
    return [problem(call, name, f"files artifact `{name}` is already made at {place}", "give one of them another name")]


def service_name_problems(call: Instruction, name: str) -> list[Problem]:
    """A problem where the name cannot be that of a service."""
    if re.fullmatch(SERVICE_NAME, name):
        return []
    return [problem(call, name, f"`{name}` is no service name", f"use {_RFC_1035}")]


def config_problems(call: Instruction, name: str, config: ServiceConfig, world: World) -> Sequence[Problem]:
    """Everything that is wrong with adding a service at this point of the plan (behaviour.md §5.3)."""
    found = service_name_problems(call, name)
    known = world.services.get(name)
    if known is not None and known.added_at is not None:
        found.append(
            problem(
                call, name, f"service `{name}` is already added at {known.added_at}", "give one of them another name"
            )
        )
    found += image_problems(call.names_image, name, config)
    found += _port_problems(call, name, config)
    found += _mount_problems(call, name, config)
    found += _process_problems(call, name, config)
    found += _limit_problems(call, name, config)
    found += _key_problems(call, name, config)
    found += scheduling_problems(call, name, config.scheduling)
    found += _move_problems(call, name, config)
    found += missing_artifacts(call, name, (each for names in config.files.values() for each in names), world)
    found += _capacity_problems(call, name, config, world)
    ready = config.ready_conditions
    if ready is not None and isinstance(ready.recipe, HttpRecipe) and ready.recipe.port_id not in config.ports:
        found.append(
            problem(
                call,
                name,
                f"its ready condition asks port `{ready.recipe.port_id}`, which it does not declare",
                _known_ports(ready.recipe, config.ports),
            )
        )
    return found


def image_problems(call: Instruction, name: str, config: ServiceConfig) -> Iterator[Problem]:
    """What keeps the config's image from being had on any engine."""
    if is_known_later(config.image):
        yield problem(call, name, "the image is a value known only after execution", "write the image's name")
    if isinstance(config.image_source, Flake):
        yield problem(
            call,
            name,
            f"image `{config.image}` would have to be built by Nix, which is not supported",
            "let CI build the image and write its name, or write a Dockerfile and `ImageBuildSpec(…)`",
        )
    if isinstance(config.image_source, Build):
        texts = (config.image_source.target, *config.image_source.arguments.values())
        if any(is_known_later(text) for text in texts):
            yield problem(
                call,
                name,
                f"image `{config.image_source.title}` is built before anything is executed, and is given a value that "
                "is known only afterwards",
                "leave it out of `build_args`, and pass it in `env_vars`",
            )


def is_known_later(text: str) -> bool:
    """Whether there is a future reference in the text."""
    return next(find(text), None) is not None


def _mount_problems(call: Instruction, name: str, config: ServiceConfig) -> Iterator[Problem]:
    """Directories are mounted at absolute paths, each at its own, and none at the root."""
    taken: dict[str, str] = {}
    for path in (*config.files, *config.directories):
        normal = posixpath.normpath("/" + path.lstrip("/"))
        if "\0" in path:
            yield problem(call, name, f"the path {quote(path)} in `files` has a NUL character")
        elif not path.startswith("/"):
            yield problem(call, name, f"the path {quote(path)} in `files` is not absolute", f"write {quote(normal)}")
        elif normal == "/":
            yield problem(call, name, f"the path {quote(path)} in `files` is the root, where nothing can be mounted")
        elif taken.setdefault(normal, path) != path:
            yield problem(call, name, f"the paths {quote(taken[normal])} and {quote(path)} in `files` are the same")


def scheduling_problems(call: Instruction, name: str, fields: Iterable[str]) -> Iterator[Problem]:
    """A warning for each field that only Kubernetes knows."""
    for field in fields:
        yield problem(call, name, f"`{field}` has no effect: there is no Kubernetes here", severity="warning")


def _move_problems(call: Instruction, name: str, config: ServiceConfig) -> Iterator[Problem]:
    """What is moved is a file of an artifact, and goes where it can be named."""
    mounts = [posixpath.normpath(path) for path in config.files]
    for path, target in config.moved.items():
        normal = posixpath.normpath(path)
        if not any(normal.startswith(f"{mount}/") for mount in mounts):
            remedy = "write a path below one of `files`"
            yield problem(call, name, f"{quote(path)} in `files_to_be_moved` is not in a files artifact", remedy)
        if not target.startswith("/") or target.endswith("/") or "\0" in target or posixpath.normpath(target) == "/":
            remedy = "write the absolute path of the file"
            yield problem(call, name, f"{quote(target)} in `files_to_be_moved` cannot be the path of a file", remedy)


def _key_problems(call: Instruction, name: str, config: ServiceConfig) -> Iterator[Problem]:
    for key in dict.fromkeys(config.directories.values()):
        if not re.fullmatch(PERSISTENT_KEY, key):
            yield problem(call, name, f"{quote(key)} is no key of a persistent directory", f"use {_RFC_1035}")


def _process_problems(call: Instruction, name: str, config: ServiceConfig) -> Iterator[Problem]:
    """What no process can be started with: the kernel ends texts at NUL, and a variable's name at `=`."""
    for variable, value in config.env_vars.items():
        if not variable or "=" in variable or "\0" in variable:
            remedy = "a name is not empty, and has no `=` and no NUL"
            yield problem(call, name, f"{quote(variable)} in `env_vars` is no name of a variable", remedy)
        if "\0" in value:
            yield problem(call, name, f"the value of `{variable}` in `env_vars` has a NUL character")
    for field, words in (("entrypoint", config.entrypoint), ("cmd", config.cmd)):
        for index, word in enumerate(words):
            if "\0" in word:
                yield problem(call, name, f"`{field}[{index}]` has a NUL character")


def _limit_problems(call: Instruction, name: str, config: ServiceConfig) -> Iterator[Problem]:
    for what, unit, least, most in (
        ("cpu", "millicores", config.min_cpu, config.max_cpu),
        ("memory", "megabytes", config.min_memory, config.max_memory),
    ):
        if most is not None and least > most:
            yield problem(call, name, f"min_{what} is {least} {unit}, more than max_{what}, which is {most}")


def _port_problems(call: Instruction, name: str, config: ServiceConfig) -> Iterator[Problem]:
    for port_id in (*config.ports, *(p for p in config.public_ports if p not in config.ports)):
        if not re.fullmatch(PORT_NAME, port_id):
            yield problem(
                call,
                name,
                f"`{port_id}` is no port name",
                "use 1 to 15 lower-case letters, digits and `-`, beginning with a letter and not ending with `-`",
            )
    for ports, kind in ((config.ports, "port"), (config.public_ports, "public port")):
        taken: dict[tuple[int, str], str] = {}
        for port_id, port in ports.items():
            other = taken.setdefault(_number(port), port_id)
            if other != port_id:
                number = f"{port.number}/{port.transport_protocol}"
                yield problem(call, name, f"{kind} `{port_id}` is {number}, which `{other}` is already")


def _number(port: PortSpec) -> tuple[int, str]:
    return port.number, port.transport_protocol


def _capacity_problems(call: Instruction, name: str, config: ServiceConfig, world: World) -> Iterator[Problem]:
    if world.capacity is None:
        return
    wanted = (
        ("CPU", "millicores", config.min_cpu, world.capacity.cpu),
        ("memory", "megabytes", config.min_memory, world.capacity.memory),
    )
    for what, unit, least, left in wanted:
        if least > left:
            yield problem(call, name, f"it needs at least {least} {unit} of {what}, and {max(left, 0)} are left")
