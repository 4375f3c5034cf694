"""The last lines of a session; amounts with their units."""

from __future__ import annotations

import pytest

from pytest_enclave.engine.protocol import Leak
from pytest_enclave.plan.instruction import Plan
from pytest_enclave.plan.record import Outcome, Step
from pytest_enclave.report.amounts import duration, setting, size
from pytest_enclave.report.summary import leak_lines, leak_title, summary_line
from pytest_enclave.run.outcome import Run
from tests.report.samples import request


def run(**counts: int) -> Run:
    steps = (Step(request(), Outcome[name.upper()], 0.1) for name, count in counts.items() for _ in range(count))
    return Run(Plan(), tuple(steps))


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([run(executed=3, skipped=38)], "enclave: 41 instructions, 3 executed, 38 reused"),
        ([run(executed=1)], "enclave: 1 instruction, 1 executed, 0 reused"),
        (
            [run(executed=1, failed=1), run(skipped=2, updated=1)],
            "enclave: 5 instructions, 1 executed, 1 updated, 2 reused, 1 failed",
        ),
        ([], ""),
        ([run()], ""),
    ],
)
def test_the_summary_counts_what_was_done(runs: list[Run], expected: str) -> None:
    assert summary_line(runs) == expected


@pytest.mark.parametrize(("forks", "told"), [(1, "1 fork"), (3, "3 forks")])
def test_forks_are_counted(forks: int, told: str) -> None:
    assert summary_line([run(executed=1)], forks) == f"enclave: 1 instruction, 1 executed, 0 reused, {told}"


def test_leaks_are_listed_with_the_command_that_removes_them() -> None:
    command = "pytest --enclave-clean=7f3a"
    leaks = [
        Leak("container", "api-7f3a", "removal timed out after 10 s (holds volume net-data)", command),
        Leak("network", "enclave-7f3a", "has 1 endpoint: api-7f3a", command),
    ]
    assert leak_title(leaks) == "enclave: 2 leaked resources"
    assert leak_lines(leaks) == [
        "container  api-7f3a      removal timed out after 10 s (holds volume net-data)",
        "network    enclave-7f3a  has 1 endpoint: api-7f3a",
        "remove with:  pytest --enclave-clean=7f3a",
    ]


def test_different_commands_stand_below_each_other() -> None:
    lines = leak_lines(
        [Leak("container", "a", "busy", "docker rm -f a"), Leak("volume", "b", "", "docker volume rm b")]
    )
    assert lines == [
        "container  a  busy",
        "volume     b",
        "remove with:  docker rm -f a",
        "              docker volume rm b",
    ]
    assert leak_lines([]) == []


def test_times_have_units() -> None:
    times = [0, 0.012, 0.0996, 0.41, 0.996, 4.23, 9.96, 41.3, 59.6, 125, 3600]
    assert [duration(time) for time in times] == [
        *("0 ms", "12 ms", "0.10 s", "0.41 s", "1.0 s", "4.2 s", "10 s", "41 s", "1 min", "2 min 5 s", "60 min")
    ]
    assert [setting(time) for time in (30, 0.5)] == ["30 s", "0.5 s"]


def test_sizes_have_units() -> None:
    sizes = [0, 512, 1000, 4_100_000, 138_000_000, 999_600_000, 5_000_000_000_000_000]
    assert [size(count) for count in sizes] == ["0 B", "512 B", "1.0 kB", "4.1 MB", "138 MB", "1.0 GB", "5000 TB"]
