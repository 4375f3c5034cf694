"""Typed values with all of their fields, as unit tests read and compare them."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_enclave.plan.config_types import CONFIG_TYPES
from pytest_enclave.plan.values import Struct, Value, written

_EMPTY: Mapping[str, Value] = {
    **{name: {} for name in ("ports", "public_ports", "files", "env_vars", "labels")},
    **{name: {} for name in ("node_selectors", "files_to_be_moved")},
    **{name: [] for name in ("entrypoint", "cmd", "tolerations")},
    **dict.fromkeys(("cpu_allocation", "memory_allocation", "max_cpu", "min_cpu", "max_memory", "min_memory"), 0),
    **dict.fromkeys(("tini_enabled", "tty_enabled"), False),
}


def complete(value: Value) -> Value:
    """The value with every field of every typed value in it: what was not given is empty, or its default."""
    if isinstance(value, Struct):
        given = {name: complete(item) for name, item in written(value).items()}
        declared = CONFIG_TYPES.get(value.kind)
        if declared is None:
            return Struct(value.kind, given)
        fields = {field.name: field.default for field in declared.fields if field.name != "description"}
        return Struct(value.kind, (_service if value.kind == "ServiceConfig" else dict)({**fields, **given}))
    if isinstance(value, dict):
        return {key: complete(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(complete, value))
    return value


def _service(fields: dict[str, Value]) -> dict[str, Value]:
    """A service's fields as the tool `kurtosis-test` gives them: nothing is None that could be empty."""
    for older, newer in (("cpu_allocation", "max_cpu"), ("memory_allocation", "max_memory")):
        fields[newer] = fields[older] = fields[newer] if fields[newer] is not None else fields[older]
    for name, empty in _EMPTY.items():
        if name in fields and fields[name] is None:
            fields[name] = empty
    fields["files"] = {path: _directory(mounted) for path, mounted in fields["files"].items()}
    return fields


def _directory(mounted: Value) -> Value:
    return complete(Struct("Directory", {"artifact_names": [mounted]})) if isinstance(mounted, str) else mounted
