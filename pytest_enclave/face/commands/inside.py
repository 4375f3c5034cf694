"""`--enclave-logs`, `--enclave-exec`, `--enclave-shell`: what a service has written, and commands in it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from signal import Signals
from typing import TypeVar

from pytest_enclave.engine.protocol import Conversation, LogLine, NotReached, Site, Terminal
from pytest_enclave.errors import EnclaveError, ServiceError
from pytest_enclave.face.commands.engines import Engines
from pytest_enclave.face.commands.known import Known
from pytest_enclave.face.commands.looking import looking_into
from pytest_enclave.face.commands.naming import find_service
from pytest_enclave.face.commands.streams import tell
from pytest_enclave.ledger.ledger import Ledger
from pytest_enclave.report.masking import Secrets
from pytest_enclave.report.text import printable

SHELLS = ("bash", "sh")
STDIN, STDOUT = 0, 1

Talk = TypeVar("Talk", Conversation, Terminal)


def print_logs(ledger: Ledger, known: Sequence[Known], engines: Engines, asked: str, *, verbose: bool) -> int:
    """All that a service has written, without the secrets of the enclave; with `verbose` also when."""
    enclave, service = find_service(asked, known, "--enclave-logs")
    secrets = Secrets.of_configs(enclave.services)
    with _open(ledger, enclave, engines, service) as site:
        for line in site.logs(service):
            tell(f"{_when(line)}  " * verbose + printable(secrets.mask(line.text)))
    return 0


def run_command(ledger: Ledger, known: Sequence[Known], engines: Engines, asked: str, command: Sequence[str]) -> int:
    """A command in a service, with our input and output; its exit code."""
    from pytest_enclave.face.commands.piping import pipe

    enclave, service = find_service(asked, known, "--enclave-exec")
    with _open(ledger, enclave, engines, service) as site:
        return _carried(site.converse(service, command), pipe)


def run_shell(ledger: Ledger, known: Sequence[Known], engines: Engines, asked: str, command: Sequence[str]) -> int:
    """A shell in a service, or the command, on this terminal; its exit code."""
    from pytest_enclave.face.commands.pump import pump

    enclave, service = find_service(asked, known, "--enclave-shell")
    with _open(ledger, enclave, engines, service) as site:
        words = command or [_shell(site, service)]
        return _carried(site.terminal(service, words, {"TERM": os.environ.get("TERM") or "dumb"}), pump)


def _carried(talk: Talk, carry: Callable[[Talk, int, int], Signals | None]) -> int:
    """The exit code of a command whose input and output are carried to ours, 128 and more if a signal ended that."""
    try:
        sys.stdout.flush()
        ended_by = carry(talk, STDIN, STDOUT)
        return talk.wait() if ended_by is None else 128 + ended_by
    finally:
        talk.close()


@contextmanager
def _open(ledger: Ledger, enclave: Known, engines: Engines, service: str) -> Iterator[Site]:
    """The enclave, in which the service is. Raises EnclaveError."""
    with looking_into(ledger, enclave.entry, engines.of(enclave.entry)) as site:
        where = f'service "{service}" of enclave {enclave.name}'
        if service not in (there := site.observe()):
            names = ", ".join(sorted(there)) or "none"
            raise ServiceError(f"{where} is not there any more", service=service, remedy=f"services there: {names}")
        try:
            yield site
        except NotReached as error:
            raise EnclaveError(f"{where} cannot be asked: {error}") from None


def _shell(site: Site, service: str) -> str:
    """The best shell that the service has."""
    for shell in SHELLS:
        if site.exec(service, [shell, "-c", ":"], None).code == 0:
            return shell
    raise ServiceError(
        f'service "{service}" has no shell: neither {" nor ".join(SHELLS)}',
        service=service,
        remedy=f"say what to run: pytest --enclave-shell={service} -- PROGRAM",
    )


def _when(line: LogLine) -> str:
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(line.at))}.{int(line.at % 1 * 1000):03}"
