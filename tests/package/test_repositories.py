"""Commits of other repositories: found, fetched once, kept, shared; with real git on bare repositories."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_enclave.errors import PackageError
from pytest_enclave.package.git.command import Git
from pytest_enclave.package.git.failures import GitFailure
from pytest_enclave.package.git.repositories import Repositories
from pytest_enclave.package.locators import parse
from tests.package.hub import Hub

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path / "hub")


def content(hub: Hub, locator: str, repositories: Repositories | None = None) -> str:
    """The text of the file that is found."""
    checkout = (repositories or Repositories.of(hub.environ)).checkout(parse(locator))
    return checkout.tree.existing(locator, checkout.locator.path).read_text()


def error_of(hub: Hub, locator: str) -> PackageError:
    with pytest.raises(PackageError) as caught:
        Repositories.of(hub.environ).checkout(parse(locator))
    return caught.value


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Hub, dict[str, str]]:
    """A repository with branches, tags and commits, each with a file that says which it is; the commits."""
    hub = Hub(tmp_path_factory.mktemp("original") / "hub")
    commits = {"v1": hub.commit("a/b", {"f": "v1", "lib/f.star": "lib v1"}, tags=("v1", "release/1.2"))}
    commits["dev"] = hub.commit("a/b", {"f": "dev", "lib/f.star": "lib dev"}, branch="feature/dev")
    commits["old"] = hub.commit("a/b", {"f": "old"})
    commits["main"] = hub.commit("a/b", {"f": "main", "lib/f.star": "lib main"})
    commits["both"] = hub.commit("a/b", {"f": "tag both"}, branch="", tags=("both",))
    hub.commit("a/b", {"f": "branch both"}, branch="both")
    return hub, commits


@pytest.fixture
def many(hub: Hub, original: tuple[Hub, dict[str, str]]) -> dict[str, str]:
    """A copy of it, for this test alone."""
    shutil.copytree(original[0].root / "a", hub.root / "a")
    return original[1]


@pytest.mark.parametrize(
    ("locator", "text"),
    [
        pytest.param("github.com/a/b/f", "main", id="row-49-default"),
        pytest.param("github.com/a/b/f@main", "main", id="row-49-main"),
        pytest.param("github.com/a/b/f@feature/dev", "dev", id="row-49-branch"),
        pytest.param("github.com/a/b/f@v1", "v1", id="row-49-tag"),
        pytest.param("github.com/a/b@v1/f", "v1", id="version-after-the-repository"),
        pytest.param("github.com/a/b@v1/lib/f.star", "lib v1", id="version-before-a-longer-path"),
        pytest.param("github.com/a/b/lib@v1/f.star", "lib v1", id="version-after-a-directory"),
        pytest.param("github.com/a/b@feature/dev/lib/f.star", "lib dev", id="version-with-a-slash"),
        pytest.param("github.com/a/b/lib/f.star@release/1.2", "lib v1", id="version-with-slash-and-dot"),
        pytest.param("github.com/a/b@release/1.2/lib/f.star", "lib v1", id="version-with-slash-and-dot-before"),
        pytest.param("github.com/a/b/f@both", "tag both", id="tags-before-branches"),
    ],
)
@pytest.mark.usefixtures("many")
def test_versions(hub: Hub, locator: str, text: str) -> None:
    assert content(hub, locator) == text


@pytest.mark.parametrize("row", [pytest.param(49, id="row-49-commit")])
def test_commits_by_their_hash_also_those_that_nothing_leads_to(hub: Hub, many: dict[str, str], row: int) -> None:
    assert {name: content(hub, f"github.com/a/b/f@{commit}") for name, commit in many.items()} == {
        "v1": "v1",
        "dev": "dev",
        "old": "old",
        "main": "main",
        "both": "tag both",
    }


@pytest.mark.parametrize(
    ("locator", "message", "remedy"),
    [
        pytest.param(
            "github.com/a/b/f@featur/dev",
            "has no tag, branch or commit `featur/dev`",
            "`feature/dev`?",
            id="row-49-none",
        ),
        pytest.param("github.com/a/b/f@abcdef1", "has no tag, branch or commit `abcdef1`", "all of its 40", id="short"),
        pytest.param(f"github.com/a/b/f@{'0' * 39}1", f"has no commit `{'0' * 39}1`", "", id="no-such-commit"),
        pytest.param(
            "github.com/a/b/f@--upload-pack=x", "has no tag, branch or commit `--upload-pack=x`", "", id="option"
        ),
        pytest.param("github.com/a/c/f", "there is no repository `github.com/a/c`", "look for `c`", id="row-50"),
    ],
)
@pytest.mark.usefixtures("many")
def test_what_there_is_not(hub: Hub, locator: str, message: str, remedy: str) -> None:
    error = error_of(hub, locator)
    assert message in str(error)
    assert remedy in error.remedy


def test_a_repository_without_commits(hub: Hub) -> None:
    hub.git("init", "--quiet", "--bare", str(hub.root / "a" / "empty.git"))
    assert str(error_of(hub, "github.com/a/empty/f")) == "`github.com/a/empty` is empty: it has no default branch"


def test_a_commit_needs_no_network_once_it_is_there(hub: Hub, many: dict[str, str]) -> None:
    content(hub, f"github.com/a/b/f@{many['v1']}")
    hub.remove("a/b")
    checkout = Repositories.of(hub.environ).checkout(parse(f"github.com/a/b/f@{many['v1']}"))
    assert checkout.warning == ""
    assert (checkout.tree.directory / "f").read_text() == "v1"


def test_without_a_network_versions_are_what_they_were_and_that_is_told(hub: Hub, many: dict[str, str]) -> None:
    content(hub, "github.com/a/b/f")
    content(hub, "github.com/a/b/f@v1")
    hub.remove("a/b")
    later = Repositories.of(hub.environ)
    assert content(hub, "github.com/a/b/f", later) == "main"
    warning = later.checkout(parse("github.com/a/b/f@v1")).warning
    assert re.fullmatch(
        r"there is no repository `github.com/a/b`: .*; `v1` is taken as it was (\d+ seconds?|less than a second) ago",
        warning,
    )
    with pytest.raises(PackageError, match="has no tag, branch or commit `v2`"):
        later.checkout(parse("github.com/a/b/f@v2"))
    with pytest.raises(PackageError, match="there is no repository"):
        later.checkout(parse("github.com/a/b/f@feature/dev"))


def test_a_branch_is_asked_for_once_in_a_session_and_again_in_the_next(hub: Hub, many: dict[str, str]) -> None:
    session = Repositories.of(hub.environ)
    assert content(hub, "github.com/a/b/f", session) == "main"
    hub.commit("a/b", {"f": "newer"})
    assert content(hub, "github.com/a/b/f", session) == "main"
    assert content(hub, "github.com/a/b/f") == "newer"


def test_a_server_without_single_commits_gives_all(hub: Hub, many: dict[str, str]) -> None:
    """Protocol 0 gives what tags and branches are at, and nothing else."""
    hub.git("config", "--global", "protocol.version", "0")
    assert content(hub, "github.com/a/b/f@v1") == "v1"
    with pytest.raises(PackageError, match="has no commit"):
        content(hub, f"github.com/a/b/f@{many['old']}")
    bare = hub.root / "a" / "b.git"
    successor = hub.git("commit-tree", f"{many['old']}^{{tree}}", "-p", many["old"], "-m", "m", within=bare).strip()
    hub.git("branch", "successor", successor, within=bare)
    assert content(hub, f"github.com/a/b/f@{many['old']}") == "old"


FETCH = """
import sys
from pytest_enclave.package.git.repositories import Repositories
from pytest_enclave.package.locators import parse
import os
found = Repositories.of(os.environ).checkout(parse(sys.argv[1]))
print((found.tree.directory / found.locator.path).read_text(), end="")
"""


def fetching(hub: Hub, locator: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, locator],
        env={**hub.environ, "PYTHONPATH": str(ROOT), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def counting_git(hub: Hub, body: str = "") -> dict[str, str]:
    """A git that notes what it is called for, and does something before it fetches."""
    real = shutil.which("git")
    folder = hub.root / "bin"
    folder.mkdir()
    script = (
        f'#!/bin/sh\necho "$@" >> {hub.root}/calls\ncase "$*" in *" fetch "*) {body or ":"};; esac\nexec {real} "$@"\n'
    )
    (folder / "git").write_text(script)
    (folder / "git").chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_processes_fetch_a_commit_once_among_them(hub: Hub, many: dict[str, str]) -> None:
    environ = counting_git(hub, "sleep 0.5")
    processes = [fetching(hub, f"github.com/a/b/f@{many['v1']}", **environ) for _ in range(4)]
    assert [process.communicate() for process in processes] == [("v1", "")] * 4
    calls = (hub.root / "calls").read_text().splitlines()
    assert sum(" fetch " in call for call in calls) == 1
    assert list((hub.cache / "work").iterdir()) == []


def test_a_process_killed_while_it_fetches_is_in_nobodys_way(hub: Hub, many: dict[str, str]) -> None:
    locator = f"github.com/a/b/f@{many['v1']}"
    process = fetching(hub, locator, **counting_git(hub, f"touch {hub.root}/fetching; sleep 60"))
    while not (hub.root / "fetching").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    try:
        assert not list((hub.cache / "trees").glob("*/*/*"))
        assert content(hub, locator) == "v1"
        assert list((hub.cache / "work").iterdir()) == []
    finally:
        for left in sleeping(f"{hub.root}"):
            os.killpg(left, signal.SIGKILL)


def sleeping(root: str) -> list[int]:
    """The git of the killed process, which waits before it fetches."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if root.encode() in (folder / "cmdline").read_bytes() and b"fetch" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in found if os.getpgid(pid) == pid]


