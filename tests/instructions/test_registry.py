"""The registry: every file of the folder that has a type, under its name, and imported when it is asked for."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pytest_enclave import instructions
from pytest_enclave.instructions.add_service import AddService
from pytest_enclave.instructions.add_services import AddServices
from pytest_enclave.instructions.exec import Exec
from pytest_enclave.instructions.get_cluster_type import GetClusterType
from pytest_enclave.instructions.get_files_artifact import GetFilesArtifact
from pytest_enclave.instructions.get_service import GetService
from pytest_enclave.instructions.get_services import GetServices
from pytest_enclave.instructions.print import Print
from pytest_enclave.instructions.protocol import Defaults, InstructionType
from pytest_enclave.instructions.registry import CLASSES, Registry, built_in
from pytest_enclave.instructions.remove_connection import RemoveConnection
from pytest_enclave.instructions.remove_service import RemoveService
from pytest_enclave.instructions.render_templates import RenderTemplates
from pytest_enclave.instructions.request import Request
from pytest_enclave.instructions.run_python import RunPython
from pytest_enclave.instructions.run_sh import RunSh
from pytest_enclave.instructions.set_connection import SetConnection
from pytest_enclave.instructions.set_service import SetService
from pytest_enclave.instructions.start_service import StartService
from pytest_enclave.instructions.stop_service import StopService
from pytest_enclave.instructions.store_service_files import StoreServiceFiles
from pytest_enclave.instructions.update_service import UpdateService
from pytest_enclave.instructions.upload_files import UploadFiles
from pytest_enclave.instructions.verify import Verify
from pytest_enclave.instructions.wait import Wait

# mypy sees here that each is an instruction type; the registry only has their names.
TYPES: tuple[InstructionType, ...] = (
    AddService(),
    AddServices(),
    Exec(),
    GetClusterType(),
    GetFilesArtifact(),
    GetService(),
    GetServices(),
    Print(),
    RemoveConnection(),
    RemoveService(),
    RenderTemplates(),
    Request(),
    RunPython(),
    RunSh(),
    SetConnection(),
    SetService(),
    StartService(),
    StopService(),
    StoreServiceFiles(),
    UpdateService(),
    UploadFiles(),
    Verify(),
    Wait(),
)


def named_types() -> Iterator[type[Defaults]]:
    """All classes of the folder that have a name for scripts."""
    for module in pkgutil.iter_modules(instructions.__path__, f"{instructions.__name__}."):
        for kind in vars(importlib.import_module(module.name)).values():
            if isinstance(kind, type) and issubclass(kind, Defaults) and kind.name and kind.__module__ == module.name:
                yield kind


def test_it_has_every_type_of_the_folder() -> None:
    assert {kind.name: kind.__name__ for kind in named_types()} == CLASSES


def test_each_type_is_found_by_its_own_name() -> None:
    types = Registry()
    assert [types[name].name for name in types] == list(CLASSES)
    assert [type(kind) for kind in built_in()] == [type(kind) for kind in TYPES]


def test_a_type_is_made_once() -> None:
    types = Registry()
    assert types["wait"] is types["wait"]
    assert list(types.values())[-1] is types["wait"]


def test_one_that_is_added_replaces_another_of_its_name_in_its_place() -> None:
    class Louder(Print):
        pass

    class Sing(Print):
        name = "sing"

    types = Registry([Louder(), Sing()])
    assert isinstance(types["print"], Louder)
    assert list(types) == [*CLASSES, "sing"]
    assert len(types) == len(CLASSES) + 1


def test_what_is_unknown_is_a_key_error() -> None:
    types = Registry()
    assert "sing" not in types
    with pytest.raises(KeyError, match="sing"):
        types["sing"]


@pytest.mark.parametrize(
    ("use", "imported"),
    [
        ("len(types), list(types)", []),
        ("types['print']", ["print"]),
        ("types['print'], types['wait']", ["print", "wait"]),
        ("types.values()", []),
        ("list(types.values())", list(CLASSES)),
    ],
)
def test_a_file_is_imported_when_its_type_is_first_asked_for(use: str, imported: list[str]) -> None:
    script = (
        "import sys\nfrom pytest_enclave.instructions.registry import CLASSES, Registry\n"
        f"types = Registry()\n{use}\n"
        "print(*[name for name in CLASSES if f'pytest_enclave.instructions.{name}' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    # `wait` itself builds on others.
    assert set(imported) <= set(done.stdout.split())
    assert done.stdout.split() == imported or "wait" in imported
