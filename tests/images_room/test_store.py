"""The store: images found, loaded, shared."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_enclave.errors import ImageUnavailable
from pytest_enclave.images import compression
from pytest_enclave.images.image import ImageConfig
from pytest_enclave.images.store import FROM_DAEMON, ImageStore, default_root
from pytest_enclave.images.unpacker import Unpacker
from pytest_enclave.linux.identity import IdMap, own_map
from tests.images_room.builder import Built, docker_archive, entry, folder, gzipped, layout, tar

BASE = tar(folder("./"), folder("etc"), entry("etc/motd", b"hello"))
TOP = tar(entry("etc/shop", b"open"))
IMAGE = Built([BASE, TOP], {"Cmd": ["serve"]})


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q"], input=data, capture_output=True, check=True).stdout


def names(layer: str) -> list[str]:
    return sorted(str(path.relative_to(layer)) for path in Path(layer).rglob("*"))


def content(image) -> list[list[str]]:
    return [names(layer) for layer in image.layers]


def leftovers(store: ImageStore) -> list[str]:
    root = Path(store.layers.path("sha256:" + 64 * "0")).parents[1]
    return [path.name for path in (*root.glob("layers/*.*"), *root.glob("work/*"), *root.glob("blobs/*"))]


def test_a_loaded_image_is_found_by_all_spellings_of_its_name_and_by_its_id(store, tmp_path):
    image = store.load(docker_archive(tmp_path / "a.tar", {"shop:latest": IMAGE}), "shop")
    assert image.digest == IMAGE.id
    assert content(image) == [["etc", "etc/motd"], ["etc", "etc/shop"]]
    for name in ("shop", "shop:latest", "docker.io/library/shop", "index.docker.io/library/shop:latest", IMAGE.id):
        assert store.find(name) == image
    assert store.references() == ["shop:latest"]


@pytest.mark.parametrize("name", ["shop:2", "other", "SHOP", "localhost:5000/shop", "sha256:" + 64 * "0", "", "@"])
def test_what_is_not_there_is_not_found(store, tmp_path, name):
    store.load(docker_archive(tmp_path / "a.tar", {"shop:latest": IMAGE}), "shop")
    assert store.find(name) is None


def test_another_process_finds_it_too(store, tmp_path):
    loaded = store.load(docker_archive(tmp_path / "a.tar", {"shop:latest": IMAGE}), "shop")
    assert ImageStore(tmp_path / "store", own_map()).find("shop") == loaded


def test_an_image_is_settled_unless_a_local_docker_may_have_a_newer_one(store, tmp_path):
    archive = docker_archive(tmp_path / "a.tar", {"shop:latest": IMAGE})
    loaded = store.load(archive, "shop")
    assert store.settled("shop") == store.settled("shop:latest") == store.settled(IMAGE.id) == loaded
    assert store.settled("other") is None
    store.name("shop", loaded.digest, FROM_DAEMON + loaded.digest)
    assert store.settled("shop") is None
    assert store.settled(IMAGE.id) == store.find("shop") == loaded
    named = f"docker-archive:{archive}"
    assert store.settled(named) is None
    assert store.load(archive) == store.settled(named) == loaded
    archive.touch()
    assert store.settled(named) is None, "it may have another image by now"


def test_finding_again_costs_next_to_nothing(store, tmp_path):
    store.load(docker_archive(tmp_path / "a.tar", {"shop:latest": IMAGE}), "shop")
    store.find("shop")
    fastest = min(_timed(lambda: store.find("shop")) for _ in range(50))
    assert fastest < 0.0002


def _timed(work) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def test_all_of_the_configuration_is_told(store, tmp_path):
    config = {
        "User": "7:8",
        "WorkingDir": "/srv",
        "Env": ["A=1", "B=2=3"],
        "Entrypoint": ["/bin/run", "-x"],
        "Cmd": None,
        "Volumes": {"/data": {}},
        "StopSignal": "SIGINT",
        "Labels": {"a": "b"},
    }
    image = store.load(docker_archive(tmp_path / "a.tar", {"shop:1": Built([BASE], config)}), "shop:1")
    assert image.config == ImageConfig(
        "7:8",
        "/srv",
        ("A=1", "B=2=3"),
        ("/bin/run", "-x"),
        (),
        ("/data",),
        "SIGINT",
        {"a": "b"},
        IMAGE.architecture,
    )


def test_a_layer_is_unpacked_once_and_shared(store, tmp_path):
    first = store.load(docker_archive(tmp_path / "a.tar", {"a:1": Built([BASE])}), "a:1")
    before = os.stat(first.layers[0]).st_ino
    second = store.load(docker_archive(tmp_path / "b.tar", {"b:1": IMAGE}), "b:1")
    assert second.layers[0] == first.layers[0]
    assert os.stat(first.layers[0]).st_ino == before


def test_a_layer_that_occurs_twice_counts_where_it_is_on_top(store, tmp_path):
    image = store.load(docker_archive(tmp_path / "a.tar", {"a:1": Built([TOP, BASE, TOP])}), "a:1")
    assert content(image) == [["etc", "etc/motd"], ["etc", "etc/shop"]]


def test_an_image_whose_layer_was_deleted_counts_as_missing_and_is_mended(store, tmp_path):
    archive = docker_archive(tmp_path / "a.tar", {"a:1": IMAGE})
    image = store.load(archive, "a:1")
    shutil.rmtree(image.layers[0])
    assert store.find("a:1") is None
    assert store.load(archive, "a:1") == store.find("a:1") == image


def test_a_damaged_record_counts_as_missing(store, tmp_path):
    store.load(docker_archive(tmp_path / "a.tar", {"a:1": IMAGE}), "a:1")
    for record in (tmp_path / "store").glob("*/names/*.json"):
        record.write_text("{")
    assert store.find("a:1") is None
    assert store.references() == []


def test_an_archive_by_its_path_is_found_until_the_file_changes(store, tmp_path):
    file = docker_archive(tmp_path / "a.tar", {"a:1": IMAGE})
    name = f"docker-archive:{file}"
    assert store.find(name) is None
    assert store.load(file, name) == store.find(name)
    os.utime(file, (1, 1))
    assert store.find(name) is None
    store.load(file, name)
    assert store.find(name)
    file.unlink()
    assert store.find(name) is None


@pytest.mark.parametrize("compress", [gzipped, zstd], ids=["gzip", "zstd"])
def test_a_compressed_archive(store, tmp_path, compress):
    archive = docker_archive(tmp_path / "a.tar", {"a:1": IMAGE}, compress)
    assert store.load(archive, "a:1").digest == IMAGE.id
    assert leftovers(store) == []


def test_an_archive_of_several_images_is_searched_by_name(store, tmp_path):
    other = Built([TOP])
    archive = docker_archive(tmp_path / "a.tar", {"a:1": IMAGE, "docker.io/library/b": other})
    assert store.load(archive, "b:latest").digest == other.id
    with pytest.raises(ImageUnavailable, match="the archive has 2 images, and which one is meant is not said: a:1"):
        store.load(archive, "c")


def test_a_layer_that_is_a_link_to_the_same_layer_of_another_image(store, tmp_path):
    # As Dockers before 25 save a layer that occurs twice.
    file = docker_archive(tmp_path / "a.tar", {"a:1": IMAGE})
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "-xf", file, "-C", unpacked], check=True)
    (unpacked / "a:1-0").rename(unpacked / "elsewhere")
    (unpacked / "a:1-0").mkdir()
    (unpacked / "a:1-0" / "layer.tar").symlink_to("../elsewhere/layer.tar")
    assert store.load(unpacked, "a:1").digest == IMAGE.id
    shutil.rmtree(store.find("a:1").layers[0])
    subprocess.run(["tar", "-cf", tmp_path / "b.tar", "-C", unpacked, "."], check=True)
    assert content(store.load(tmp_path / "b.tar", "b:1"))[0] == ["etc", "etc/motd"]


@pytest.mark.parametrize("as_tar", [False, True], ids=["directory", "tar"])
@pytest.mark.parametrize("compress", [bytes, gzipped, zstd], ids=["plain", "gzip", "zstd"])
def test_an_oci_layout(store, tmp_path, as_tar, compress):
    image = Built([BASE, TOP], compress=compress)
    place = layout(tmp_path / "layout", {"v1": image, "v2": Built([TOP], compress=compress)})
    if as_tar:
        subprocess.run(["tar", "-cf", tmp_path / "layout.tar", "-C", place, "."], check=True)
        place = tmp_path / "layout.tar"
    found = store.load(place, f"oci:{place}:v1")
    assert found.digest == image.id
    assert content(found) == [["etc", "etc/motd"], ["etc", "etc/shop"]]
    assert store.find(f"oci:{place}:v1") == found
    with pytest.raises(ImageUnavailable, match='the archive has no tag "v3"; its tags: v1, v2'):
        store.load(place, f"oci:{place}:v3")
    with pytest.raises(ImageUnavailable, match="2 images"):
        store.load(place, f"oci:{place}")


def test_an_oci_layout_with_one_image_needs_no_tag(store, tmp_path):
    place = layout(tmp_path / "layout", {"v1": IMAGE})
    assert store.load(place, f"oci:{place}").digest == IMAGE.id


def test_zstd_without_anything_that_reads_it_says_what_to_install(store, tmp_path, monkeypatch):
    place = layout(tmp_path / "layout", {"v1": Built([BASE], compress=zstd)})
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(compression, "_library", lambda name: None)
    with pytest.raises(ImageUnavailable, match="zstd, which this Python cannot read") as caught:
        store.load(place, f"oci:{place}")
    assert caught.value.remedy == "`pip install zstandard`, or install the program zstd"


def test_other_compressions_are_refused(store, tmp_path):
    subprocess.run(["xz", docker_archive(tmp_path / "a.tar", {"a:1": IMAGE})], check=True)
    with pytest.raises(ImageUnavailable, match="compressed with xz, which is not supported"):
        store.load(tmp_path / "a.tar.xz", "a:1")


def test_a_directory_that_cannot_be_written_is_told_with_the_remedy(tmp_path):
    (tmp_path / "file").touch()
    store = ImageStore(tmp_path / "file" / "store", own_map())
    assert store.find("a") is None
    assert store.references() == []
    with pytest.raises(ImageUnavailable, match="images cannot be kept in") as caught:
        store.load(docker_archive(tmp_path / "a.tar", {"a:1": IMAGE}), "a:1")
    assert "XDG_CACHE_HOME" in caught.value.remedy


@pytest.mark.parametrize(
    ("environ", "root"),
    [
        ({"HOME": "/home/me"}, "/home/me/.cache/pytest-enclave/images"),
        ({"HOME": "/home/me", "XDG_CACHE_HOME": "/var/mine"}, "/var/mine/pytest-enclave/images"),
        ({"HOME": "/home/me", "XDG_CACHE_HOME": "relative"}, "/home/me/.cache/pytest-enclave/images"),
    ],
)
def test_images_are_kept_below_the_users_cache_directory(environ, root):
    assert default_root(environ) == Path(root)


def test_nobody_else_sees_what_is_kept(store, tmp_path):
    store.load(docker_archive(tmp_path / "a.tar", {"a:1": IMAGE}), "a:1")
    (kind,) = (tmp_path / "store").iterdir()
    assert kind.stat().st_mode & 0o777 == 0o700


def test_files_belong_to_whom_the_layer_says_as_far_as_this_user_can_have_owners(store, tmp_path):
    layer = tar(folder("var", uid=999, gid=999, mode=0o700), entry("var/data", b"x", uid=999, gid=998, mode=0o4750))
    image = store.load(docker_archive(tmp_path / "a.tar", {"a:1": Built([layer])}), "a:1")
    status = os.stat(f"{image.layers[0]}/var")
    ids = own_map()
    expected = {"root": (999, 999), "single": (os.getuid(), os.getgid())}
    if ids.kind == "range":
        expected["range"] = (ids.uids[1].outside + 998, ids.gids[1].outside + 998)
    assert (status.st_uid, status.st_gid) == expected[ids.kind]


def test_with_a_single_id_everything_belongs_to_its_user(tmp_path):
    ids = own_map()
    single = IdMap("single", ids.uids[:1], ids.gids[:1])
    layer = tar(folder("var", uid=999, gid=999), entry("var/data", b"x", uid=999, mode=0o4750), entry(".wh.gone"))
    store = ImageStore(tmp_path / "store", single)
    image = store.load(docker_archive(tmp_path / "a.tar", {"a:1": Built([layer])}), "a:1")
    data = os.stat(f"{image.layers[0]}/var/data")
    assert (data.st_uid, data.st_mode & 0o7777) == (os.geteuid(), 0o4750)
    assert ImageStore(tmp_path / "store", ids).find("a:1") is None or ids == single


LOAD = """
import sys
from collections.abc import Callable
from pathlib import Path
from pytest_enclave.images.store import ImageStore
from pytest_enclave.linux.identity import own_map
print("ready", flush=True)
sys.stdin.readline()
image = ImageStore(Path(sys.argv[1]), own_map()).load(Path(sys.argv[2]), "big:1")
print(image.digest, *image.layers)
"""


def loader(tmp_path: Path, archive: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", LOAD, tmp_path / "store", archive],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout.readline() == "ready\n"
    return process


def big() -> Built:
    files = [entry(f"file-{number}", os.urandom(1 << 16)) for number in range(300)]
    return Built([tar(*files[:150]), tar(*files[150:])])


def test_four_processes_that_load_the_same_image_unpack_it_once(store, tmp_path):
    archive = docker_archive(tmp_path / "a.tar", {"big:1": big()})
    processes = [loader(tmp_path, archive) for _ in range(4)]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    answers = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert len(answers) == 1
    image = store.find("big:1")
    assert [len(each) for each in content(image)] == [150, 150]
    assert leftovers(store) == []
    born = [os.stat(layer).st_mtime_ns for layer in image.layers]
    store.load(archive, "big:1")
    assert [os.stat(layer).st_mtime_ns for layer in image.layers] == born


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3])
def test_a_process_killed_at_any_moment_leaves_no_half_layer(store, tmp_path, moment):
    archive = docker_archive(tmp_path / "a.tar", {"big:1": big()})
    with loader(tmp_path, archive) as process:
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    found = store.find("big:1")
    assert found is None or [len(each) for each in content(found)] == [150, 150]
    assert [len(each) for each in content(store.load(archive, "big:1"))] == [150, 150]


def test_unpacking_ends_with_the_process_that_wanted_it(tmp_path):
    packed = Built([tar(entry("zeros", bytes(100 << 20)))])
    archive = layout(tmp_path / "layout", {"v1": packed})
    with loader(tmp_path, archive) as process:
        process.stdin.write("\n")
        process.stdin.flush()
        _await(lambda: working(tmp_path))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    _await(lambda: not working(tmp_path))
    assert [file for file in tmp_path.glob("store/*/layers/*/zeros") if file.stat().st_size == 100 << 20] == []


def working(tmp_path: Path) -> list[str]:
    """Processes that unpack something below a directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = process.read_bytes()
            if b"images.unpack" in command and os.fsencode(tmp_path) in command:
                found.append(process.parent.name)
    return found


