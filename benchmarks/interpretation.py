"""From source to plan: small packages, many instructions, many modules, and whether time grows in proportion."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.measurement import Goal, Row, Timing, timings
from pytest_enclave.instructions.registry import Registry
from pytest_enclave.language.kept import KeptModules
from pytest_enclave.package.package import Source
from pytest_enclave.run.interpretation import Interpretations, PackageLike, Request

ROUNDS = 5

SHOP = Path(__file__).parent.parent / "example_packages" / "shop"

TRIVIAL = "def run(plan):\n    plan.print('hello')\n"

ABOVE_LINEAR = 1.2
"""How much more than in proportion more instructions may take."""

MODULES = 100

MANY_INSTRUCTIONS, MANY_MODULES = 0.8, 0.5
"""Seconds that 10,000 instructions, and a package of 100 modules that was read before, may take."""


def many_services(count: int, prefix: str = "service") -> str:
    """A package that adds so many services, one after the other."""
    return (
        "def run(plan):\n"
        f"    for number in range({count}):\n"
        f'        plan.add_service(name = "{prefix}-{{}}".format(number), config = ServiceConfig(\n'
        '            image = "busybox", cmd = ["sleep", str(number)], env_vars = {"NUMBER": str(number)},\n'
        '            ports = {"http": PortSpec(number = 80)}))\n'
    )


def write_modules(root: Path, count: int) -> None:
    """A package of so many files of about 90 lines beside the main one, each of which imports up to three others."""
    (root / "kurtosis.yml").write_text("name: github.com/example/many\n")
    (root / "main.star").write_text(
        'first = import_module("./m0.star")\n\n\ndef run(plan):\n    first.start_0_0(plan, "node")\n'
    )
    for number in range(count):
        others = range(3 * number + 1, min(3 * number + 4, count))
        imports = "".join(f'm{other} = import_module("./m{other}.star")\n' for other in others)
        functions = "".join(_function(number, kind) for kind in range(6))
        (root / f"m{number}.star").write_text(f'{imports}DEFAULTS = struct(version = "1.0")\n{functions}')


def _function(number: int, kind: int) -> str:
    return f'''

def start_{number}_{kind}(plan, name, settings = {{}}, ports = None):
    """Adds a node of kind {kind}."""
    env = {{"NODE": name, "KIND": "{kind}"}}
    for key, value in sorted(settings.items()):
        env["APP_%s" % key.upper()] = str(value)
    exposed = {{"http": PortSpec(number = 80{kind})}} if ports == None else ports
    config = ServiceConfig(
        image = "example/node:{{}}".format(settings.get("version", DEFAULTS.version)),
        cmd = ["serve", "--id={{}}".format(name)],
        env_vars = env,
        ports = exposed,
    )
    return plan.add_service(name = "{{}}-{kind}".format(name), config = config)
'''


def measure(rounds: int) -> Iterator[Row]:
    """Interpretation alone, without the memory that a session has."""
    with tempfile.TemporaryDirectory() as directory:
        package, kept, empty = (Path(directory, name) for name in ("package", "kept", "empty"))
        package.mkdir()
        write_modules(package, MODULES)
        yield from _rows(package, kept, empty, rounds)


def _rows(package: Path, kept: Path, empty: Path, rounds: int) -> Iterator[Row]:
    types = Registry()
    contenders: dict[str, Callable[[], object]] = {
        "a trivial package": partial(_interpret, Source(TRIVIAL), types, kept),
        "example_packages/shop": partial(_interpret, SHOP, types, kept),
        "1,000 × add_service": partial(_interpret, Source(many_services(1_000)), types, kept),
        "10,000 × add_service": partial(_interpret, Source(many_services(10_000)), types, kept),
        "20,000 × add_service": partial(_interpret, Source(many_services(20_000)), types, kept),
        "100 modules, never read before": partial(_interpret_anew, package, types, empty),
        "100 modules": partial(_interpret, package, types, kept),
    }
    _interpret(package, types, kept)
    taken = timings(contenders, rounds)
    thousand, ten_thousand, twenty_thousand = (
        taken[f"{count} × add_service"] for count in ("1,000", "10,000", "20,000")
    )
    for name, timing in taken.items():
        if timing is ten_thousand:
            yield _proportional(name, timing, thousand, 10, "1,000", _least(timing, MANY_INSTRUCTIONS))
        elif timing is twenty_thousand:
            yield _proportional(name, timing, ten_thousand, 2, "10,000")
        elif name == "100 modules":
            yield Row(name, timing, goals=(_least(timing, MANY_MODULES),))
        else:
            yield Row(name, timing)


def _proportional(name: str, timing: Timing, smaller: Timing, times: int, whom: str, *goals: Goal) -> Row:
    ratio = timing.ratio_to(smaller)
    return Row(name, timing, ratio, whom, (Goal(f"≤ {ABOVE_LINEAR:g} × linear", ratio / times, ABOVE_LINEAR), *goals))


def _least(timing: Timing, seconds: float) -> Goal:
    """Of the round that was disturbed least: what other programs do on this machine is not interpretation's."""
    return Goal(f"min ≤ {seconds:g} s", timing.minimum, seconds)


def _interpret(package: PackageLike, types: Registry, kept: Path) -> None:
    Interpretations(kept=KeptModules(kept)).interpret(Request.of(package), types)


def _interpret_anew(package: PackageLike, types: Registry, empty: Path) -> None:
    shutil.rmtree(empty, ignore_errors=True)
    _interpret(package, types, empty)
