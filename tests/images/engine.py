"""Run a command with a Docker engine that has the test images.

    python tests/images/engine.py [--fresh] -- COMMAND...

An engine that already answers is used. Else a daemon of our own runs for as long as the command does.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from types import FrameType

import docker
import dockerd
from build import BuildError, build_missing
from debian import AptError

FORWARDED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@contextmanager
def engine(*, fresh: bool = False) -> Iterator[Mapping[str, str]]:
    """Have an engine with all test images, and give the environment variables that lead to it.

    `fresh`: a new daemon without anything from earlier runs, even if an engine already answers.
    Raises DaemonError, AptError or BuildError if that cannot be had.
    """
    if not fresh and dockerd.answers():
        _fill(None)
        yield {}
        return
    dockerd.install()
    with dockerd.running(fresh=fresh) as address:
        _fill(address)
        yield {"DOCKER_HOST": address}


def _fill(address: str | None) -> None:
    with closing(docker.DockerClient(address) if address else docker.from_env()) as client:
        build_missing(client)


def run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end, pass on the signals that reach us, and return its exit code."""
    process = subprocess.Popen(command, env={**os.environ, **environment})
    watched = {*FORWARDED, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    while process.poll() is None:
        received = signal.sigtimedwait(watched, 1.0)
        # One that comes from the kernel was typed at the terminal, and the command got it too.
        if received and received.si_signo in FORWARDED and received.si_pid:
            process.send_signal(received.si_signo)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, watched)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _leave(number: int, _frame: FrameType | None) -> None:
    """Handle a signal by leaving through every `finally`, so that the daemon is stopped."""
    sys.exit(128 + number)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Run a command with a Docker engine that has the test images.")
    parser.add_argument("--fresh", action="store_true", help="use a new daemon, with nothing from earlier runs")
    parser.add_argument("command", metavar="COMMAND", nargs="+", help="what to run, after --")
    options = parser.parse_args()
    for number in FORWARDED:
        signal.signal(number, _leave)
    try:
        with engine(fresh=options.fresh) as environment:
            code = run(options.command, environment)
    except (dockerd.DaemonError, AptError, BuildError, docker.errors.DockerException) as problem:
        sys.exit(str(problem))
    sys.exit(code)


if __name__ == "__main__":
    main()
