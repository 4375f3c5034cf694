"""All instruction types by name: those of this folder, and those that plugins add."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pytest_enclave.instructions.add_service import AddService
from pytest_enclave.instructions.add_services import AddServices
from pytest_enclave.instructions.exec import Exec
from pytest_enclave.instructions.get_cluster_type import GetClusterType
from pytest_enclave.instructions.get_files_artifact import GetFilesArtifact
from pytest_enclave.instructions.get_service import GetService
from pytest_enclave.instructions.get_services import GetServices
from pytest_enclave.instructions.print import Print
from pytest_enclave.instructions.protocol import InstructionType
from pytest_enclave.instructions.remove_service import RemoveService
from pytest_enclave.instructions.render_templates import RenderTemplates
from pytest_enclave.instructions.request import Request
from pytest_enclave.instructions.run_python import RunPython
from pytest_enclave.instructions.run_sh import RunSh
from pytest_enclave.instructions.set_service import SetService
from pytest_enclave.instructions.start_service import StartService
from pytest_enclave.instructions.stop_service import StopService
from pytest_enclave.instructions.store_service_files import StoreServiceFiles
from pytest_enclave.instructions.upload_files import UploadFiles
from pytest_enclave.instructions.verify import Verify
from pytest_enclave.instructions.wait import Wait

BUILT_IN: tuple[InstructionType, ...] = (
    AddService(),
    AddServices(),
    Exec(),
    GetClusterType(),
    GetFilesArtifact(),
    GetService(),
    GetServices(),
    Print(),
    RemoveService(),
    RenderTemplates(),
    Request(),
    RunPython(),
    RunSh(),
    SetService(),
    StartService(),
    StopService(),
    StoreServiceFiles(),
    UploadFiles(),
    Verify(),
    Wait(),
)


class Registry(Mapping[str, InstructionType]):
    """Instruction types by canonical name; one added later replaces an earlier one of the same name."""

    def __init__(self, added: Iterable[InstructionType] = ()) -> None:
        self._types = {kind.name: kind for kind in (*BUILT_IN, *added)}

    def __getitem__(self, name: str) -> InstructionType:
        return self._types[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)
