"""Run a command with engines that have the test images.

    python tests/images/engine.py [--only docker|embedded] [--fresh] -- COMMAND...

A Docker engine that already answers is used. Else a daemon of our own runs for as long as the command does.
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
import docker_images
import dockerd
import embedded_images
from build import BuildError
from debian import AptError

from pytest_enclave.errors import EnclaveError

FORWARDED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


@contextmanager
def docker_engine(*, fresh: bool = False) -> Iterator[Mapping[str, str]]:
    """Have a Docker engine with all test images, and give the environment variables that lead to it.

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
        docker_images.fill(client)


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
    parser = argparse.ArgumentParser(description="Run a command with engines that have the test images.")
    parser.add_argument("--only", choices=("docker", "embedded"), help="one engine (default: both)")
    parser.add_argument("--fresh", action="store_true", help="use a new Docker daemon, with nothing from earlier runs")
    parser.add_argument("command", metavar="COMMAND", nargs="+", help="what to run, after --")
    options = parser.parse_args()
    for number in FORWARDED:
        signal.signal(number, _leave)
    try:
        if options.only != "docker":
            embedded_images.fill()
        if options.only == "embedded":
            code = run(options.command, {})
        else:
            with docker_engine(fresh=options.fresh) as environment:
                code = run(options.command, environment)
    except (dockerd.DaemonError, AptError, BuildError, EnclaveError, docker.errors.DockerException) as problem:
        sys.exit(str(problem))
    sys.exit(code)


if __name__ == "__main__":
    main()
