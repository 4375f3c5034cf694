"""The fixtures: `enclave` for a test's own demand, `enclave_factory` for any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_enclave.enclave.paths import anchored, located
from pytest_enclave.face.demands import wrong_argument
from pytest_enclave.face.session import SESSION, EnclaveSession

if TYPE_CHECKING:
    from pytest_enclave.enclave.enclave import Enclave
    from pytest_enclave.engine.simulated.script import Script
    from pytest_enclave.run.interpretation import PackageLike

EnclaveFactory = Callable[..., "Enclave"]


@pytest.fixture
def enclave(request: pytest.FixtureRequest) -> Enclave:
    """The environment the test's package describes: its services run, and are shared with whoever asks for the same.

    Which package: `@pytest.mark.enclave("path", args={…}, share="name", isolate=True)`, `--enclave-package`, the ini
    option `enclave_package`, or the nearest `kurtosis.yml` above the test's file. With `isolate="module"` or "class" it
    is shared by the tests of that module or class only, and goes with them. With `isolate="fork"` it is a copy of what
    is shared otherwise, for this test alone.
    """
    __tracebackhide__ = True
    session = request.config.stash[SESSION]
    return session.obtain(session.demands.of(request.node), own=True)


@pytest.fixture
def enclave_fault(request: pytest.FixtureRequest) -> str:
    """Which fault of the marker `enclave_faults` this run of the test is with; "" for the run without one."""
    return getattr(request, "param", "")


@pytest.fixture(scope="session")
def enclave_factory(request: pytest.FixtureRequest) -> EnclaveFactory:
    """Make enclaves by hand: `enclave_factory(package, args=None, *, main="run", share=None, isolate=False)`.

    `package` is a path, or `Source("…")` with the text of a package; `args` a dict, JSON or YAML text, or `@FILE`. Both
    paths are relative to the file of the test that is running, wherever the fixture is that calls this. Enclaves are
    shared as with the marker, and live until the session ends. `simulate=Script()…` runs the package on a simulated
    engine of its own, with scripted services and virtual time. Raises the EnclaveError that ended the run; TypeError
    and ValueError for arguments that the marker would not take either.
    """
    return _factory(request.config.stash[SESSION])


def _factory(session: EnclaveSession) -> EnclaveFactory:
    def make(
        package: PackageLike,
        args: Mapping[str, Any] | str | None = None,
        *,
        main: str = "run",
        share: str | None = None,
        isolate: Literal[False, True, "fork"] = False,
        simulate: Script | None = None,
    ) -> Enclave:
        __tracebackhide__ = True
        from pytest_enclave.enclave.demand import Demand
        from pytest_enclave.run.interpretation import Request

        _check(package, args, main, share, isolate, simulate)
        here = session.item.path.parent if session.item is not None else session.config.invocation_params.dir
        demand = Demand(Request.of(located(package, here), anchored(args, here), main), share, isolate, here)
        return session.obtain(demand, simulate)

    return make


def _check(package: object, args: object, main: object, share: object, isolate: object, simulate: object) -> None:
    """Raise TypeError or ValueError for arguments that do not do."""
    __tracebackhide__ = True
    optional = {name: value for name, value in {"args": args, "share": share}.items() if value is not None}
    wrong = wrong_argument({"package": package, "main": main, "isolate": isolate, **optional})
    if wrong:
        empty = "" in (package, main, share, isolate)
        raise (ValueError if empty else TypeError)(f"enclave_factory{wrong}")
    if share is not None and isolate is True:
        raise ValueError(
            f"enclave_factory(share={share!r}, isolate=True): an enclave cannot be both shared and isolated"
        )
    if simulate is not None:
        from pytest_enclave import Script

        if not isinstance(simulate, Script):
            raise TypeError(f"enclave_factory(simulate={simulate!r}): simulate must be a Script")
