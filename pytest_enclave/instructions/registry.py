"""All instruction types by name: those of this folder, and those that plugins add.

A type's file is imported when the type is first asked for: a plan that has not changed needs few of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_enclave.instructions.protocol import InstructionType

CLASSES: Mapping[str, str] = {
    "add_service": "AddService",
    "add_services": "AddServices",
    "exec": "Exec",
    "get_cluster_type": "GetClusterType",
    "get_files_artifact": "GetFilesArtifact",
    "get_service": "GetService",
    "get_services": "GetServices",
    "print": "Print",
    "remove_connection": "RemoveConnection",
    "remove_service": "RemoveService",
    "render_templates": "RenderTemplates",
    "request": "Request",
    "run_python": "RunPython",
    "run_sh": "RunSh",
    "set_connection": "SetConnection",
    "set_service": "SetService",
    "start_service": "StartService",
    "stop_service": "StopService",
    "store_service_files": "StoreServiceFiles",
    "update_service": "UpdateService",
    "upload_files": "UploadFiles",
    "verify": "Verify",
    "wait": "Wait",
}
"""The built-in types' classes; each stands in the file of this folder that has the type's name."""


class Registry(Mapping[str, "InstructionType"]):
    """Instruction types by canonical name; one added later replaces an earlier one of the same name.

    `is_extended` tells whether any were added.
    """

    def __init__(self, added: Iterable[InstructionType] = ()) -> None:
        more = {kind.name: kind for kind in added}
        self.is_extended = bool(more)
        self._types: dict[str, InstructionType | None] = {**dict.fromkeys(CLASSES), **more}

    def __getitem__(self, name: str) -> InstructionType:
        kind = self._types[name]
        if kind is None:
            kind = self._types[name] = _built_in(name)
        return kind

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)


def built_in() -> tuple[InstructionType, ...]:
    """All types of this folder."""
    return tuple(Registry().values())


def _built_in(name: str) -> InstructionType:
    kind: InstructionType = getattr(import_module(f"pytest_enclave.instructions.{name}"), CLASSES[name])()
    return kind