def test_hooks_and_templates_of_the_user_do_not_run(hub: Hub, many: dict[str, str]) -> None:
    hooks = hub.root / "template" / "hooks"
    hooks.mkdir(parents=True)
    (hooks / "post-checkout").write_text(f"#!/bin/sh\ntouch {hub.root}/hooked\n")
    (hooks / "post-checkout").chmod(0o755)
    hub.git("config", "--global", "init.templateDir", str(hooks.parent))
    hub.git("config", "--global", "core.hooksPath", str(hooks))
    content(hub, "github.com/a/b/f")
    assert not (hub.root / "hooked").exists()


def test_a_git_process_around_this_one_is_not_listened_to(hub: Hub, many: dict[str, str]) -> None:
    hub.environ |= {"GIT_DIR": "/nowhere", "GIT_INDEX_FILE": "/nowhere/index", "GIT_WORK_TREE": "/nowhere"}
    assert content(hub, "github.com/a/b/f") == "main"


def test_commands_as_addresses_are_never_run(hub: Hub) -> None:
    hub.git("config", "--global", f"url.ext::touch {hub.root}/ran #.insteadOf", "https://github.com/evil/")
    hub.git("config", "--global", "protocol.ext.allow", "always")
    assert "transport 'ext' not allowed" in str(error_of(hub, "github.com/evil/b/f"))
    assert not (hub.root / "ran").exists()


