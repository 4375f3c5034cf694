"""The marker `enclave_faults`: a test runs once without a fault, and once with each; and what reports say of faults."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pytest_enclave.face.session import OWN

if TYPE_CHECKING:
    from pytest_enclave.enclave.enclave import Enclave
    from pytest_enclave.enclave.faults import LiveFault
    from pytest_enclave.face.options import Settings

NAME = "enclave_faults"
MARKER = (
    f"{NAME}(*faults): run the test once without a fault, and once with each of these in effect from the end of its "
    "setup until the end of its body. `kill:db`, `stop:db`, `pause:db`; `partition:api,worker|db`, `block:api|db`, "
    "`delay:api|db:200ms` (`:200ms+-20ms`), `loss:api|db:30%`, each with `>` in place of `|` for one direction only."
)
FIXTURE = "enclave_fault"
"""The fixture that is parametrized; a test may ask for it."""

NO_FAULT = "no-fault"


def has_faults(node: pytest.Item) -> bool:
    """Whether the marker is on the test; cheap, for it is asked of every test."""
    return node.get_closest_marker(NAME) is not None


def generate(metafunc: pytest.Metafunc) -> None:
    """Have a marked test run once without a fault, and once with each. Fails the collection where texts are wrong."""
    definition: Any = metafunc.definition
    markers = list(reversed(list(definition.iter_markers(NAME))))
    if not markers:
        return
    wrong = [line for marker in markers for line in _wrong(marker)]
    if not wrong and "enclave" not in metafunc.fixturenames:
        if not _is_on_itself(definition):
            return
        wrong = ["    the test does not ask for an enclave", f"    help: write def {definition.name}(enclave)"]
    if wrong:
        path, line, _ = definition.location
        place = f"{path}:{(line or 0) + 1}: @pytest.mark.{NAME} on {definition.name}"
        pytest.fail("\n".join([place, *wrong]), pytrace=False)
    texts = dict.fromkeys(text for marker in markers for text in marker.args)
    if FIXTURE not in metafunc.fixturenames:
        metafunc.fixturenames.append(FIXTURE)
    metafunc.parametrize(FIXTURE, ["", *texts], ids=[NO_FAULT, *texts], indirect=True)


def _is_on_itself(item: pytest.Item) -> bool:
    """Whether a marker is on the test, and not only on a class or module, with all kinds of tests in it."""
    return any(isinstance(node, pytest.Function) for node, _ in item.iter_markers_with_node(NAME))


def _is_meant(item: pytest.Item) -> bool:
    """Whether a marker is on the test, or on the unittest.TestCase that it is a method of."""
    import unittest

    cases = [
        node
        for node, _ in item.iter_markers_with_node(NAME)
        if isinstance(node, pytest.Class) and issubclass(node.obj, unittest.TestCase)
    ]
    return bool(cases) or _is_on_itself(item)


def _wrong(marker: pytest.Mark) -> Iterator[str]:
    from pytest_enclave.enclave.fault_texts import WrongFault, parse

    if marker.kwargs:
        yield f"    it takes no argument {next(iter(marker.kwargs))!r}"
        yield '    help: it takes texts, as "kill:db"'
    if not marker.args and not marker.kwargs:
        yield "    it names no fault"
        yield '    help: it takes texts, as "kill:db"'
    for text in marker.args:
        if not isinstance(text, str):
            yield f"    {text!r} is not a text"
            yield '    help: it takes texts, as "kill:db"'
            continue
        try:
            parse(text)
        except WrongFault as error:
            yield from error.lines()


def check_all(items: Iterable[pytest.Item]) -> None:
    """Raise pytest.UsageError for tests on which the marker has no effect, as methods of unittest.TestCase."""
    marked = [item for item in items if has_faults(item) and FIXTURE not in _parameters(item)]
    deaf = [item.nodeid for item in marked if _is_meant(item) or "enclave" in getattr(item, "fixturenames", ())]
    if deaf:
        more = f" and {len(deaf) - 1} more" if len(deaf) > 1 else ""
        raise pytest.UsageError(f"{deaf[0]}{more}: {NAME} is for test functions, which pytest can run several times")


def _parameters(item: pytest.Item) -> dict[str, Any]:
    callspec = getattr(item, "callspec", None)
    return callspec.params if callspec is not None else {}


def fault_of(item: pytest.Item) -> str:
    """The fault that this run of a marked test is with; "" for none."""
    text: str = _parameters(item).get(FIXTURE, "")
    return text


@contextmanager
def in_effect(item: pytest.Item) -> Iterator[None]:
    """The fault that this run of a marked test is with. Raises EnclaveError where the enclave cannot have it."""
    __tracebackhide__ = True
    text = fault_of(item)
    enclave = item.stash.get(OWN, None)
    if not text or enclave is None:
        yield
        return
    from pytest_enclave.enclave.fault_texts import parse
    from pytest_enclave.errors import ExecutionError
    from pytest_enclave.source import Location

    try:
        fault = enclave.broken(parse(text))
    except ExecutionError as error:
        path, line, _ = item.location
        error.message = f'{NAME}("{text}"): {error.message}'
        error.location = Location(path, (line or 0) + 1)
        error.remedy = "name services of the test's package, which run when the test begins"
        raise
    with fault:
        yield


def sections(enclave: Enclave, settings: Settings) -> list[tuple[str, str]]:
    """What a failing test's report says of faults, and of the seed where there is anything that follows from it."""
    faults = enclave.faults
    if not faults and not enclave.has_connections:
        return []
    lines = [f"{fault.fault}  {_how_long(fault)}" for fault in faults]
    lines.append(f"seed {settings.seed}: repeat with --enclave-seed={settings.seed}")
    return [(f"enclave {enclave.name} · {'faults' if faults else 'connections'}", "\n".join(lines) + "\n")]


def _how_long(fault: LiveFault) -> str:
    if fault.ended is None or fault.failed:
        return "in effect when the test failed"
    return f"in effect for {fault.ended - fault.began:.2f} s, and healed"
