"""What an image says about its program is honoured: user, directory, environment, signals. What is wrong is told."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_enclave.engine.protocol import Action
from pytest_enclave.errors import ServiceError
from pytest_enclave.linux.identity import own_map
from tests.engine.engine_enclave import FOREVER, Enclave
from tests.engine.made_images import Entry, MadeImages
from tests.images_room.builder import entry, folder, link

PASSWD = entry(
    "etc/passwd",
    b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:44:web:/srv/web:/bin/sh\nhomeless:x:50:50:::\nbroken:x:no:44::/:\n",
)
GROUPS = entry(
    "etc/group", b"root:x:0:\nwww:x:44:\nlogs:x:4:web,other\nmore:x:70:other,web\nno:x:71:webs\nadmin:x:99:\n"
)


@pytest.fixture
def images(tmp_path: Path) -> Iterator[MadeImages]:
    """Images of our own making."""
    made = MadeImages(tmp_path)
    yield made
    made.close()


@pytest.fixture
def enclave(images: MadeImages) -> Enclave:
    """An enclave that has them."""
    return images.open()


def ids(enclave: Enclave, service: str, pid: str) -> tuple[str, str, list[str]]:
    """User, group, and further groups of a process."""
    lines = enclave.site.exec(service, ["cat", f"/proc/{pid}/status"], None).output.splitlines()
    told = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    assert len(set(told["Uid"])) == len(set(told["Gid"])) == 1
    return told["Uid"][0], told["Gid"][0], sorted(told["Groups"], key=int)


USERS = {
    "": ("0", "0", ["0"], "/root"),
    "root": ("0", "0", ["0"], "/root"),
    "web": ("33", "44", ["4", "44", "70"], "/srv/web"),
    "33": ("33", "44", ["4", "44", "70"], "/srv/web"),
    "web:admin": ("33", "99", ["99"], "/srv/web"),
    "web:5": ("33", "5", ["5"], "/srv/web"),
    "1234": ("1234", "0", ["0"], "/"),
    "1234:4321": ("1234", "4321", ["4321"], "/"),
    "homeless": ("50", "50", ["50"], "/"),
}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("pid", ["1", "self"])
def test_the_user_of_an_image(images: MadeImages, enclave: Enclave, user: str, pid: str):
    enclave.up("a", images.make(PASSWD, GROUPS, User=user), cmd=FOREVER)
    uid, gid, groups, home = USERS[user]
    found = ids(enclave, "a", pid)
    assert found[:2] == (uid, gid)
    if own_map().kind == "single":
        # The kernel lets nobody with one id change further groups: they are those of the tests, none of the image's.
        assert not set(found[2]) & {"4", "70", "99"} - {gid}
    else:
        assert found[2] == groups
    assert enclave.sh("a", "echo $HOME") == home


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("nobody-here", 'there is no user "nobody-here" in the image\'s /etc/passwd'),
        ("web:nowhere", 'there is no group "nowhere" in the image\'s /etc/group'),
        ("broken", 'there is no user "broken"'),
        ("-1", 'there is no user "-1"'),
        ("4294967295", 'there is no user "4294967295"'),
        ("²", 'there is no user "²"'),
    ],
)
def test_users_that_cannot_be_are_told(images: MadeImages, enclave: Enclave, user: str, words: str):
    error = enclave.start(enclave.spec("a", images.make(PASSWD, GROUPS, User=user), cmd=FOREVER))["a"]
    assert isinstance(error, ServiceError)
    assert words in error.message


def test_users_beyond_the_ids_that_we_have_are_told(images: MadeImages, enclave: Enclave):
    error = enclave.start(enclave.spec("a", images.make(User="3000000000:3000000000"), cmd=FOREVER))["a"]
    if own_map().kind == "range":
        assert error is not None
        assert "beyond the ids that this machine gives to us" in error.message
    else:
        assert error is None
        assert ids(enclave, "a", "1")[:2] == ("3000000000", "3000000000")


def test_directory_and_environment_of_an_image(images: MadeImages, enclave: Enclave):
    image = images.make(
        WorkingDir="/made/deep",
        Env=["A=1", "B=x=y", "C", "HOME=/tmp"],
        Volumes={"/data": {}, "/deep/er": {}, "/bin/busybox": {}},
    )
    enclave.up("a", image, cmd=FOREVER, env_vars={"A": "2"})
    assert enclave.sh("a", "echo $PWD $A $B ${C-none}; echo $HOME; ls -d /data /deep/er").split() == [
        *("/made/deep", "2", "x=y", "/tmp", "/data", "/deep/er")
    ]
    assert enclave.site.exec("a", ["pwd"], None).output == "/made/deep\n"


def test_a_working_directory_that_is_a_file_is_told(images: MadeImages, enclave: Enclave):
    error = enclave.start(enclave.spec("a", images.make(entry("file"), WorkingDir="/file"), cmd=FOREVER))["a"]
    assert error is not None
    assert 'its working directory "/file" cannot be entered' in error.message


def test_the_stop_signal_of_an_image(images: MadeImages, enclave: Enclave):
    script = "trap 'echo asked; exit 7' USR1; echo ready; while :; do sleep 0.05; done"
    enclave.up("a", images.make(StopSignal="SIGUSR1"), entrypoint=("sh", "-c", script))
    while not enclave.site.logs("a"):
        enclave.site.pause(0.01)
    enclave.site.act("a", Action.STOP)
    assert [line.text for line in enclave.site.logs("a")][:2] == ["ready", "asked"]
    exit_ = enclave.site.exit_of("a")
    assert exit_ is not None
    assert exit_.code == 7


FOREIGN = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 2, 8, 1) + bytes(40)
"""The beginning of a program for MIPS."""

UNFIT: dict[str, tuple[Entry, str]] = {
    "a script whose interpreter is missing": (
        entry("run", b"#!/no/such/interpreter\n", mode=0o755),
        '"/run": its interpreter or loader is not in the image',
    ),
    "a program of another architecture": (entry("run", FOREIGN, mode=0o755), '"/run": exec format error'),
    "no program at all": (entry("run", b"\0\0\0\0", mode=0o755), '"/run": exec format error'),
    "not executable": (entry("run", b"#!/bin/sh\n", mode=0o644), '"/run": permission denied'),
    "a directory": (folder("run"), '"/run": permission denied'),
    "a link to itself": (link("run", "run"), '"/run": too many levels of symbolic links'),
    "a link to nothing": (link("run", "nothing"), '"/run": no such file or directory'),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_programs_that_cannot_be_executed_are_told(images: MadeImages, enclave: Enclave, kind: str):
    made, words = UNFIT[kind]
    image = images.make(made, Entrypoint=["/run"])
    error = enclave.start(enclave.spec("a", image))["a"]
    assert error is not None
    assert words in error.message
    enclave.up("b", image, entrypoint=FOREVER)
    result = enclave.site.exec("b", ["/run"], None)
    assert result.code in (126, 127)
    assert result.output == f"{words}\n"


def test_an_image_that_names_no_program_is_told(images: MadeImages, enclave: Enclave):
    error = enclave.start(enclave.spec("a", images.make()))["a"]
    assert error is not None
    assert "names no program to run" in error.message


def test_a_mount_path_where_the_image_has_a_file_is_told(images: MadeImages, enclave: Enclave, tmp_path: Path):
    enclave.artifacts["files"] = tmp_path
    for path, made in {"/it": entry("it"), "/led": link("led", "nowhere"), "/it/below": entry("it")}.items():
        error = enclave.start(enclave.spec("a", images.make(made), cmd=FOREVER, files={path: "files"}))["a"]
        assert error is not None
        assert "the image has something else at this path" in error.message
