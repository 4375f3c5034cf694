"""The market interprets, runs, and is reused: on the simulated engine, and with real services."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from pytest_enclave import cache
from pytest_enclave.engine.protocol import ExecResult
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.instructions.registry import built_in
from pytest_enclave.language.interpret import interpret
from pytest_enclave.package.git.repositories import Repositories
from pytest_enclave.package.load import load
from pytest_enclave.plan.instruction import Plan
from pytest_enclave.plan.values import Value
from pytest_enclave.run.interpretation import Interpretations
from tests.laboratory import Laboratory
from tests.package.hub import Hub
from tests.packages_of_many.packages import market, publish

SERVICES = ["catalog", "database", "front", "mail", "orders-books", "orders-tea"]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    hub = Hub(tmp_path_factory.mktemp("github") / "hub")
    publish(hub)
    return hub


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return market(tmp_path)


def plan_of(package: Path, hub: Hub, **arguments: Value) -> Plan:
    return interpret(load(package), built_in(), arguments, others=Repositories.of(hub.environ)).plan


def test_it_is_one_plan_of_many_files(package: Path, hub: Hub) -> None:
    plan = plan_of(package, hub)
    repositories = {"/".join(name.split("/")[:3]) for name in plan.sources if name.startswith("github.com/")}
    assert len(plan.sources) >= 30
    assert repositories == {
        "github.com/bricks/database",
        "github.com/bricks/mail",
        "github.com/bricks/observability",
        "github.com/bricks/web",
        "github.com/tools/names",
        "github.com/tools/units",
    }
    assert {name for name in plan.sources if "@" in name} == {
        *(
            f"github.com/bricks/database/{name}.star@v1"
            for name in ("main", "src/config", "src/readiness", "src/users")
        ),
        *(f"github.com/tools/names/{name}.star@v2" for name in ("names", "words")),
        *(f"github.com/tools/units/{name}.star@v1.0.0" for name in ("suffixes", "units")),
    }
    services = [call for call in plan.instructions if call.name == "add_service"]
    assert {str(call.location) for call in services} == {
        "github.com/bricks/database/main.star@v1:25:31",
        "github.com/bricks/mail/main.star:5:28",
        "github.com/bricks/observability/collector/main.star:9:21",
        "src/services/catalog/catalog.star:9:31",
        "src/services/front.star:15:28",
    }


def test_without_a_network_it_is_the_same_plan(package: Path, hub: Hub, tmp_path: Path) -> None:
    before = plan_of(package, hub)
    away = tmp_path / "away"
    hub.environ |= {"GIT_CONFIG_GLOBAL": str(away)}
    away.write_text(f'[url "file://{away}/nothing/"]\n\tinsteadOf = https://github.com/\n')
    try:
        after = plan_of(package, hub)
    finally:
        hub.environ["GIT_CONFIG_GLOBAL"] = str(hub.root / "gitconfig")
    assert after.instructions == before.instructions
    assert len({warning.message for warning in after.warnings}) == len(after.warnings) >= 3


def answers(shops: list[str]) -> Script:
    """What the market's commands give where services are simulated."""
    catalog = json.dumps({"items": [{"name": "kettle"}, {"name": "cup"}]})
    script = Script().on_exec("catalog", ["cat", ...], ExecResult(0, catalog))
    script = script.on_exec("mail", ["cat", ...], ExecResult(0, "ready\n"))
    script = script.on_exec("collector", ["sh", ...], ExecResult(0, "6\n"))
    for number, shop in enumerate(shops):
        told = {"database": "db1://keeper@{}", "number": number, "items": ["a", "b"][: number + 1]}
        script = script.on_exec(f"orders-{shop}", ["cat", ...], ExecResult(0, json.dumps(told)))
    return script


def test_it_runs_and_is_reused(laboratory: Callable[..., Laboratory], package: Path, hub: Hub) -> None:
    lab = laboratory(answers(["tea", "books"]))
    lab.tools = replace(lab.tools, interpretations=Interpretations(others=Repositories.of(hub.environ)))
    arguments = {"checks": [], "image": "busybox"}
    first = lab.ok(package, arguments)
    assert first.output["services"] == SERVICES
    assert set(lab.outcomes(package, arguments)) == {"skipped"}
    (package / "static_files" / "catalog.json").write_text('{"items": [{"name": "kettle"}, {"name": "bowl"}]}')
    outcomes = lab.outcomes(package, arguments)
    assert 0 < len(outcomes) - outcomes.count("skipped") < len(outcomes) / 2


TESTS = """
import pytest

pytestmark = pytest.mark.enclave("{package}", share="market")


def test_it_runs(enclave):
    assert enclave.output["services"] == {services}
    assert enclave.output["catalog"] == enclave.services["catalog"].ip_address
    assert enclave.output["dashboards"]["lines"] == 6
    front = enclave.services["front"].exec(["cat", "/web/front.conf"]).output
    assert "# 5 backends" in front and 'log "quiet"' in front and "Content-Length-Limit: 8388608" in front
    assert enclave.services["database"].ip_address in front
    schema = enclave.services["database"].exec(["cat", "/schema/schema.sql"]).output
    assert "CREATE TABLE books (id text, name text); -- keeper" in schema


def test_it_is_reused(enclave):
    assert enclave.run().executed == 0
    with open("{package}/static_files/catalog.json", "w") as file:
        file.write('{{"items": [{{"name": "kettle"}}, {{"name": "bowl"}}]}}')
    again = enclave.run()
    assert 0 < again.executed < len(again.instructions) / 2
    assert "bowl" in enclave.services["catalog"].exec(["cat", "/market/catalog.json"]).output
"""


def test_it_runs_with_real_services(package: Path, hub: Hub, on_engine: str) -> None:
    images = cache.directory(hub.environ, "images")
    images.parent.mkdir(parents=True, exist_ok=True)
    if not images.exists():
        images.symlink_to(cache.directory(os.environ, "images"))
    test = package.parent / "test_real.py"
    test.write_text(TESTS.format(package=package, services=SERVICES))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", on_engine, "--enclave-pull=never", str(test)]
    done = subprocess.run(
        command, cwd=package.parent, env=hub.environ, text=True, stdout=subprocess.PIPE, timeout=110, check=False
    )
    assert done.returncode == pytest.ExitCode.OK, done.stdout
