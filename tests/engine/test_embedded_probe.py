"""Whether the embedded engine can run: tried for real, also where something is refused, and told word for word."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_enclave.engine.embedded import probe
from pytest_enclave.engine.embedded.inside import trial
from pytest_enclave.engine.embedded.machine import Machine, look
from pytest_enclave.engine.embedded.probe import Trial, attempt, endpoint, examine, unavailable
from pytest_enclave.engine.embedded.refusals import MISSING, Failure, Refusal, not_linux, refusal
from pytest_enclave.linux.identity import own_map

DOCKER_RUN = "`docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined --tmpfs /tmp`"
PODMAN_RUN = "`podman run --security-opt seccomp=unconfined --security-opt unmask=ALL --tmpfs /tmp`"

MOST, APPARMOR = "user.max_user_namespaces", "kernel.apparmor_restrict_unprivileged_userns"
UNPRIVILEGED = "kernel.unprivileged_userns_clone"

DENIED = "unshare user: Operation not permitted"


def test_a_trial_succeeds_on_this_machine() -> None:
    done = attempt()
    assert done.failure is None
    assert done.kind == own_map().kind
    assert done.uids[0][0] == 0
    assert done.facts["disk"] in (True, False)


def test_an_examination_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    probe.examine.cache_clear()
    found = examine()
    assert found.refusal is None
    assert found.endpoint.startswith("this machine, ")
    monkeypatch.setattr(probe, "attempt", lambda: pytest.fail("tried again"))
    assert examine() is found


def test_importing_it_tries_nothing_and_loads_nothing_of_linux() -> None:
    names = "('ctypes', 'docker', 'urllib3', 'pytest_enclave.linux')"
    script = f"import sys, pytest_enclave.engine.embedded.probe; print([n for n in {names} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# As in a trial, but with something done before: in a user namespace of one's own where that takes rights.
BEFORE = """
import ctypes, json, os, pwd, subprocess, sys
sys.path.insert(0, sys.argv[1])
from pytest_enclave.engine.embedded.inside.trial import main
from pytest_enclave.linux import mounts, seccomp, syscalls

def write(path, text):
    with open(path, "w") as file:
        file.write(text)

def become_root_of_a_namespace():
    uid, gid = os.geteuid(), os.getegid()
    syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
    write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"0 {uid} 1")
    write("/proc/self/gid_map", f"0 {gid} 1")

def refuse(number, action):
    # load the number of the call; if it is this one: the action; else let it pass
    import struct
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, action), (0x06, 0, 0, 0x7FFF0000)]
    seccomp.install(b"".join(struct.pack("=HBBI", *step) for step in steps))

ERROR, KILL = 0x00050000, 0x80000000
UNSHARE, PIVOT_ROOT, MOUNT, SETXATTR = dict(x86_64=(272, 155, 165, 188), aarch64=(97, 41, 40, 5))[os.uname().machine]
"""


def tried(before: str) -> Trial:
    """The trial of a process that has done something before."""
    return attempt(f"{BEFORE}\n{before}\nmain()")


@pytest.mark.parametrize(
    ("before", "step", "number", "said"),
    [
        ("refuse(UNSHARE, ERROR | 1)", "user", errno.EPERM, DENIED),
        ("refuse(UNSHARE, KILL)", "user", None, "ended by SIGSYS"),
        (
            'become_root_of_a_namespace(); write("/proc/sys/user/max_user_namespaces", "0")',
            "user",
            errno.ENOSPC,
            "unshare user: No space left on device",
        ),
        (
            'become_root_of_a_namespace(); mounts.tmpfs("/proc/sys")',
            "proc",
            errno.EPERM,
            "mount proc at /proc: Operation not permitted",
        ),
        ("refuse(PIVOT_ROOT, ERROR | 1)", "root", errno.EPERM, "pivot_root .: Operation not permitted"),
        ("refuse(MOUNT, ERROR | 13)", "private", errno.EACCES, "mount none at /: Permission denied"),
        (
            """
