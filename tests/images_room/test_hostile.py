"""Archives that mean harm: refused with the entry's name, and nothing outside is touched."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_enclave.errors import ImageUnavailable
from pytest_enclave.images import compression
from pytest_enclave.images.faults import ImageFault
from pytest_enclave.images.store import ImageStore
from pytest_enclave.images.stream import Limits
from pytest_enclave.images.tar import Entry, TarReader
from pytest_enclave.images.unpacker import Unpacker
from pytest_enclave.linux.identity import own_map
from tests.images_room.builder import Built, docker_archive, entry, folder, gzipped, hard_link, layout, link, tar
from tests.images_room.unpacking import unpack

OUT = "OUTSIDE"
"""Stands for the absolute path of a directory that must stay as it is."""

ATTACKS = {
    "up": [entry("../x")],
    "up in the middle": [entry("a/../../x")],
    "up, absolute": [entry("/../x")],
    "directory up": [folder("..")],
    "link, then through it": [link("a", OUT), entry("a/x")],
    "relative link, then through it": [link("a", "../outside"), entry("a/x")],
    "link to link": [link("a", OUT), link("b", "a"), entry("b/x")],
    "directory replaced by a link": [folder("a"), entry("a/1"), link("a", OUT), entry("a/x")],
    "directory below a link": [link("a", OUT), folder("a/d")],
    "link below a link": [link("a", OUT), link("a/x", "y")],
    "fifo below a link": [link("a", OUT), entry("a/x", type=tarfile.FIFOTYPE)],
    "hard link up": [hard_link("a", "../outside/kept")],
    "hard link through a link": [link("a", OUT), hard_link("b", "a/kept")],
    "hard link into a link": [entry("f"), link("a", OUT), hard_link("a/x", "f")],
    "hard link to nothing": [hard_link("a", "b")],
    "hard link to itself": [entry("a"), hard_link("a", "a")],
    "hard link to a directory": [folder("d"), hard_link("a", "d")],
    "hard link to the root": [hard_link("a", "./")],
    "hard link into its own place": [entry("d/x"), hard_link("d", "d/x")],
    "whiteout below a link": [link("a", OUT), entry("a/.wh.kept")],
    "opaque link": [link("a", OUT), entry("a/b/.wh..wh..opq")],
    "whiteout of ..": [entry("a/.wh...")],
    "whiteout of .": [entry("a/.wh..")],
    "whiteout of nothing": [entry("a/.wh.")],
    "file as root": [entry("./", type=tarfile.SYMTYPE, linkname=OUT)],
    "file through a file": [entry("a"), entry("a/b")],
    "long name": [entry("x" * 300)],
    "path too long": [entry("x/" * 3000 + "y")],
    "too deep": [entry("x/" * 300 + "y")],
    "sparse": [entry("a", type=tarfile.GNUTYPE_SPARSE)],
    "sparse by PAX": [entry("a", pax_headers={"GNU.sparse.major": "1"})],
    "unknown kind": [entry("a", type=b"V")],
    "huge owner": [entry("a", pax_headers={"uid": "99999999999"})],
    "negative size": [entry("a", pax_headers={"size": "-1"})],
    "size of another world": [entry("a", pax_headers={"size": "9" * 30})],
    "larger than the archive": [entry("a", pax_headers={"size": str(1 << 40)})],
    "time that is none": [entry("a", pax_headers={"mtime": "soon"})],
    "absurd header": [entry("a", pax_headers={"comment": "x" * (2 << 20)})],
    "null byte": [entry("a", pax_headers={"path": "a\0b"})],
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_an_attack_is_refused_and_nothing_outside_is_touched(tmp_path, attack):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    for info, _ in attack:
        info.linkname = info.linkname.replace(OUT, str(outside))
    with pytest.raises(ImageFault) as caught:
        unpack(tar(*attack), tmp_path / "l")
    assert len(caught.value.meaning) < 400
    assert os.listdir(outside) == ["kept"]
    assert (outside / "kept").read_text() == "kept"
    assert (outside / "kept").stat().st_nlink == 1
    assert os.listxattr(outside) == []
    assert sorted(os.listdir(tmp_path)) == ["l", "outside"]


@pytest.mark.parametrize(
    ("attack", "told"),
    [
        ([entry("a/../../x")], 'entry "a/../../x": ".." in a path'),
        ([link("a", "/etc"), entry("a/x")], 'entry "a/x": its path leads through "a", which is no directory'),
        ([hard_link("a", "b")], 'entry "a": a hard link to what the layer does not have'),
        ([entry("a\x1b[31m/../x")], r'entry "a\x1b[31m/../x": ".." in a path'),
        ([entry("x" * 300)], f'entry "{"x" * 160}…{"x" * 30}": file name too long'),
    ],
)
def test_the_entry_is_named(tmp_path, attack, told):
    with pytest.raises(ImageFault) as caught:
        unpack(tar(*attack), tmp_path / "l")
    assert caught.value.meaning == told


def test_a_replaced_link_is_replaced_and_not_written_through(tmp_path):
    (tmp_path / "victim").write_text("kept")
    root = unpack(tar(link("a", str(tmp_path / "victim")), entry("a", b"new")), tmp_path / "l")
    assert (tmp_path / "victim").read_text() == "kept"
    assert (root / "a").read_bytes() == b"new"


@pytest.mark.parametrize("cut", [1, 100, 511, 513, 1000, 1500, 5000])
def test_a_cut_off_archive_is_told(tmp_path, cut):
    with pytest.raises(ImageFault, match="the archive is cut off"):
        unpack(tar(entry("a", b"x" * 5000))[:cut], tmp_path / "l")


def test_what_is_no_archive_is_told(tmp_path):
    with pytest.raises(ImageFault, match="no tar archive, or a damaged one: the header at byte 0 is wrong"):
        unpack(b"#!/bin/sh\n" + b"x" * 1000, tmp_path / "l")


def test_damaged_gzip_is_told(tmp_path):
    with pytest.raises(ImageFault, match="the layer is damaged"):
        unpack(b"\x1f\x8b\x08\x00" + b"x" * 1000, tmp_path / "l")


LAYER = tar(
    folder("d"), entry("d/f", b"x" * 700, pax_headers={"mtime": "1.5"}), link("d/l", "f"), hard_link("h", "d/f")
)


@settings(max_examples=300, deadline=None, database=None)
@given(st.lists(st.tuples(st.integers(0, len(LAYER) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_spoiled_archives_are_read_or_refused(spoils):
    data = bytearray(LAYER)
    for at, value in spoils:
        data[at] = value
    _read(bytes(data))


@settings(max_examples=200, deadline=None, database=None)
@given(st.integers(0, 4), st.integers(0, 511), st.binary(min_size=1, max_size=40))
@example(1, 120, b"\0\0\0\0\xc0")
def test_spoiled_headers_with_a_true_checksum_are_read_or_refused(block, at, patch):
    data = bytearray(LAYER)
    begin = 512 * block
    header = bytearray(data[begin : begin + 512])
    header[at : at + len(patch)] = patch
    header = header[:512]
    total = sum(header[:148]) + sum(header[156:]) + 256
    header[148:156] = b"%06o\0 " % total
    data[begin : begin + 512] = header
    _read(bytes(data))


def _read(data: bytes) -> list[Entry]:
    try:
        reader = TarReader(_Memory(data))
        return [entry for entry in reader if sum(map(len, reader.data())) == entry.size or pytest.fail("size")]
    except ImageFault:
        return []


class _Memory(io.BytesIO):
    take = io.BytesIO.read

    def skip(self, count: int) -> int:
        return len(self.read(count))


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=120).filter(
    lambda name: name not in (".", "..")
)


@settings(max_examples=150, deadline=None, database=None)
@given(
    st.lists(st.tuples(NAMES, st.binary(max_size=2000), st.integers(0, 0o7777), st.integers(0, 2**31)), max_size=6),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_what_tarfile_writes_is_read_the_same(files, style):
    entries = [entry(name, data, mode=mode, uid=owner, mtime=owner) for name, data, mode, owner in files]
    reader = TarReader(_Memory(tar(*entries, format=style)))
    found = [(each.name.decode(), b"".join(reader.data(7)), each.mode, each.uid, each.mtime) for each in reader]
    assert found == [(name, data, mode, owner, owner * 10**9) for name, data, mode, owner in files]


# Archives of images


def archive(tmp_path: Path, manifest: object, *entries: tuple[tarfile.TarInfo, bytes]) -> Path:
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    file = tmp_path / "a.tar"
    file.write_bytes(tar(*entries, entry("manifest.json", text)))
    return file


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        (b"{", "manifest.json of the archive is not JSON"),
        (b"[" * 100_000, "manifest.json of the archive is not JSON"),
        (b'[] , "a": 1', "the archive has no image in it"),
        ([], "the archive has no image in it"),
        ([1], "manifest.json of the archive is malformed"),
        ([{"Config": 1, "Layers": []}], "manifest.json of the archive is malformed"),
        ([{"Config": "c", "Layers": []}], "the archive has no c"),
        ([{"Config": "../../etc/passwd", "Layers": []}], "the archive has no ../../etc/passwd"),
        ([{"Config": "manifest.json", "Layers": []}], "its configuration is not a JSON object"),
        (b" " * (5 << 20), "manifest.json of the archive has 5242880 bytes; 4194304 are the limit"),
    ],
)
def test_a_malformed_archive_of_images(store, tmp_path, manifest, told):
    with pytest.raises(ImageUnavailable) as caught:
        store.load(archive(tmp_path, manifest), "a:1")
    assert caught.value.message == f'image "a:1": {told}'


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"rootfs": {"diff_ids": []}}, "it has no layers, so there is nothing in it that could run"),
        ({"rootfs": {"diff_ids": ["sha256:" + 64 * "0"]}}, "it has 0 layers, but its configuration tells of 1"),
        ({"rootfs": {"diff_ids": ["../../x"]}}, "its configuration is malformed: diff_ids has what is no digest"),
        ({"rootfs": {"diff_ids": "x"}}, "its configuration is malformed: diff_ids is not what the format says"),
        ({"config": {"Env": [1]}}, "its configuration is malformed: Env is not what the format says"),
        ({"config": []}, "its configuration is malformed: config is not what the format says"),
        ({"os": "windows"}, "it is made for windows"),
        ({"rootfs": {"diff_ids": ["sha256:" + 64 * "0"] * 129}}, "it has 129 layers; 128 are the limit"),
    ],
)
def test_a_malformed_configuration(store, tmp_path, config, told):
    made = archive(tmp_path, [{"Config": "c", "Layers": []}], entry("c", json.dumps(config).encode()))
    with pytest.raises(ImageUnavailable) as caught:
        store.load(made, "a:1")
    assert caught.value.message == f'image "a:1": {told}'


def test_a_layer_that_is_not_what_the_configuration_says(store, tmp_path):
    image = Built([tar(entry("a"))])
    other = tar(entry("b"))
    made = archive(tmp_path, [{"Config": "c", "Layers": ["l"]}], entry("c", image.config_text), entry("l", other))
    with pytest.raises(ImageUnavailable, match="its content is not what the image says: sha256:") as caught:
        store.load(made, "a:1")
    assert hashlib.sha256(other).hexdigest()[:12] in caught.value.message
    assert store.find("a:1") is None


def test_a_directory_of_images_may_not_refer_to_files_outside(store, tmp_path):
    place = tmp_path / "images"
    place.mkdir()
    image = Built([tar(entry("a"))])
    (tmp_path / "config").write_bytes(image.config_text)
    for config in ("../config", str(tmp_path / "config"), "link"):
        (place / "manifest.json").write_text(json.dumps([{"Config": config, "Layers": []}]))
        (place / "link").unlink(missing_ok=True)
        (place / "link").symlink_to("../config")
        with pytest.raises(ImageUnavailable, match="which is outside of it"):
            store.load(place, "a:1")


def test_a_blob_that_is_not_what_its_digest_says(store, tmp_path):
    image = Built([tar(entry("a"))])
    place = layout(tmp_path / "layout", {"v1": image})
    (place / "blobs/sha256" / image.id.partition(":")[2]).write_bytes(b"{}")
    with pytest.raises(ImageUnavailable, match="is not what its digest sha256:"):
        store.load(place, f"oci:{place}")


def test_an_archive_with_files_without_end(store, tmp_path, monkeypatch):
    monkeypatch.setattr("pytest_enclave.images.archive.MOST_FILES", 10)
    with pytest.raises(ImageUnavailable, match="more than 10 files"):
        store.load(archive(tmp_path, [], *(entry(str(number)) for number in range(12))), "a:1")


def test_a_compressed_archive_that_is_a_bomb(tmp_path):
    small = ImageStore(tmp_path / "small", own_map(), Unpacker(own_map(), size=1 << 20))
    image = Built([tar(entry("zeros", bytes(3 << 20)))])
    with pytest.raises(ImageUnavailable, match="larger than 1 MiB when unpacked"):
        small.load(docker_archive(tmp_path / "a.tar", {"a:1": image}, gzipped), "a:1")


def bomb(compress: Callable[[bytes], bytes]) -> bytes:
    """An archive that begins as a layer, and goes on with zeros: some KiB for 192 MiB."""
    return compress(tar(entry("zeros", bytes(192 << 20))))


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q"], input=data, capture_output=True, check=True).stdout


@pytest.fixture
def written(monkeypatch) -> list[int]:
    """How many bytes were written of what was unpacked, each time."""
    sizes: list[int] = []
    make = tempfile.TemporaryFile

    def measured(**settings):
        file = make(**settings)
        close = file.close

        def closing():
            sizes.append(os.fstat(file.fileno()).st_size)
            close()

        file.close = closing
        return file

    monkeypatch.setattr(compression.tempfile, "TemporaryFile", measured)
    monkeypatch.setattr("pytest_enclave.images.stream.RATIO_FROM", 16 << 20)
    return sizes


@pytest.mark.parametrize("compress", [gzipped, zstd], ids=["gzip", "zstd"])
def test_a_bomb_is_given_up_by_its_ratio_whatever_it_is_compressed_with(tmp_path, written, compress):
    packed = bomb(compress)
    (tmp_path / "bomb").write_bytes(packed)
    limits = Limits(1 << 40, 1000, 30)
    descriptor = os.open(tmp_path / "bomb", os.O_RDONLY)
    try:
        with pytest.raises(ImageFault, match=r"^it unpacks to more than 30 times its size, as only a trap does$"):
            compression.decompressed(descriptor, len(packed), tmp_path, limits)
    finally:
        os.close(descriptor)
    assert max(written) <= 32 << 20


def test_a_layer_that_is_a_bomb(tmp_path, written):
    store = ImageStore(tmp_path / "small", own_map(), Unpacker(own_map(), ratio=30))
    image = Built([tar(entry("a", bytes(192 << 20)))], compress=zstd)
    with pytest.raises(ImageUnavailable, match="it unpacks to more than 30 times its size") as caught:
        store.load(layout(tmp_path / "layout", {"v1": image}), f"oci:{tmp_path}/layout:v1")
    assert caught.value.message.startswith(f'image "oci:{tmp_path}/layout:v1": ')
    assert list((tmp_path / "small").rglob("*.new")) == []


def test_what_is_compressed_well_but_small_is_no_bomb(tmp_path):
    packed = zstd(bytes(8 << 20))
    (tmp_path / "zeros").write_bytes(packed)
    descriptor = os.open(tmp_path / "zeros", os.O_RDONLY)
    with compression.decompressed(descriptor, len(packed), tmp_path, Limits(1 << 40, 10, 30)) as plain:
        assert len(plain.read()) == 8 << 20
    os.close(descriptor)


def test_no_more_is_unpacked_than_there_is_room_for(tmp_path, monkeypatch):
    full = os.statvfs(tmp_path)
    few = os.statvfs_result([*full[:4], ((256 << 20) + (4 << 20)) // full.f_frsize, *full[5:]])
    monkeypatch.setattr(os, "statvfs", lambda _: few)
    store = ImageStore(tmp_path / "small", own_map(), Unpacker(own_map()))
    made = docker_archive(tmp_path / "a.tar", {"a:1": Built([tar(entry("a", os.urandom(6 << 20)))])}, zstd)
    with pytest.raises(ImageUnavailable, match="larger than 4 MiB when unpacked, which is the limit here"):
        store.load(made, "a:1")


def test_zstd_that_is_cut_off_or_damaged_is_told(tmp_path):
    packed = zstd(os.urandom(1 << 20))
    for data in (packed[: len(packed) // 2], packed[:100] + b"x" * 100_000):
        (tmp_path / "damaged").write_bytes(data)
        descriptor = os.open(tmp_path / "damaged", os.O_RDONLY)
        with pytest.raises(ImageFault, match=r"^it is damaged: .+"):
            compression.decompressed(descriptor, len(data), tmp_path, Limits(1 << 40, 10, 30))
        os.close(descriptor)
