"""Code under test runs in interpreters of its own: it changes namespaces, capabilities and limits for good."""

from __future__ import annotations

import atexit
import functools
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import msgspec

from pytest_enclave.linux import identity

ROOT = str(Path(__file__).parents[2])

PRELUDE = f"""
import errno, os, sys
sys.path.insert(0, {ROOT!r})
from pytest_enclave.linux import capabilities, cgroups, identity, mounts, seccomp, syscalls
from pytest_enclave.linux.netlink import Netlink

def error_of(function, *args):
    try:
        function(*args)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
"""

MAPPED = """
if {single}:
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
ids = identity.own_map()
assert ids.kind == {kind!r}, ids
sys.exit(identity.run_mapped(ids, [sys.executable, "-I", "-S", "-c", {code!r}]).returncode)
"""

NOBODY = 64321
"""A user without a name, and without ranges of ids."""


@functools.cache
def library() -> str:
    """A directory that everybody can read, with what an engine needs besides our code and the standard library."""
    place = Path(tempfile.mkdtemp(prefix="library-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    place.chmod(0o755)
    shutil.copytree(Path(msgspec.__file__).parent, place / "msgspec")
    return str(place)


def run(code: str, uid: int | None = None, timeout: float = 60, *, with_engine: bool = False) -> str:
    """What the code prints, run in a fresh interpreter, as another user if there is a `uid`.

    There is nothing but our code and the standard library, and what an engine needs if it is to be there.
    """
    interpreter = sys.executable if uid is None else interpreter_for(uid)
    code = textwrap.dedent(code)
    if with_engine:
        code = f"sys.path.append({library()!r})\n{code}"
    finished = subprocess.run(
        [interpreter, "-I", "-S", "-c", PRELUDE + code],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd="/",
        **_as_user(uid),
    )
    assert finished.returncode == 0, f"exit code {finished.returncode}\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout.strip()


def run_inside(kind: str, code: str, uid: int | None) -> str:
    """What the code prints, run as root of a new user namespace."""
    inner = PRELUDE + textwrap.dedent(code)
    return run(MAPPED.format(single=kind == "single", kind=kind, code=inner), uid)


def user_with_range() -> int | None:
    """The present user, or if that is root any other one, with ranges of subordinate ids and the means to use them."""
    users = [os.geteuid()] if os.geteuid() else [entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid]
    if identity.helper("newuidmap") is None or identity.helper("newgidmap") is None:
        return None
    files = ("/etc/subuid", "/etc/subgid")
    return next((uid for uid in users if all(identity.subordinate_ids(file, uid) for file in files)), None)


@functools.cache
def interpreter_for(uid: int) -> str | None:
    """An interpreter that this user can run, and that can read the code."""
    for path in (sys.executable, "/usr/bin/python3"):
        reading = [path, "-I", "-S", "-c", PRELUDE + "assert sys.version_info >= (3, 10)"]
        try:
            if subprocess.run(reading, capture_output=True, cwd="/", **_as_user(uid)).returncode == 0:
                return path
        except OSError:
            pass
    return None


def _as_user(uid: int | None) -> dict:
    if uid is None or uid == os.geteuid():
        return {}
    try:
        gid = pwd.getpwuid(uid).pw_gid
    except KeyError:
        gid = uid
    return {"user": uid, "group": gid, "extra_groups": []}
