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
    *sys.argv[1:],
)
names = {name for each in unwanted for name in (each, f"pytest_enclave.{each}")}
print("loaded:", *sorted(name for name in names if name in sys.modules))
sys.exit(code)
"""


LOADERS = """
import sys, pytest

code = pytest.main(["-p", "no:cacheprovider", "--enclave-engine=simulated"])
own = [module for name, module in sys.modules.items() if name.startswith("pytest_enclave.run")]
print("loaders:", len(own) > 5, *{type(module.__spec__.loader).__name__ for module in own})
sys.exit(code)
"""


def test_pytest_rewrites_asserts_in_tests_and_not_in_what_an_enclave_needs(pytester: pytest.Pytester) -> None:
    pytester.makefile(".star", main=PACKAGE.replace("host:/", "busybox"))
    pytester.makefile(".yml", kurtosis="name: github.com/acme/shop")
    pytester.makepyfile("def test_it(enclave):\n    one = 1\n    assert one == 2")
    done = subprocess.run([sys.executable, "-c", LOADERS], cwd=pytester.path, capture_output=True, text=True)
    assert "E       assert 1 == 2" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaders: True SourceFileLoader"


SETTLED = [
    *("run.execute", "run.network", "run.reuse", "run.validate", "instructions.protocol", "instructions.add_service"),
    *("plan.world", "store.aside", "report.short_call"),
]
"""What a session that finds nothing to do needs no more where the one before found the same."""


@pytest.mark.skipif(sys.platform != "linux", reason="the embedded engine needs Linux")
def test_a_session_whose_enclave_was_kept_imports_what_it_uses_and_no_more(pytester: pytest.Pytester) -> None:
    """Imports are most of what it costs.

    Where the session before has found nothing to do, this one does not even look through the plan.
    """
    pytester.makefile(".star", main=PACKAGE)
    pytester.makefile(".yml", kurtosis="name: github.com/acme/shop")
    pytester.makepyfile("def test_it(enclave): assert len(enclave.services) == 2")
    try:
        for number, unwanted in enumerate(([], [], SETTLED)):
            command = [sys.executable, "-c", WARM, *unwanted]
            done = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout
            assert ("3 reused" in done.stdout) == (number > 0)
        assert done.stdout.splitlines()[-1] == "loaded:"
    finally:
        pytester.runpytest_subprocess("--enclave-clean=all")


WARM_ON_DOCKER = """
import sys, pytest

code = pytest.main(["-p", "no:cacheprovider", "--enclave-engine=docker", "--enclave-keep=always"])
unwanted = ("docker", "requests", "urllib3", "yaml", "starlark")
ours = ("deeds", "starting", "freezing", "plots", "removal", "sweeping", "building")
names = {*unwanted, *(f"pytest_enclave.engine.docker.{each}" for each in ours)}
print("loaded:", *sorted(name for name in names if name in sys.modules))
sys.exit(code)
"""


@pytest.mark.docker
@pytest.mark.usefixtures("docker_host")
def test_a_session_whose_enclave_was_kept_on_docker_needs_no_sdk(pytester: pytest.Pytester) -> None:
    """It only looks."""
    services = PACKAGE.replace("host:/", "enclave-test/busybox:local")
    pytester.makefile(".star", main=services)
    pytester.makefile(".yml", kurtosis="name: github.com/acme/shop")
    pytester.makepyfile("def test_it(enclave): assert len(enclave.services) == 2")
    try:
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-c", WARM_ON_DOCKER], cwd=pytester.path, capture_output=True, text=True
            )
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
