"""Plans that were made for an enclave, for the next process that asks for the same: it need not interpret anything.

A plan counts as long as every file that it came from is as it was, and so is this package. They lie in the enclave's
home, beside the journal, which tells as much, and go with it. Whatever cannot be read or written is made anew, in
silence.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from pytest_enclave.package.interpretation import Interpretation

SETTLED = 0.1
"""Seconds. In a file that is younger something may yet be changed without its time telling."""

SECRETS = ("ImageSpec(",)
"""What arguments with passwords look like: these are not written down anywhere."""

PACKAGE = Path(__file__).parents[1]


class KeptPlans:
    """The plans in a directory. Safe with several processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find(self, key: str) -> Interpretation | None:
        """What was kept for this request, if there is anything; it may not hold any more."""
        try:
            known = pickle.loads(self._place(key).read_bytes())
        except FileNotFoundError:
            return None
        except Exception:
            # Pickles raise anything.
            return None
        return known if isinstance(known, Interpretation) else None

    def keep(self, key: str, made: Interpretation) -> None:
        """Keep the plan for this request, if it lasts."""
        newest = max((state.ctime_ns or 0 for state in made.files), default=0)
        told = any(secret in call.text for call in made.plan.instructions for secret in SECRETS)
        if not made.lasts or told or time.time() - newest / 1e9 < SETTLED:
            return
        with suppress(OSError, pickle.PicklingError, TypeError, AttributeError, RecursionError):
            place = self._place(key)
            place.parent.mkdir(mode=0o700, exist_ok=True)
            scratch = place.with_name(f"{place.name}.{os.getpid()}")
            scratch.write_bytes(pickle.dumps(made))
            scratch.replace(place)

    def _place(self, key: str) -> Path:
        return self._directory / sha256(f"{key}\n{_code()}".encode()).hexdigest()[:32]


def _code() -> str:
    """What a plan depends on besides its package: this one, as it is installed, and the interpreter."""
    seen = [sys.version]
    for folder, _, files in os.walk(PACKAGE):
        if not folder.endswith("__pycache__"):
            seen += [f"{name} {_stamp(os.path.join(folder, name))}" for name in sorted(files)]
    return "\n".join(seen)


def _stamp(path: str) -> str:
    status = os.stat(path)
    return f"{status.st_mtime_ns} {status.st_size}"
