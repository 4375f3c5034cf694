"""The plugin: which hook of pytest leads where. Nothing heavy is imported until a test needs an enclave."""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_enclave.face.demands import MARKER, check_all_markers, nearest_package
from pytest_enclave.face.faults import MARKER as FAULTS_MARKER
from pytest_enclave.face.faults import check_all, generate, has_faults, in_effect
from pytest_enclave.face.fixtures import enclave, enclave_factory, enclave_fault
from pytest_enclave.face.imports import import_as_python_does
from pytest_enclave.face.options import SEED, add_options, commands_of, for_pytest
from pytest_enclave.face.session import SESSION, EnclaveSession

if TYPE_CHECKING:
    from pytest_enclave.face.items import PackageFile
    from pytest_enclave.face.star_tests import StarTestFile

__all__ = ["enclave", "enclave_factory", "enclave_fault"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    import_as_python_does()
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks that others may implement."""
    from pytest_enclave import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, check the options."""
    config.addinivalue_line("markers", MARKER)
    config.addinivalue_line("markers", FAULTS_MARKER)
    config.stash[SESSION] = EnclaveSession(config)
    if config.stash[SESSION].settings.plan and config.pluginmanager.hasplugin("xdist"):
        # Workers could not print plans, and there is nothing to distribute.
        config.option.dist = "no"


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(args: list[str]) -> None:
    """What is meant for a service is not for pytest, which would take it for files, or not understand it."""
    args[:] = for_pytest(args)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Options that look at enclaves, or remove them, take the place of a session."""
    commands = commands_of(config)
    if not commands or config.option.help or config.option.version:
        return None
    from pytest_enclave.face.commands.dispatch import execute

    return execute(config, commands)


def pytest_report_header(config: pytest.Config) -> list[str] | None:
    """One line or more: which engine, where, and why that one; only where packages are in sight."""
    session = config.stash[SESSION]
    named = session.settings.package or any(
        nearest_package((config.invocation_params.dir / argument.split("::")[0]).resolve(), config.rootpath)
        for argument in config.args
    )
    return session.introduce() if named else None


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str] | None:
    """The same lines, where only the tests tell that enclaves are needed: by a marker, or far below."""
    from pytest_enclave.face.items import needs_enclave

    return config.stash[SESSION].introduce() if any(map(needs_enclave, items)) else None


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> PackageFile | StarTestFile | None:
    """A package named on the command line is an item, and so is each unit test in Starlark."""
    if file_path.suffix not in (".yml", ".star"):
        return None
    from pytest_enclave.face.items import collect

    return collect(file_path, parent)


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test runs once with each fault that its markers name."""
    generate(metafunc)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Wrong markers end the session before anything runs; in an xdist worker, which cannot, they fail their tests."""
    if hasattr(config, "workerinput"):
        return
    check_all_markers(items)
    check_all(items)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """An xdist worker tells its controller which tests are of one group, before that has all the tests."""
    path = getattr(session.config, "workerinput", {}).get("enclave_groups")
    if path is not None:
        from pytest_enclave.face.distribution import tell_groups

        tell_groups(session.items, session.config.stash[SESSION].settings, Path(path))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """With `--enclave-plan` plans are printed, and no test runs."""
    enclaves = session.config.stash[SESSION]
    if not enclaves.settings.plan or session.config.option.collectonly:
        return None
    from pytest_enclave.face.plans import print_plans

    print_plans(session, enclaves)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Know which test is running, and since when."""
    session = item.config.stash[SESSION]
    session.begin(item)
    try:
        return (yield)
    finally:
        session.end()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test may run in a fork of this process, as with pytest-forked."""
    item.config.stash[SESSION].begin_in_fork()


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """The fault that this run of a test is with is in effect while its body runs."""
    if not has_faults(item):
        return (yield)
    with in_effect(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """The test's faults end with it. A fork ends without a session's end."""
    try:
        return (yield)
    finally:
        item.config.stash[SESSION].heal()
        item.config.stash[SESSION].end_in_fork()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What runs told belongs to the report; our errors explain themselves; a failing test shows its services' logs."""
    told = item.config.stash[SESSION].telling.collect()
    if told:
        item.add_report_section(call.when, "enclave", told)
    report = yield
    if call.excinfo is not None and "pytest_enclave.errors" in sys.modules:
        from pytest_enclave.face.failures import explain

        explain(item, call, report)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A failure that comes from an xdist worker is shown like one of this process."""
    if report.failed:
        from pytest_enclave.face.failures import restore

        restore(report)


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    """Remove every enclave, whatever ended the session."""
    try:
        return (yield)
    finally:
        session.config.stash[SESSION].finish(session)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """An xdist worker does not know by itself what was named on the command line, nor where to tell of its tests."""
    from pytest_enclave.face.distribution import groups_path
    from pytest_enclave.face.items import named
    from pytest_enclave.face.tenancy import tell_worker

    node.workerinput["enclave_named"] = named(node.config)
    tell_worker(node, node.config.stash[SESSION].settings)
    node.workerinput[SEED] = node.config.stash[SESSION].settings.seed
    node.workerinput["enclave_groups"] = groups_path(node.config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object | None:
    """How xdist distributes the tests, unless the user has said how."""
    from pytest_enclave.face.distribution import groups_path

    path = groups_path(config)
    if path is None:
        return None
    from pytest_enclave.face.scheduling import EnclaveScheduling

    return EnclaveScheduling(config, log, Path(path))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """What an xdist worker has to say at its end is said here, at the end of all. One that crashed has failed."""
    if error is not None:
        from pytest_enclave.face.tenancy import mark_crash

        mark_crash(node.config)
    session, output = node.config.stash[SESSION], getattr(node, "workeroutput", {})
    session.workers |= output.get("enclave", {})
    if "enclave_explained" in output:
        session.explained.add(output["enclave_explained"])


def pytest_enter_pdb(config: pytest.Config) -> None:
    """A debugger's prompt is left in another way."""
    config.stash[SESSION].signals.debugging = True


def pytest_leave_pdb(config: pytest.Config) -> None:
    """Back to normal."""
    config.stash[SESSION].signals.debugging = False


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last chance: a session that ended before it finished."""
    session = config.stash.get(SESSION, None)
    if session is not None:
        session.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One line on what was executed and what reused; a section on what could not be removed."""
    session = config.stash[SESSION]
    if session.runs or session.leaks or session.complaints or session.workers or session.kept or session.notes:
        from pytest_enclave.face.summary import summarise

        summarise(terminalreporter, session)
