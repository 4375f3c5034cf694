"""Plans as JSON: the documented form, without secrets unless they are wanted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_enclave import Source, interpret
from pytest_enclave.plan.futures import Future
from pytest_enclave.plan.instruction import Instruction, Plan, SourceFile
from pytest_enclave.plan.values import Struct, Value
from pytest_enclave.source import Location
from tests.report.samples import REQUEST, call

HERE = Location("src/db.star", 9, 5)
CODE = str(Future(REQUEST, "code"))

SHOP = """
def run(plan, replicas = 2):
    db = plan.add_service(
        name = "db",
        config = ServiceConfig(
            image = "postgres:16",
            ports = {"sql": PortSpec(number = 5432)},
            env_vars = {"POSTGRES_PASSWORD": "correct horse", "POSTGRES_USER": "shop"},
            cpu_allocation = 100,
        ),
        description = "the shop's data",
    )
    seen = plan.exec(service_name = "db", recipe = ExecRecipe(command = ["psql", "correct horse", db.ip_address]))
    plan.verify(value = seen["code"], assertion = "==", target_value = 0)
    return struct(password = "correct horse", code = seen["code"], url = "postgres://" + db.ip_address)
"""


def read(plan: Plan, **options: bool) -> Any:
    return json.loads(plan.to_json(**options))


def written(value: Value) -> Any:
    """How one value is written."""
    return read(Plan(output=value))["output"]


def test_a_plan_is_written_as_documented() -> None:
    plan = interpret(Source(SHOP, "shop.star"))
    data = read(plan)
    assert list(data) == ["version", "instructions", "output", "warnings"]
    assert data["version"] == 1
    add, execute, verify = data["instructions"]
    assert add == {
        "name": "add_service",
        "position": "shop.star:3:26",
        "description": "the shop's data",
        "arguments": {
            "name": "db",
            "config": {
                "type": "ServiceConfig",
                "fields": {
                    "image": "postgres:16",
                    "ports": {"sql": {"type": "PortSpec", "fields": {"number": 5432}}},
                    "env_vars": {"POSTGRES_PASSWORD": "••••", "POSTGRES_USER": "shop"},
                    "cpu_allocation": 100,
                },
            },
        },
        "files": {},
        "producer": plan.instructions[0].producer,
    }
    assert execute["description"] is None
    assert verify["arguments"]["value"] == {"future": {"producer": execute["producer"], "field": "code"}}
    assert data["warnings"] == [
        {
            "message": "`cpu_allocation` of ServiceConfig is deprecated",
            "position": "shop.star:5:31",
            "remedy": "use `max_cpu`",
        }
    ]


def test_secrets_are_masked_wherever_they_are_unless_they_are_wanted() -> None:
    plan = interpret(Source(SHOP, "shop.star"))
    assert "correct horse" not in plan.to_json()
    assert read(plan)["instructions"][1]["arguments"]["recipe"]["fields"]["command"][1] == "••••"
    assert read(plan)["output"]["fields"]["password"] == "••••"
    told = read(plan, secrets=True)
    assert told["instructions"][0]["arguments"]["config"]["fields"]["env_vars"]["POSTGRES_PASSWORD"] == "correct horse"
    assert told["output"]["fields"]["password"] == "correct horse"


def test_a_token_in_a_url_is_masked() -> None:
    script = 'def run(plan):\n    return plan.upload_files("https://ghp_0123456789@host.example/x.tar", name = "x")\n'
    plan = interpret(Source(script))
    assert "ghp_0123456789" not in plan.to_json()
    assert read(plan)["instructions"][0]["arguments"]["src"] == "https://••••@host.example/x.tar"
    assert read(plan, secrets=True)["instructions"][0]["arguments"]["src"].startswith("https://ghp_0123456789@")


def test_the_same_package_gives_the_same_text() -> None:
    first, second = (interpret(Source(SHOP, "shop.star"), {"replicas": 1}).to_json() for _ in range(2))
    assert first == second


def test_files_of_the_package_are_told_by_their_digests() -> None:
    source = SourceFile(Path("/somewhere/conf"), "12ab")
    upload = Instruction("upload_files", {"src": "./conf"}, HERE, "upload_files()", "0" * 32, {"src": source})
    data = read(Plan((upload,)))["instructions"][0]
    assert data["files"] == {"src": "12ab"}
    assert "/somewhere" not in json.dumps(data)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (2**70, 2**70),
        (1.5, 1.5),
        (float("inf"), {"float": "inf"}),
        (float("nan"), {"float": "nan"}),
        ("tëxt\n", "tëxt\n"),
        ([1, (2, 3)], [1, [2, 3]]),
        ({"a": {"b": 1}}, {"a": {"b": 1}}),
        ({1: "one", "2": "two"}, {"dict": [[1, "one"], ["2", "two"]]}),
        ({"type": "x"}, {"dict": [["type", "x"]]}),
        ({"future": "x"}, {"dict": [["future", "x"]]}),
        (Struct("struct", {"type": 1}), {"type": "struct", "fields": {"type": 1}}),
        (Struct("PortSpec", {"number": 80, ".added": "x"}), {"type": "PortSpec", "fields": {"number": 80}}),
        (CODE, {"future": {"producer": REQUEST, "field": "code"}}),
        (f"code {CODE}", f"code {CODE}"),
    ],
)
def test_each_kind_of_value_has_its_form(value: Value, expected: Any) -> None:
    assert written(value) == expected


def test_keys_that_are_secret_are_masked_too() -> None:
    config = Struct("ServiceConfig", {"env_vars": {"API_KEY": "0123456789"}})
    plan = Plan((call("add_service", HERE, name="a", config=config),), output={"0123456789": 1})
    assert read(plan)["output"] == {"••••": 1}


def test_a_plan_without_anything_is_one_too() -> None:
    assert read(Plan()) == {"version": 1, "instructions": [], "output": None, "warnings": []}


def test_the_files_of_an_image_to_be_built_are_told_by_a_digest(tmp_path: Path) -> None:
    context = tmp_path / "api"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM a\n")
    (tmp_path / "kurtosis.yml").write_text("name: github.com/me/shop\n")
    (tmp_path / "main.star").write_text(
        'def run(plan):\n    plan.add_service("s", ServiceConfig(ImageBuildSpec("shop/api", "./api")))\n'
    )

    def image() -> Any:
        return read(interpret(tmp_path))["instructions"][0]["arguments"]["config"]["fields"]["image"]

    before = image()
    assert before["fields"] == {"image_name": "shop/api", "build_context_dir": "./api"}
    assert list(before) == ["type", "fields", "files"]
    assert list(before["files"]) == ["build_context_dir"]
    assert image() == before
    (context / "app").write_text("1")
    assert image()["files"] != before["files"]
    assert str(tmp_path) not in json.dumps(before)


def test_a_struct_of_a_package_can_have_a_field_called_as_an_added_one() -> None:
    assert written(Struct("struct", {".context": "x"})) == {"type": "struct", "fields": {".context": "x"}}
