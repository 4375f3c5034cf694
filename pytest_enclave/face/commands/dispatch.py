"""From the options to what they do, and to pytest's exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing

import pytest

from pytest_enclave.errors import EnclaveError, EngineUnavailable
from pytest_enclave.face.commands.cleaning import clean
from pytest_enclave.face.commands.engines import Engines
from pytest_enclave.face.commands.inside import print_logs, run_command, run_shell
from pytest_enclave.face.commands.known import known_enclaves
from pytest_enclave.face.commands.listing import print_enclaves
from pytest_enclave.face.commands.streams import complain, free_streams
from pytest_enclave.face.options import settings_of
from pytest_enclave.ledger.ledger import Ledger

INTERRUPTED = 128 + signal.SIGINT


def execute(config: pytest.Config, commands: Mapping[str, str]) -> int:
    """Do what is asked for; the exit code. Raises pytest.UsageError."""
    if len(commands) > 1:
        *others, last = (f"--enclave-{name}" for name in commands)
        raise pytest.UsageError(f"{', '.join(others)} and {last}: one at a time")
    ((name, value),) = commands.items()
    words = _words(config)
    if name == "exec" and not words:
        raise pytest.UsageError(
            f"--enclave-exec takes a command after `--`, for example: pytest --enclave-exec={value} -- ls /"
        )
    free_streams(config)
    try:
        with closing(Engines(config, settings_of(config).docker_host)) as engines:
            code = _done(config, Ledger.of(os.environ), engines, name, value, words)
        sys.stdout.flush()
        return code
    except EnclaveError as error:
        complain(error_text(error))
        return pytest.ExitCode.TESTS_FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever reads, like `head`, has enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _done(config: pytest.Config, ledger: Ledger, engines: Engines, name: str, value: str, words: Sequence[str]) -> int:
    verbose = config.option.verbose > 0
    known = known_enclaves(ledger)
    match name:
        case "ls":
            return print_enclaves(known, verbose=verbose)
        case "clean":
            return clean(ledger, known, engines, value)
        case "logs":
            return print_logs(ledger, known, engines, value, verbose=verbose)
        case "exec":
            return run_command(ledger, known, engines, value, words)
        case _:
            return run_shell(ledger, known, engines, value, words)


def error_text(error: EnclaveError) -> str:
    """An error as commands tell it: what was tried, and what to do."""
    tried = [f"  tried {what}: {why}" for what, why in error.tried] if isinstance(error, EngineUnavailable) else []
    remedy = [f"  {line}" for line in error.remedy.splitlines()]
    return "\n".join([f"ERROR: {error}", *tried, *remedy])


def _words(config: pytest.Config) -> Sequence[str]:
    """What follows `--`, as it was given: to pytest, these are files."""
    given = [str(argument) for argument in config.invocation_params.args]
    return given[given.index("--") + 1 :] if "--" in given else []
