"""What users read when the example shop is broken, one way at a time, on each engine: whole reports, word for word.

`broken_shop/` holds the expected report of every package in `example_packages/shop/broken/`, with times, counts of
tries and log stamps replaced by `N`. All of them run in one shared enclave, so the shop itself starts once.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BROKEN = Path(__file__).parents[2] / "example_packages" / "shop" / "broken"
EXPECTED = Path(__file__).parent / "broken_shop"
NAMES = sorted(path.stem for path in BROKEN.glob("*.star"))
FAILED = {"exec_code", "fail", "ready_condition", "request_code", "run_sh_code", "verify", "wait"}

TESTS = f"""
from pathlib import Path
import pytest

def making(name):
    @pytest.mark.enclave(Path({str(BROKEN)!r}) / f"{{name}}.star", share="shop")
    def test(enclave):
        raise AssertionError("a broken package must not reach the test")
    return test

for name in {NAMES!r}:
    globals()["test_" + name] = making(name)
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory, on_engine: str) -> str:
    """What pytest prints for all broken shops, one test each."""
    directory = tmp_path_factory.mktemp("broken")
    (directory / "test_broken.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "--color=no", "-p", "no:cacheprovider", on_engine, "test_broken.py"]
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(command, cwd=directory, env=environment, text=True, stdout=subprocess.PIPE, timeout=100)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    return done.stdout


def report(output: str, name: str) -> str:
    """Our report of one test: from its heading to the first section that pytest adds."""
    found = re.search(
        rf"^_+ (?:ERROR at setup of )?test_{name} _+\n(.*?)(?=^_{{3,}} |^-{{3,}} |^={{3,}} )", output, re.S | re.M
    )
    assert found, f"no report of {name} in:\n{output}"
    return without_chance(found[1])


def without_chance(text: str) -> str:
    """The text with everything that differs from run to run replaced."""
    text = re.sub(r"\d+:([A-Z]) \d+ \w+ \d{4} [\d:.]+", r"N:\1 N", text)
    text = re.sub(r"(?<=[ +])\d+(\.\d+)? m?s\b", "N s", text)
    return re.sub(r" +\d+ (attempts|×)", r" N \1", text)


@pytest.mark.parametrize("name", NAMES)
def test_the_report_explains_itself(output: str, name: str):
    assert report(output, name) == (EXPECTED / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_checked_fails_and_what_cannot_be_built_errs(output: str, name: str):
    word = "FAILED" if name in FAILED else "ERROR"
    assert re.search(rf"^{word} test_broken.py::test_{name} - E\d\d\d ", output, re.M)


def test_the_log_of_the_service_involved_comes_first(output: str):
    section = output[output.index(" test_exec_code _") :]
    assert re.search(r"^-+ enclave shop-\w+ · (\w+) log -+$", section, re.M)[1] == "db"  # type: ignore[index]
    assert 'relation "customers" does not exist at character 15' in section
