"""The example packages and their tests, on each engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(manifest.parent for manifest in ROOT.glob("example_packages/*/kurtosis.yml"))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_all_tests_of_the_package_pass(package: Path, on_engine: str):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", on_engine, package]
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, timeout=110)
    assert done.returncode == pytest.ExitCode.OK, done.stdout
