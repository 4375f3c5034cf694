"""File systems of other machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_enclave.ledger import filesystem
from pytest_enclave.ledger.filesystem import remote_type
from pytest_enclave.ledger.ledger import Ledger


def mounts(path: Path, kind: str, number: str = "") -> Path:
    device = os.stat(path).st_dev
    number = number or f"{os.major(device)}:{os.minor(device)}"
    table = path / "mountinfo"
    table.write_text(
        "22 1 254:77 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
        f"91 22 {number} / {path} rw,relatime shared:40 - {kind} server:/home rw,vers=4.2\n"
        "\n"
    )
    return table


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "fuse.sshfs"])
def test_what_several_machines_may_have_is_told_by_its_type(tmp_path: Path, kind: str) -> None:
    assert remote_type(tmp_path, mounts(tmp_path, kind)) == kind


def test_what_this_machine_has_is_not(tmp_path: Path) -> None:
    assert remote_type(tmp_path) == ""
    for kind in ("ext4", "tmpfs", "overlay", "fuse.gvfsd-fuse", "nfsd"):
        assert remote_type(tmp_path, mounts(tmp_path, kind)) == ""
    assert remote_type(tmp_path, mounts(tmp_path, "nfs4", "0:99999")) == "", "that is mounted elsewhere"


def test_where_nobody_can_tell_it_is_not_either(tmp_path: Path) -> None:
    assert remote_type(tmp_path / "nothing", mounts(tmp_path, "nfs4")) == ""
    assert remote_type(tmp_path, tmp_path / "nothing") == ""


@pytest.mark.parametrize("arguments", [(), ("-n2",)])
def test_a_ledger_there_is_told_once(
    pytester: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    table = mounts(tmp_path, "nfs4")
    pytester.makeconftest(
        "from pathlib import Path\n"
        "from pytest_enclave.ledger import filesystem\n"
        f"filesystem.remote_type.__defaults__ = (Path({str(table)!r}),)\n"
    )
    pytester.makepyfile(
        """
        import pytest
        from pytest_enclave import Source

        @pytest.mark.parametrize("number", range(3))
        def test_it(enclave_factory, number):
            enclave_factory(Source("def run(plan): pass"))
        """
    )
    result = pytester.runpytest_subprocess("--enclave-engine=simulated", *arguments)
    told = " ".join(result.stdout.str().split())
    assert told.count("set XDG_STATE_HOME to a directory of this machine") == 1
    doubt = (
        f"enclaves are recorded in {tmp_path}/pytest-enclave, on a file system of another machine (nfs4): locks may "
        "not hold there, so sessions might remove each other's enclaves; "
        "set XDG_STATE_HOME to a directory of this machine"
    )
    assert doubt in told
    assert Ledger(tmp_path / "pytest-enclave").doubt == "", "this machine's table says otherwise"
    monkeypatch.setattr(filesystem.remote_type, "__defaults__", (table,))
    assert Ledger(tmp_path / "pytest-enclave").doubt == doubt
