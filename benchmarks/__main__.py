"""The command line: `python -m benchmarks [NAME…] [--json] [--rounds N]`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType

from benchmarks import (
    cold_start,
    connections,
    embedded_exec,
    embedded_scale,
    embedded_start,
    forks,
    further_test,
    import_cost,
    interpretation,
    pooled_start,
    relay,
    reuse,
    warm_session,
    whole_session,
    workers,
)
from benchmarks.machine import load, machine
from benchmarks.measurement import Row
from benchmarks.table import as_json, table


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark: what it measures, how often by default, and its rows for so many rounds."""

    title: str
    rounds: int
    measure: Callable[[int], Iterator[Row]]

    @classmethod
    def of(cls, module: ModuleType) -> Benchmark:
        """The benchmark that a module defines: its docstring, `ROUNDS` and `measure`."""
        return cls((module.__doc__ or "").splitlines()[0], module.ROUNDS, module.measure)


MODULES = (
    cold_start,
    pooled_start,
    embedded_start,
    embedded_exec,
    embedded_scale,
    forks,
    relay,
    connections,
    whole_session,
    warm_session,
    workers,
    further_test,
    import_cost,
    interpretation,
    reuse,
)

BENCHMARKS = {module.__name__.rpartition(".")[2]: Benchmark.of(module) for module in MODULES}


def main() -> None:
    """Run the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What pytest-enclave costs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--json", action="store_true", help="every round, as JSON")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each benchmark (default: its own number)")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}")
    chosen = {name: BENCHMARKS[name] for name in options.names or BENCHMARKS}
    if options.json:
        _print_json(chosen, options.rounds)
    else:
        _print_tables(chosen, options.rounds)


def _print_tables(chosen: Mapping[str, Benchmark], rounds: int | None) -> None:
    """Each table as soon as it is measured."""
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    for name, benchmark in chosen.items():
        count = rounds or benchmark.rounds
        print(f"\n{name}: {benchmark.title} ({count} rounds, load {load():.1f})", flush=True)
        print(table(list(benchmark.measure(count))), flush=True)


def _print_json(chosen: Mapping[str, Benchmark], rounds: int | None) -> None:
    measured = {
        name: [as_json(row) for row in benchmark.measure(rounds or benchmark.rounds)]
        for name, benchmark in chosen.items()
    }
    print(json.dumps({"machine": machine(), "benchmarks": measured}, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