def test_links_are_kept_and_lead_nowhere_else(hub: Hub) -> None:
    hub.commit("a/links", {"f": "x", "inside": Path("f"), "outside": Path("/etc/passwd"), "above": Path("../../..")})
    assert content(hub, "github.com/a/links/inside") == "x"
    for name in ("outside", "above"):
        with pytest.raises(PackageError, match=f"`github.com/a/links/{name}` leads out of `github.com/a/links`, to"):
            content(hub, f"github.com/a/links/{name}")


def test_submodules_are_not_fetched(hub: Hub, many: dict[str, str]) -> None:
    work = hub.root / "with-submodule"
    hub.commit("a/outer", {"f": "outer"})
    hub.git("clone", "--quiet", str(hub.root / "a/outer.git"), str(work))
    hub.git(
        "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "https://github.com/a/b", "sub", within=work
    )
    hub.git("commit", "--quiet", "-m", "m", within=work)
    hub.git("push", "--quiet", "origin", "HEAD", within=work)
    hub.git("config", "--global", "submodule.recurse", "true")
    assert content(hub, "github.com/a/outer/f") == "outer"
    with pytest.raises(PackageError, match=r"`github\.com/a/outer/sub/f` does not exist in `github\.com/a/outer`"):
        content(hub, "github.com/a/outer/sub/f")


