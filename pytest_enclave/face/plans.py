"""`--enclave-plan`: print the plan of every package that the selected tests need, and start nothing."""

from __future__ import annotations

import json

import pytest

from pytest_enclave.face.demands import demand_of
from pytest_enclave.face.items import needs_enclave
from pytest_enclave.face.session import EnclaveSession
from pytest_enclave.package.package import Source
from pytest_enclave.run.interpretation import Request


def print_plans(session: pytest.Session, enclaves: EnclaveSession) -> None:
    """Interpret each package once per set of arguments. A package that cannot be interpreted fails the session."""
    from pytest_enclave.errors import EnclaveError
    from pytest_enclave.report.failure import render
    from pytest_enclave.report.plan_text import render_plan

    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    seen: set[str] = set()
    for item in session.items:
        if not needs_enclave(item):
            continue
        try:
            request = demand_of(item, enclaves.settings).request
            if request.key in seen:
                continue
            seen.add(request.key)
            plan = enclaves.tools.interpretations.interpret(request, enclaves.tools.types)
            title, text = _title(request), render_plan(plan)
        except EnclaveError as error:
            session.testsfailed += 1
            title, text = f"no plan for {item.nodeid}", str(render(error))
        if reporter is not None:
            reporter.section(title, sep="-")
            reporter.write_line(text)


def _title(request: Request) -> str:
    package = request.package.name if isinstance(request.package, Source) else request.package
    arguments = f" with {json.dumps(request.arguments)}" if request.arguments else ""
    return f"plan of {package}{arguments}"