become_root_of_a_namespace()
os.mkdir(sys.argv[2] + "/proc")
mounts.bind("/proc", sys.argv[2] + "/proc", recursive=True)
os.chroot(sys.argv[2])
""",
            "user",
            errno.EPERM,
            DENIED,
        ),
    ],
)
def test_the_step_that_is_refused_is_told(before: str, step: str, number: int | None, said: str) -> None:
    assert tried(before).failure == Failure(step, number, said)


def test_what_ends_without_a_word_is_told_by_its_code() -> None:
    assert attempt("import os; os._exit(3)").failure == Failure("start", None, "ended with 3")
    assert attempt("import sys; sys.exit('no such luck')").failure == Failure("start", None, "no such luck")


def test_a_trial_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PATIENCE", 0.3)
    assert attempt("import time; time.sleep(9)").failure == Failure("start", None, "no answer within 0.3 s")


def test_files_are_kept_on_disk_where_a_tmpfs_has_no_attributes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = tried(f"refuse(SETXATTR, ERROR | {errno.EOPNOTSUPP})")
    assert (done.failure, done.facts) == (None, {"disk": True})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_user_without_a_range_has_one_uid() -> None:
    done = tried("os.setgroups([]); os.setgid(54321); os.setuid(54321); syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)")
    assert (done.failure, done.kind, done.uids) == (None, "single", [[0, 54321, 1]])


def test_as_whom_services_run_is_told() -> None:
    assert endpoint("root", [[0, 0, 4294967295]]) == "this machine, as root"
    assert endpoint("range", [[0, 1000, 1], [1, 100000, 65536]]) == "this machine, uids 1000 and 100000–165535"
    assert endpoint("single", [[0, 1000, 1]]) == "this machine, one uid"


def test_every_step_of_a_trial_has_words() -> None:
    source = Path(trial.__file__).read_text()
    steps = {line.split('"')[1] for line in source.splitlines() if "telling.step(" in line}
    assert steps - {"done"} == set(MISSING) - {"start"}


NO_NAMESPACE = "no user namespace can be made"
PERM, ACCES = errno.EPERM, errno.EACCES


@pytest.mark.parametrize(
    ("machine", "failure", "words", "remedy"),
    [
        pytest.param(
            Machine(container="docker", filtered=True, root=True),
            Failure("user", PERM, DENIED),
            f"{NO_NAMESPACE}: the seccomp filter of its container refuses it",
            DOCKER_RUN,
            id="docker run",
        ),
        pytest.param(
            Machine(container="docker", filtered=True, root=True),
            Failure("root", PERM, "pivot_root .: Operation not permitted"),
            "the root directory cannot be changed (pivot_root): the seccomp filter of its container refuses it",
            DOCKER_RUN,
            id="docker run --cap-add SYS_ADMIN",
        ),
        pytest.param(
            Machine(container="docker", root=True),
            Failure("proc", PERM, "mount proc at /proc: Operation not permitted"),
            "/proc cannot be mounted in a new process namespace: parts of /proc and /sys are masked in its container",
            DOCKER_RUN,
            id="docker run --security-opt seccomp=unconfined",
        ),
        pytest.param(
            Machine(container="docker", profile="docker-default"),
            Failure("private", ACCES, "mount none at /: Permission denied"),
            "mounts cannot be kept to a namespace: the AppArmor profile of its container (docker-default) refuses it",
            f"{DOCKER_RUN} with `--security-opt apparmor=unconfined`",
            id="docker run on Ubuntu",
        ),
        pytest.param(
            Machine(container="docker", root=True),
            Failure("overlay", errno.EINVAL, "mount overlay at /sys/root: Invalid argument"),
            "no overlay file system can be mounted: there is no place for one in its container "
            "(mount overlay at /sys/root: Invalid argument)",
            DOCKER_RUN,
            id="docker run without --tmpfs",
        ),
        pytest.param(
            Machine(container="podman", filtered=True),
            Failure("user", PERM, DENIED),
            f"{NO_NAMESPACE}: the seccomp filter of its container refuses it",
            PODMAN_RUN,
            id="podman run",
        ),
        pytest.param(
            Machine(container="kubernetes", filtered=True),
            Failure("user", PERM, DENIED),
            f"{NO_NAMESPACE}: the seccomp filter of its container refuses it",
            "in the pod's securityContext: `seccompProfile: {type: Unconfined}` and `procMount: Unmasked`",
            id="a pod",
        ),
        pytest.param(
            Machine(container="lxc"),
            Failure("user", PERM, DENIED),
            f"{NO_NAMESPACE}: its container refuses it ({DENIED})",
            "allow lxc all system calls, and an unmasked /proc",
            id="another container",
        ),
        *(
            pytest.param(
                Machine(settings={APPARMOR: 1}, profile="unprivileged_userns"),
                failure,
                f"{MISSING[failure.step]}: AppArmor lets no program without a profile do it "
                f"({APPARMOR} = 1, as on Ubuntu since 23.10)",
                f"`sudo sysctl -w {APPARMOR}=0`, or run as root",
                id=f"Ubuntu 24.04, {failure.step}",
            )
            for failure in (Failure("maps", PERM, "x"), Failure("private", ACCES, "x"), Failure("network", PERM, "x"))
        ),
        pytest.param(
            Machine(settings={UNPRIVILEGED: 0}),
            Failure("user", PERM, DENIED),
            f"{NO_NAMESPACE}: the kernel keeps user namespaces to root ({UNPRIVILEGED} = 0)",
            f"`sudo sysctl -w {UNPRIVILEGED}=1`, or run as root",
            id="Debian 10",
        ),
        pytest.param(
            Machine(settings={MOST: 0}),
            Failure("user", errno.ENOSPC, "unshare user: No space left on device"),
            f"{NO_NAMESPACE}: the kernel allows none ({MOST} = 0)",
            f"`sudo sysctl -w {MOST}=15000`",
            id="none allowed",
        ),
        pytest.param(
            Machine(settings={MOST: 3}),
            Failure("user", errno.ENOSPC, "unshare user: No space left on device"),
            f"{NO_NAMESPACE}: as many as the kernel allows are in use ({MOST} = 3)",
            f"`sudo sysctl -w {MOST}=15000`",
            id="none left",
        ),
        pytest.param(
            Machine(kernel=(5, 4)),
            Failure("overlay", PERM, "mount overlay at /sys/root: Operation not permitted"),
            "no overlay file system can be mounted: the kernel is 5.4, and 5.11 is the oldest that does",
            "",
            id="an old kernel",
        ),
        pytest.param(
            Machine(),
            Failure("user", errno.EINVAL, "unshare user: Invalid argument"),
            f"{NO_NAMESPACE}: the kernel is built without user namespaces",
            "",
            id="a kernel without",
        ),
        pytest.param(
            Machine(),
            Failure("overlay", errno.ENODEV, "mount overlay at /sys/root: No such device"),
            "no overlay file system can be mounted: the kernel has no overlay file system loaded",
            "`sudo modprobe overlay`",
            id="no overlay module",
        ),
        pytest.param(
            Machine(),
            Failure("network", errno.EOPNOTSUPP, 'make bridge "br0": Operation not supported'),
            "no network bridge with links can be made: the kernel has no bridges or no links loaded "
            '(make bridge "br0": Operation not supported)',
            "`sudo modprobe --all bridge veth`",
            id="no bridge module",
        ),
        pytest.param(
            Machine(chroot=True, root=True),
            Failure("user", PERM, DENIED),
            f"{NO_NAMESPACE}: the kernel makes none for programs in a chroot",
            "run outside of it, or in a container",
            id="a chroot",
        ),
        pytest.param(
            Machine(),
            Failure("maps", PERM, "newuidmap: uid range [1-65536) -> [9-65545) not allowed"),
            "user ids cannot be mapped into a new user namespace: the programs of the package uidmap refuse it "
            "(newuidmap: uid range [1-65536) -> [9-65545) not allowed)",
            "correct the user's ranges in /etc/subuid and /etc/subgid, or take them out",
            id="wrong ranges",
        ),
        pytest.param(
            Machine(filtered=True),
            Failure("user", None, "ended by SIGSYS"),
            f"{NO_NAMESPACE}: a seccomp filter refuses it, as sandboxes and services of systemd have one",
            "run outside of it, or allow it the system calls of namespaces and mounts",
            id="a sandbox",
        ),
        pytest.param(
            Machine(),
            Failure("user", PERM, DENIED),
            f"{NO_NAMESPACE}: EPERM, {DENIED}",
            "run as root",
            id="whatever else",
        ),
        pytest.param(
            Machine(root=True),
            Failure("start", None, "ended with 3"),
            "its trial does not start: ended with 3",
            "",
            id="whatever else, as root",
        ),
    ],
)
def test_each_environment_is_told_with_its_remedy(machine: Machine, failure: Failure, words: str, remedy: str) -> None:
    found = refusal(machine, failure)
    assert (str(found), found.remedy) == (words, remedy)


@pytest.mark.parametrize("system", ["macOS", "Windows"])
def test_other_systems_are_told_without_a_trial(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(not_linux(Machine(system))) == f"it needs Linux: this is {system}"
    monkeypatch.setattr(probe, "look", lambda: Machine(system))
    monkeypatch.setattr(probe, "attempt", lambda: pytest.fail("tried"))
    probe.examine.cache_clear()
    try:
        assert examine().refusal == Refusal("it needs Linux", f"this is {system}")
    finally:
        probe.examine.cache_clear()


def test_the_error_has_the_remedy_and_docker() -> None:
    error = unavailable(Refusal("no user namespace can be made", "because", "run as root"))
    assert str(error) == "the embedded engine cannot run here: no user namespace can be made"
    assert error.tried == (("the embedded engine", "no user namespace can be made: because"),)
    assert error.remedy == "run as root, or use Docker: `--enclave-engine=docker`"
    assert unavailable(Refusal("a", "b")).remedy == "use Docker: `--enclave-engine=docker`"


def system_files(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.mark.usefixtures("on_linux")
def test_a_machine_is_read_from_its_files(tmp_path: Path) -> None:
    root = system_files(
        tmp_path,
        proc__sys__kernel__osrelease="5.15.0-91-generic\n",
        proc__sys__kernel__unprivileged_userns_clone="1\n",
        proc__sys__user__max_user_namespaces="0\n",
        proc__self__status="Name:\tpython\nSeccomp:\t2\nSeccomp_filters:\t1\n",
        proc__self__mountinfo="29 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n",
        proc__self__attr__current="docker-default (enforce)\n",
    )
    (root / ".dockerenv").touch()
    found = look(str(root))
    assert found == Machine(
        kernel=(5, 15),
        root=os.geteuid() == 0,
        settings={UNPRIVILEGED: 1, MOST: 0},
        container="docker",
        filtered=True,
        profile="docker-default",
    )


@pytest.mark.usefixtures("on_linux")
@pytest.mark.parametrize(
    ("name", "text", "container"),
    [("run__.containerenv", "", "podman"), ("run__systemd__container", "lxc\n", "lxc"), ("nothing", "", "")],
)
def test_containers_are_told_by_what_they_leave(tmp_path: Path, name: str, text: str, container: str) -> None:
    assert look(str(system_files(tmp_path, **{name: text}))).container == container


@pytest.mark.usefixtures("on_linux")
def test_a_pod_is_told_by_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert look(str(tmp_path)).container == "kubernetes"


@pytest.mark.usefixtures("on_linux")
def test_a_chroot_is_told_by_its_mounts(tmp_path: Path) -> None:
    root = system_files(tmp_path, proc__self__mountinfo="30 29 0:5 / /proc rw - proc proc rw\n")
    assert look(str(root)).chroot


@pytest.mark.parametrize(("platform", "system"), [("darwin", "macOS"), ("win32", "Windows"), ("aix", "aix")])
def test_other_systems_have_their_names(monkeypatch: pytest.MonkeyPatch, platform: str, system: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert look() == Machine(system)
