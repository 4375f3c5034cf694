"""What README and guide show works as it is shown.

A block of Python or Starlark is written to the file that its first line names, and what it defines is tested. Where a
real engine is needed, images from Docker Hub are replaced by those that `tests/images` builds.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def snippets(document: str) -> dict[str, str]:
    """The code of a document: file name and content of every block."""
    blocks = re.findall(r"^```(?:python|starlark)\n(.*?)^```$", (ROOT / document).read_text(), re.S | re.M)
    names = [re.match(r"# ([\w/.]+)", block) for block in blocks]
    assert all(names), f"every block of {document} names its file in its first line"
    return {name[1]: block for name, block in zip(names, blocks, strict=True) if name}


GUIDE = snippets("docs/guide.md")
PLANS = snippets("docs/plan-json.md")


CACHE = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """The present user's cache, with the images: pytester has another home directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", CACHE)


def write(pytester: pytest.Pytester, name: str, content: str) -> None:
    """Write a file, with images that need no registry."""
    path = pytester.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    for image, ours in (("redis:7", "redis"), ("postgres:16", "postgres")):
        content = content.replace(f'"{image}"', f'"enclave-test/{ours}:local"')
    path.write_text(content)


def test_there_are_no_other_snippets():
    tests = ["test_shop.py", "test_orders.py", "database.star", "test_refusal.py", "test_patience.py"]
    tests += ["test_partition.py", "test_trouble.py"]
    images = ["private.star", "shop/main.star", "replicas.star"]
    assert sorted(GUIDE) == sorted([*tests, *images, "restaurant/main.star", "restaurant/tables_test.star"])
    assert list(PLANS) == ["plans.py"]
    assert list(snippets("README.md")) == ["packages/hello/main.star", "test_hello.py"]


def test_the_example_in_the_readme(pytester: pytest.Pytester):
    files = snippets("README.md")
    for name, content in files.items():
        write(pytester, name, content)
    manifest = re.search(r"a kurtosis.yml with the line `(.*)`", files["packages/hello/main.star"])
    assert manifest is not None
    write(pytester, "packages/hello/kurtosis.yml", manifest[1])
    arguments = ("-p", "no:cacheprovider", "--enclave-engine=embedded")
    pytester.runpytest_subprocess(*arguments, "test_hello.py").assert_outcomes(passed=1)
    pytester.runpytest_subprocess(*arguments, "packages/hello").assert_outcomes(passed=1)
    plan = pytester.runpytest_subprocess(*arguments, "--enclave-plan", "--enclave-package=packages/hello")
    plan.stdout.fnmatch_lines(["*render_templates*", "*add_service*"])


def test_the_guides_test_of_the_shop(pytester: pytest.Pytester, on_engine: str):
    write(pytester, "test_shop.py", GUIDE["test_shop.py"])
    (pytester.path / "example_packages").symlink_to(ROOT / "example_packages")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", on_engine, "test_shop.py")
    result.assert_outcomes(passed=1)


def test_the_guides_broken_networks(pytester: pytest.Pytester, on_engine: str):
    for name in ("test_partition.py", "test_trouble.py"):
        write(pytester, name, GUIDE[name])
    (pytester.path / "example_packages").symlink_to(ROOT / "example_packages")
    result = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", on_engine, "--enclave-seed=1", "test_partition.py", "test_trouble.py"
    )
    result.assert_outcomes(passed=8)


def test_the_guides_database(pytester: pytest.Pytester, on_engine: str):
    write(pytester, "database.star", GUIDE["database.star"])
    count = ["psql", "-h", "127.0.0.1", "-U", "postgres", "-Atc", "SELECT count(*) FROM orders"]
    body = f"assert enclave.services['db'].exec({count}).output == '1\\n'"
    write(pytester, "test_database.py", f"def test_database(enclave):\n    {body}\n")
    arguments = ("-p", "no:cacheprovider", on_engine, "--enclave-package=database.star", "test_database.py")
    pytester.runpytest_subprocess(*arguments).assert_outcomes(passed=1)


def test_the_guides_private_image(pytester: pytest.Pytester):
    write(pytester, "private.star", GUIDE["private.star"])
    body = "assert '5000/shop/api:1.4' in repr(enclave.services['api'])"
    write(pytester, "test_api.py", f"def test_api(enclave):\n    {body}\n")
    arguments = ("--enclave-engine=simulated", "--enclave-package=private.star", "--enclave-args={password: hunter22}")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-rA", *arguments, "test_api.py")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*hunter22*")


def test_the_guides_image_from_a_dockerfile(pytester: pytest.Pytester, on_engine: str):
    write(pytester, "shop/main.star", GUIDE["shop/main.star"])
    write(pytester, "shop/kurtosis.yml", "name: github.com/me/shop\n")
    serve = 'CMD ["busybox", "httpd", "-f", "-p", "8080"]'
    stages = "FROM enclave-test/busybox:local AS production\nARG VERSION\nRUN echo $VERSION > /version\n"
    write(pytester, "shop/api/Dockerfile", f"{stages}{serve}\nFROM scratch\n")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", on_engine, "shop")
    result.assert_outcomes(passed=1)


def test_the_guides_subnetworks(pytester: pytest.Pytester, on_engine: str):
    write(pytester, "replicas.star", GUIDE["replicas.star"])
    body = "assert [step.name for step in enclave.last_run.instructions].count('exec') == 2"
    write(pytester, "test_replicas.py", f"def test_replicas(enclave):\n    {body}\n")
    arguments = ("-p", "no:cacheprovider", on_engine, "--enclave-package=replicas.star")
    pytester.runpytest_subprocess(*arguments, "test_replicas.py").assert_outcomes(passed=1)


@pytest.mark.parametrize("name", ["test_refusal.py", "test_patience.py"])
def test_the_guides_tests_without_services(pytester: pytest.Pytester, name: str):
    write(pytester, name, GUIDE[name])
    arguments = ("-p", "no:cacheprovider", "--enclave-engine=simulated", name)
    pytester.runpytest_subprocess(*arguments).assert_outcomes(passed=1)


def test_the_guides_unit_tests_in_starlark(pytester: pytest.Pytester):
    for name in ("restaurant/main.star", "restaurant/tables_test.star"):
        write(pytester, name, GUIDE[name])
    write(pytester, "restaurant/kurtosis.yml", "name: github.com/me/restaurant\n")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--enclave-engine=simulated")
    result.assert_outcomes(passed=4)


def test_the_plan_as_json(pytester: pytest.Pytester):
    write(pytester, "plans.py", PLANS["plans.py"])
    assert pytester.runpython("plans.py").ret == 0
