"""The fixtures: `enclave` for a test's own demand, `enclave_factory` for any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pytest_enclave.face.demands import demand_of, located
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
    option `enclave_package`, or the nearest `kurtosis.yml` above the test's file.
    """
    __tracebackhide__ = True
    session = request.config.stash[SESSION]
    return session.obtain(demand_of(request.node, session.settings), own=True)


@pytest.fixture(scope="session")
def enclave_factory(request: pytest.FixtureRequest) -> EnclaveFactory:
    """Make enclaves by hand: `enclave_factory(package, args=None, *, main="run", share=None, isolate=False)`.

    `package` is a path (relative to the running test's file), or `Source("…")` with the text of a package. Enclaves are
    shared as with the marker, and live until the session ends. `simulate=Script()…` runs the package on a simulated
    engine with scripted services and virtual time.
    """
    return _factory(request.config.stash[SESSION])


def _factory(session: EnclaveSession) -> EnclaveFactory:
    def make(
        package: PackageLike,
        args: Mapping[str, Any] | str | None = None,
        *,
        main: str = "run",
        share: str | None = None,
        isolate: bool = False,
        simulate: Script | None = None,
    ) -> Enclave:
        __tracebackhide__ = True
        from pytest_enclave.enclave.sharing import Demand
        from pytest_enclave.run.interpretation import Request

        here = session.item.path.parent if session.item is not None else session.config.invocation_params.dir
        demand = Demand(Request.of(located(package, here), args, main), share, isolate)
        return session.obtain(demand, simulate)

    return make
