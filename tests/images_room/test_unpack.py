"""A layer's entries as files, as overlayfs wants to see them."""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
from pathlib import Path

import pytest

from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.stream import Limits
from tests.images_room.builder import entry, folder, hard_link, link, tar
from tests.images_room.unpacking import is_root, unpack


def mode(path: Path) -> str:
    return stat.filemode(path.lstat().st_mode)


def is_opaque(path: Path) -> bool:
    return "user.overlay.opaque" in os.listxattr(path) and os.getxattr(path, "user.overlay.opaque") == b"y"


def is_removed(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def test_files_have_content_mode_and_time(tmp_path):
    layer = tar(
        folder("./", mode=0o711, mtime=5),
        folder("a", mode=0o1777, mtime=6),
        entry("a/run", b"x" * 3_000_000, mode=0o4755, mtime=1700000000.25),
        entry("a/secret", b"s", mode=0o000),
        folder("a/closed", mode=0o555),
        entry("a/closed/in", b"in"),
        entry("before 1970", mtime=-5),
    )
    root = unpack(layer, tmp_path / "l")
    assert (mode(root), mode(root / "a"), mode(root / "a/run")) == ("drwx--x--x", "drwxrwxrwt", "-rwsr-xr-x")
    assert (mode(root / "a/secret"), mode(root / "a/closed")) == ("----------", "dr-xr-xr-x")
    assert (root / "a/run").read_bytes() == b"x" * 3_000_000
    assert (root / "a/run").stat().st_mtime == 1700000000.25
    assert (root.stat().st_mtime, (root / "a").stat().st_mtime, (root / "before 1970").stat().st_mtime) == (5, 6, -5)


def test_links_stay_links(tmp_path):
    layer = tar(
        entry("f", b"1"),
        hard_link("g", "./f"),
        hard_link("h", "/f"),
        link("absolute", "/etc/passwd"),
        link("up", "../../../x"),
        link("long", "y/" * 200),
        hard_link("link to link", "up"),
    )
    root = unpack(layer, tmp_path / "l")
    assert (root / "f").stat().st_nlink == 3
    assert os.readlink(root / "absolute") == "/etc/passwd"
    assert os.readlink(root / "up") == os.readlink(root / "link to link") == "../../../x"
    assert os.readlink(root / "long") == "y/" * 200


@pytest.mark.parametrize("style", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_names_of_all_kinds(tmp_path, style):
    names = ["plain", "with space", "ümlaut", "a" * 90 + "/" + "b" * 90, "new\nline", "./dot/./ted//twice"]
    if style != tarfile.USTAR_FORMAT:
        names.append("/".join(["deep" * 20] * 12))
    root = unpack(tar(*(entry(name, name.encode()) for name in names), format=style), tmp_path / "l")
    for name in names:
        assert (root / name).read_text() == name


def test_names_that_are_no_text(tmp_path):
    root = unpack(tar(entry(b"\xff\xfe".decode("utf-8", "surrogateescape"), b"x")), tmp_path / "l")
    assert os.listdir(os.fsencode(root)) == [b"\xff\xfe"]


def test_a_leading_slash_means_the_layers_root(tmp_path):
    assert (unpack(tar(entry("/etc/shop", b"x")), tmp_path / "l") / "etc/shop").read_bytes() == b"x"


def test_directories_on_the_way_are_made(tmp_path):
    root = unpack(tar(entry("a/b/c")), tmp_path / "l")
    assert mode(root / "a/b") == "drwxr-xr-x"


def test_a_removed_file_is_a_whiteout(tmp_path):
    root = unpack(tar(entry("etc/.wh.motd"), entry(".wh.gone")), tmp_path / "l")
    assert is_removed(root / "etc/motd")
    assert is_removed(root / "gone")
    assert sorted(os.listdir(root)) == ["etc", "gone"]


def test_an_opaque_directory_is_marked(tmp_path):
    root = unpack(tar(folder("d"), entry("d/.wh..wh..opq"), entry("d/new"), entry("e/.wh..wh..opq")), tmp_path / "l")
    assert is_opaque(root / "d")
    assert is_opaque(root / "e")
    assert os.listdir(root / "d") == ["new"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_directory_that_is_removed_and_made_in_one_layer_hides_the_one_below(tmp_path, order):
    steps = [(entry(".wh.d"),), (folder("d"), entry("d/new"))]
    root = unpack(tar(*(each for number in order for each in steps[number])), tmp_path / "l")
    assert is_opaque(root / "d")
    assert os.listdir(root / "d") == ["new"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_file_that_is_removed_and_made_in_one_layer_is_there(tmp_path, order):
    steps = [entry(".wh.f"), entry("f", b"new")]
    assert (unpack(tar(*(steps[number] for number in order)), tmp_path / "l") / "f").read_bytes() == b"new"


def test_records_of_other_storage_drivers_are_left_out(tmp_path):
    root = unpack(tar(folder(".wh..wh.plnk"), entry(".wh..wh.aufs"), entry("f")), tmp_path / "l")
    assert os.listdir(root) == ["f"]


def test_devices_are_left_out_and_fifos_are_made(tmp_path):
    device = {"devmajor": 1, "devminor": 3}
    layer = tar(
        entry("null", type=tarfile.CHRTYPE, **device),
        entry("disk", type=tarfile.BLKTYPE, **device),
        entry("pipe", type=tarfile.FIFOTYPE, mode=0o640),
    )
    root = unpack(layer, tmp_path / "l")
    assert os.listdir(root) == ["pipe"]
    assert mode(root / "pipe") == "prw-r-----"


def test_later_entries_replace_earlier_ones(tmp_path):
    layer = tar(
        entry("a", b"1"),
        entry("a", b"2"),
        link("b", "a"),
        entry("b", b"3"),
        folder("c"),
        entry("c/x"),
        entry("c", b"4"),
        entry("d"),
        folder("d"),
        entry("d/y"),
        folder("e", mode=0o700),
        folder("e", mode=0o750),
        hard_link("f", "a"),
        entry("f", b"5"),
    )
    root = unpack(layer, tmp_path / "l")
    assert [(root / name).read_bytes() for name in "abcf"] == [b"2", b"3", b"4", b"5"]
    assert (root / "d/y").exists()
    assert mode(root / "e") == "drwxr-x---"


def test_attributes_of_files_are_kept_but_none_that_means_something_to_overlayfs(tmp_path):
    attributes = {
        "SCHILY.xattr.user.mine": "1",
        "SCHILY.xattr.user.overlay.redirect": "/etc",
        "SCHILY.xattr.user.overlay.opaque": "y",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
    }
    root = unpack(tar(entry("f", pax_headers=attributes), folder("d", pax_headers=attributes)), tmp_path / "l")
    assert os.listxattr(root / "f") == os.listxattr(root / "d") == ["user.mine"]


@pytest.mark.skipif(not is_root(), reason="only root can give files away")
def test_owners_and_capabilities_of_files(tmp_path):
    capability = b"\x01\x00\x00\x02\x00\x04" + bytes(14)
    header = {"SCHILY.xattr.security.capability": capability.decode("latin-1")}
    layer = tar(
        folder("d", uid=1, gid=2),
        entry("d/f", uid=70000, gid=3, mode=0o4755),
        entry("d/ping", mode=0o755, pax_headers=header),
        entry("d/l", type=tarfile.SYMTYPE, linkname="x", uid=9, gid=9),
    )
    root = unpack(layer, tmp_path / "l", owners=True)
    owners = {name: (os.lstat(root / name).st_uid, os.lstat(root / name).st_gid) for name in ("d", "d/f", "d/l")}
    assert owners == {"d": (1, 2), "d/f": (70000, 3), "d/l": (9, 9)}
    assert mode(root / "d/f") == "-rwsr-xr-x"
    assert os.getxattr(root / "d/ping", "security.capability") == capability


def test_owners_are_left_alone_where_there_is_only_one(tmp_path):
    root = unpack(tar(entry("f", uid=70000, gid=70000)), tmp_path / "l", owners=False)
    assert (root / "f").stat().st_uid == os.geteuid()


def test_a_layer_in_several_gzip_members(tmp_path):
    layer = tar(entry("f", b"x" * 5000), entry("g"))
    packed = gzip.compress(layer[:2000]) + gzip.compress(layer[2000:]) + bytes(100)
    assert (unpack(packed, tmp_path / "l") / "f").read_bytes() == b"x" * 5000


def test_a_layer_with_nothing_in_it(tmp_path):
    assert os.listdir(unpack(tar(), tmp_path / "l")) == []
    assert os.listdir(unpack(b"", tmp_path / "m")) == []


def test_a_bomb_is_given_up(tmp_path):
    bomb = gzip.compress(tar(entry("zeros", bytes(50 << 20))))
    with pytest.raises(ImageFault, match="larger than 10 MiB when unpacked"):
        unpack(bomb, tmp_path / "l", limits=Limits(10 << 20, 10, 1000))
    assert (tmp_path / "l" / "zeros").stat().st_size <= 10 << 20


def test_a_suspicious_ratio_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("pytest_enclave.images.stream.RATIO_FROM", 1 << 20)
    with pytest.raises(ImageFault, match="unpacks to more than 100 times its size"):
        unpack(gzip.compress(tar(entry("zeros", bytes(50 << 20)))), tmp_path / "l", limits=Limits(1 << 40, 10, 100))


def test_too_many_entries_are_given_up(tmp_path):
    with pytest.raises(ImageFault, match="more than 10 entries"):
        unpack(tar(*(entry(str(number)) for number in range(11))), tmp_path / "l", limits=Limits(1 << 30, 10, 100))
