"""What the plugin costs whoever has it installed and uses no enclave: next to nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("docker", "requests", "urllib3", "rich", "yaml", "sqlite3", "starlark", "jq", "filelock", "ctypes")


def heavy_after(code: str, pytester: pytest.Pytester) -> str:
    """Which heavy modules a fresh process has imported after running the code."""
    rooms = ("engine.embedded", "engine.docker", "linux", "images")
    names = (*HEAVY, *(f"pytest_enclave.{room}" for room in rooms))
    script = f"import sys\n{code}\nprint('loaded:', *[name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=pytester.path, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def test_importing_the_plugin_imports_nothing_heavy(pytester: pytest.Pytester) -> None:
    assert heavy_after("import pytest_enclave.plugin", pytester) == "loaded:"


def test_a_session_without_enclaves_imports_nothing_heavy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_passing(): ...\ndef test_failing(): assert 0")
    assert heavy_after("import pytest; pytest.main(['-p', 'no:cacheprovider'])", pytester) == "loaded:"


PACKAGE = """
def run(plan):
    for name in ["db", "api"]:
        plan.add_service(name, ServiceConfig(image = "host:/", entrypoint = ["sleep", "1000"]))
    plan.render_templates({"a.txt": struct(template = "{{.A}}", data = {"A": 1})}, name = "config")
"""

WARM = """
import sys, pytest

options = ["--enclave-engine=embedded", "--enclave-egress=off", "--enclave-keep=always"]
code = pytest.main(["-p", "no:cacheprovider", *options])
unwanted = (
    "starlark", "yaml", "jq", "docker", "requests", "urllib3", "golang.template", "language", "package.git", "images",
    "engine.docker", "engine.embedded.inside", "linux", "ssl", "http", "tarfile", "filelock", "asyncio", "run.forking",
    "instructions.starting", "instructions.wait", "report.masking", "report.source_excerpt",
)
names = {name for each in unwanted for name in (each, f"pytest_enclave.{each}")}
print("loaded:", *sorted(name for name in names if name in sys.modules))
sys.exit(code)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the embedded engine needs Linux")
def test_a_session_whose_enclave_was_kept_imports_what_it_uses_and_no_more(pytester: pytest.Pytester) -> None:
    """Imports are most of what it costs."""
    pytester.makefile(".star", main=PACKAGE)
    pytester.makefile(".yml", kurtosis="name: github.com/acme/shop")
    pytester.makepyfile("def test_it(enclave): assert len(enclave.services) == 2")
    try:
        for _ in range(2):
            done = subprocess.run([sys.executable, "-c", WARM], cwd=pytester.path, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout
        assert "3 reused" in done.stdout
        assert done.stdout.splitlines()[-1] == "loaded:"
    finally:
        pytester.runpytest_subprocess("--enclave-clean=all")


def test_the_version_is_printed_as_ever(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--version")
    assert result.ret == 0
    assert result.outlines + result.errlines == [f"pytest {pytest.__version__}"]


def test_the_help_has_every_option_in_a_group_of_its_own(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--help")
    result.stdout.fnmatch_lines(["environments as code (pytest-enclave):", "*--enclave-package=PATH*"])


def test_it_can_be_named_as_a_plugin_and_be_left_out(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): ...")
    pytester.runpytest_inprocess("-p", "enclave").assert_outcomes(passed=1)
    result = pytester.runpytest_inprocess("-p", "no:enclave", "--enclave-plan")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