def _await(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 2
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_a_killed_process_left_is_swept(store, tmp_path):
    archive = docker_archive(tmp_path / "a.tar", {"a:1": IMAGE})
    store.load(archive, "a:1")
    (kind,) = (tmp_path / "store").iterdir()
    half = kind / "layers" / f"{16 * 'a'}.12345678.new"
    (half / "locked").mkdir(parents=True)
    (half / "locked" / "file").touch()
    (half / "locked").chmod(0)
    fresh, old = kind / "blobs" / f"{16 * 'b'}-c", kind / "blobs" / f"{16 * 'd'}-e"
    fresh.touch()
    old.touch()
    os.utime(old, (1, 1))
    ImageStore(tmp_path / "store", own_map()).load(archive, "a:1")
    assert leftovers(store) == [fresh.name]


def test_a_store_can_be_cleared_and_used_again(store, tmp_path):
    layer = tar(folder("var", uid=999, gid=999, mode=0o700), entry("var/data", uid=999, mode=0o000))
    archive = docker_archive(tmp_path / "a.tar", {"a:1": Built([layer])})
    store.load(archive, "a:1")
    store.clear()
    assert store.find("a:1") is None
    assert list((tmp_path / "store").iterdir()) == []
    assert store.load(archive, "a:1") == store.find("a:1")


def test_a_failed_load_leaves_nothing(store, tmp_path):
    broken = Built([BASE, tar(entry("../escape"))])
    with pytest.raises(ImageUnavailable):
        store.load(docker_archive(tmp_path / "a.tar", {"a:1": broken}), "a:1")
    assert leftovers(store) == []
    assert store.find("a:1") is None


def test_a_disk_without_room_is_told(tmp_path):
    store = ImageStore(tmp_path / "store", own_map(), Unpacker(own_map(), size=1 << 20))
    image = Built([tar(entry("zeros", bytes(2 << 20)))])
    with pytest.raises(ImageUnavailable, match="larger than 1 MiB when unpacked, which is the limit here"):
        store.load(docker_archive(tmp_path / "a.tar", {"a:1": image}), "a:1")
