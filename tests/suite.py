"""Run the tests; the few that have failed, once more and alone.

    python tests/suite.py [what pytest takes]

Tests here kill processes, cut connections and wait for kernels, on machines that may do other things meanwhile. What
fails twice is wrong. What fails once is told, so that somebody may look at it; more than a few are not chance.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

CHANCE = 10
"""Tests that may have failed by chance."""

LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")


def main(arguments: list[str]) -> int:
    """The exit code of pytest's last run."""
    # Ctrl-C is pytest's to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    LAST_FAILED.unlink(missing_ok=True)
    code = run(arguments)
    failed = list(json.loads(LAST_FAILED.read_text())) if LAST_FAILED.exists() else []
    if code != 1 or not 0 < len(failed) <= CHANCE:
        return code
    print(f"\n{len(failed)} failed, and are tried once more, alone:", *failed, sep="\n  ", flush=True)
    code = run([*arguments, "--last-failed", "--last-failed-no-failures=none"])
    if code == 0:
        print("\nPASSED AT THE SECOND TRY ONLY:", *failed, sep="\n  ", flush=True)
    return code


def run(arguments: list[str]) -> int:
    """Run pytest, as if nobody had been in between."""

    def heed_interrupts() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    process = subprocess.Popen([sys.executable, "-m", "pytest", *arguments], preexec_fn=heed_interrupts)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: process.send_signal(got))
    return process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