def test_large_repositories_are_given_up_before_they_are_unpacked(hub: Hub) -> None:
    hub.commit("a/large", {"zeros": "0" * 3_000_000})
    small = Repositories(hub.cache, Git(hub.environ, limit=2 * 1024**2))
    with pytest.raises(PackageError, match=r"`github\.com/a/large` was given up: its files have more than 2 MiB"):
        small.checkout(parse("github.com/a/large"))
    assert list((hub.cache / "work").iterdir()) == []


def test_what_is_small_only_while_it_is_packed_is_given_up(hub: Hub) -> None:
    """Ten directories with ten directories each with ten …, which are all the same one."""
    bare = hub.root / "a" / "bomb.git"
    hub.git("init", "--quiet", "--bare", str(bare))
    kind, name = "100644 blob", hub.git("hash-object", "-w", "--stdin", within=bare, given="x").strip()
    for _ in range(8):
        entries = "".join(f"{kind} {name}\te{number}\n" for number in range(10))
        kind, name = "040000 tree", hub.git("mktree", within=bare, given=entries).strip()
    commit = hub.git("commit-tree", name, "-m", "m", within=bare).strip()
    hub.git("update-ref", "refs/heads/main", commit, within=bare)
    with pytest.raises(PackageError, match=r"`github\.com/a/bomb` was given up: it has"):
        content(hub, "github.com/a/bomb")
    assert list((hub.cache / "work").iterdir()) == []


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(hub: Hub, tmp_path: Path) -> None:
    git = Git({**hub.environ, **counting_git(hub, f"sleep 61 & echo $! > {hub.root}/pid; wait")}, timeout=2.0)
    began = time.monotonic()
    with pytest.raises(GitFailure, match=r"took longer than 2 s"):
        git("fetch", "nowhere", within=tmp_path, over_network=True)
    assert time.monotonic() - began < 10
    pid = int((hub.root / "pid").read_text())
    while runs(pid):
        assert time.monotonic() - began < 10
        time.sleep(0.01)


def runs(pid: int) -> bool:
    """Whether the process has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_the_program_has_to_be_there(hub: Hub) -> None:
    hub.environ["PATH"] = str(hub.root)
    error = error_of(hub, "github.com/a/b/f")
    assert str(error) == "`github.com/a/b` cannot be fetched: there is no program `git` here"
    assert "install git" in error.remedy


def test_a_cache_that_cannot_be_written_is_told(hub: Hub, many: dict[str, str]) -> None:
    (hub.root / "file").write_text("")
    hub.environ["XDG_CACHE_HOME"] = str(hub.root / "file")
    error = error_of(hub, "github.com/a/b/f")
    assert "cannot be kept in" in str(error)
    assert "XDG_CACHE_HOME" in error.remedy


def test_ssh_is_told_not_to_ask(hub: Hub, tmp_path: Path) -> None:
    ssh = hub.root / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(
        f'#!/bin/sh\necho "$@" > {hub.root}/ssh\necho "git@github.com: Permission denied (publickey)." >&2\nexit 255\n'
    )
    ssh.chmod(0o755)
    hub.git("config", "--global", "url.git@github.com:.insteadOf", "https://github.com/private/")
    hub.git("config", "--global", "core.sshCommand", f"{ssh} -v")
    error = error_of(hub, "github.com/private/b/f")
    assert "no repository `github.com/private/b`, or it is private and git has no credentials" in str(error)
    assert "insteadOf" in error.remedy
    assert (hub.root / "ssh").read_text().startswith("-v -o BatchMode=yes")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("fatal: unable to access 'https://github.com/a/b.git/': Could not resolve host: github.com", "network"),
        ("fatal: could not read Username for 'https://github.com': terminal prompts disabled", "refused"),
        ("remote: Repository not found.\nfatal: repository 'https://github.com/a/b.git/' not found", "absent"),
        ("ERROR: Repository not found.\nfatal: Could not read from remote repository.", "absent"),
        ("fatal: remote error: upload-pack: not our ref 0000000000000000000000000000000000000001", "no commit"),
        ("fatal: something new", "other"),
    ],
)
def test_what_git_says(said: str, kind: str) -> None:
    assert GitFailure.of(said).kind == kind


def test_credentials_in_addresses_are_not_shown() -> None:
    assert "t0k3n" not in GitFailure.of("fatal: unable to access 'https://me:t0k3n@github.com/a/b/': 500").said
