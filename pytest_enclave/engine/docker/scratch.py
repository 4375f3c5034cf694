"""Directories of one process that what is on the engine mounts. Their names tell whose they are, so that they are found
when that process was killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pytest_enclave.engine.docker.owners import Owner

PREFIX = "pytest-enclave-scratch."


def make_scratch() -> Path:
    """A new directory of this process, which others may read. Raises OSError."""
    owner = Owner.this_process()
    namespace = owner.namespace.removeprefix("pid:[").removesuffix("]")
    prefix = f"{PREFIX}{owner.pid}.{namespace}.{owner.boot}.{owner.began}."
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    directory.chmod(0o755)
    return directory


def sweep_scratch(is_gone: Callable[[Owner], bool]) -> None:
    """Remove this user's directories whose processes have gone."""
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        # Somebody else may be removing the same.
        with suppress(OSError, ValueError):
            pid, namespace, boot, began, _ = directory.name.removeprefix(PREFIX).split(".")
            if directory.lstat().st_uid == os.geteuid() and is_gone(Owner(pid, f"pid:[{namespace}]", boot, began)):
                shutil.rmtree(directory)
