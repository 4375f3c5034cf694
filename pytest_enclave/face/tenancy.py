"""Which session enclaves belong to: this process's own, or that of the xdist controller which it works for."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_enclave.enclave.tenure import Tenure
    from pytest_enclave.face.options import Settings
    from pytest_enclave.face.orphaned import Watch
    from pytest_enclave.ledger.entry import Entry

TENURE = pytest.StashKey["Tenure"]()
WATCH: pytest.StashKey[Watch] = pytest.StashKey()
WORKER_INPUT = "enclave_session"
"""Under this an xdist worker is told the session's id, and the controller's process id."""


def tenure_of(config: pytest.Config, settings: Settings) -> Tenure:
    """The session's tenure, which begins when it is first asked for. Raises EnclaveError if it cannot be recorded."""
    if TENURE not in config.stash:
        from pytest_enclave.enclave.tenure import Keep, Tenure
        from pytest_enclave.face.orphaned import Watch
        from pytest_enclave.ledger.ledger import Ledger
        from pytest_enclave.ledger.session import Session

        ledger = Ledger.of(os.environ)
        told = getattr(config, "workerinput", {}).get(WORKER_INPUT)
        # A worker on another machine cannot share anything with its controller.
        if told is not None and ledger.lives(told["id"]):
            session = Session(told["id"], told["pid"], None)
            config.stash[WATCH] = Watch(lambda: ledger.lives(told["id"]))
        else:
            session = ledger.begin_session()
        keep = Keep(settings.keep)
        config.stash[TENURE] = Tenure(ledger, session, keep, str(config.rootpath), warm=not settings.no_cache)
    return config.stash[TENURE]


def tell_worker(node: Any, settings: Settings) -> None:
    """Tell an xdist worker that is going to start whose session it is in."""
    session = tenure_of(node.config, settings).session
    node.workerinput[WORKER_INPUT] = {"id": session.id, "pid": session.holder}


def is_forked(item: pytest.Item) -> bool:
    """Whether pytest-forked is going to run this test, which may ask for enclaves, in a fork of this process."""
    config = item.config
    if not config.pluginmanager.hasplugin("pytest_forked"):
        return False
    asks = not {"enclave", "enclave_factory"}.isdisjoint(getattr(item, "fixturenames", ()))
    return asks and (config.option.forked or item.get_closest_marker("forked") is not None)


def work_for_parent(config: pytest.Config) -> None:
    """This process is a fork of one that has begun the session, or is in it: what it shares is left to that."""
    from msgspec.structs import replace

    tenure = config.stash.get(TENURE, None)
    if tenure is not None:
        config.stash[TENURE] = replace(tenure, session=replace(tenure.session, lock=None))


def is_left_with_enclaves(config: pytest.Config) -> bool:
    """Whether this process has begun a session whose other processes have made enclaves."""
    tenure = config.stash.get(TENURE, None)
    if tenure is None or not tenure.session.is_main:
        return False
    return any(entry.kept_until is None for entry in tenure.ledger.of_session(tenure.session.id))


def kept_by(config: pytest.Config) -> list[Entry]:
    """What stays of this session, of all its processes, where this is its main one."""
    tenure = config.stash.get(TENURE, None)
    if tenure is None or not tenure.session.is_main:
        return []
    return [each for each in tenure.ledger.of_session(tenure.session.id) if each.kept_until]


def doubts_of(config: pytest.Config) -> list[str]:
    """Why the session's record cannot be relied on, where this is its main process and there is a reason."""
    tenure = config.stash.get(TENURE, None)
    doubt = tenure.ledger.doubt if tenure is not None and tenure.session.is_main else ""
    return [doubt] if doubt else []


def mark_crash(config: pytest.Config) -> None:
    """A worker has crashed: what it may have used is worth a look."""
    from pytest_enclave.enclave.upkeep import FAILED

    tenure = config.stash[TENURE]
    for entry in tenure.ledger.of_session(tenure.session.id):
        with suppress(OSError):
            (tenure.ledger.path(entry.name) / FAILED).touch()


def end(config: pytest.Config) -> None:
    """The session is over."""
    tenure = config.stash.get(TENURE, None)
    if tenure is not None:
        tenure.session.end()
        del config.stash[TENURE]
    if WATCH in config.stash:
        config.stash[WATCH].end()
