"""The page on conformance and the tests agree: which rows are tested, and that each row says how it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"\| ([IJ]?\d+) \| (.+) \| ([^|]+) \|")
TESTED = re.compile(r"(?<![a-z])row[-_\[]([IJ]?\d+)(?:-(\d+)\b)?")
STATUS = re.compile(r"holds|(differs|later|not here): .+")


@pytest.fixture(scope="module")
def page() -> dict[str, str]:
    """How each row stands."""
    rows = map(LINE.fullmatch, (ROOT / "docs" / "conformance.md").read_text().splitlines())
    return {row[1]: row[3] for row in rows if row}


@pytest.fixture(scope="module")
def tested() -> set[str]:
    """The rows that names of tests carry."""
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests"]
    listed = subprocess.run(collect, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {number for match in TESTED.finditer(listed) for number in match.groups() if number}


def test_every_row_of_the_table_is_on_the_page(page: dict[str, str]):
    numbered = [str(number) for number in range(1, 186)]
    assert list(page) == [*numbered[:161], *(f"{kind}{n}" for kind in "IJ" for n in range(1, 21)), *numbered[161:]]


def test_every_row_says_how_it_stands(page: dict[str, str]):
    assert [row for row, status in page.items() if not STATUS.fullmatch(status)] == []


def test_exactly_the_rows_that_hold_or_differ_are_tested(page: dict[str, str], tested: set[str]):
    claimed = {row for row, status in page.items() if not status.startswith(("later", "not here"))}
    assert sorted(claimed - tested) == [], "claimed, but no test carries the number"
    assert sorted(tested - claimed) == [], "tested, but not claimed"
