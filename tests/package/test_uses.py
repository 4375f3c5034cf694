"""Fetched commits that nobody has used for long are removed; none that is in use is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from filelock import FileLock

from pytest_enclave.errors import PackageError
from pytest_enclave.package.git.repositories import Repositories
from pytest_enclave.package.git.uses import DAY, KEPT, Uses
from pytest_enclave.package.load import load
from pytest_enclave.package.locators import Locator
from tests.package.hub import Hub


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    hub = Hub(tmp_path / "hub")
    for name in ("a/a", "a/b", "a/c"):
        hub.commit(name, {"f": name})
    return hub


def fetch(hub: Hub, *names: str) -> list[Path]:
    """The trees of these repositories, as a new session has them."""
    repositories = Repositories.of(hub.environ)
    return [repositories.checkout([Locator(f"github.com/{name}")]).tree.directory for name in names]


def use_of(hub: Hub, tree: Path) -> Path:
    return hub.cache / "uses" / "-".join(tree.parts[-3:])


def age(seconds: float, *paths: Path) -> None:
    for path in paths:
        os.utime(path, (time.time() - seconds, time.time() - seconds))


def test_what_was_used_long_ago_goes_when_something_else_is_fetched(hub: Hub) -> None:
    old, newer = fetch(hub, "a/a", "a/b")
    for tree, seconds in ((old, KEPT + DAY), (newer, KEPT - DAY)):
        age(seconds, tree, use_of(hub, tree))
    age(2 * DAY, hub.cache / "uses" / "pruned")
    fetch(hub, "a/c")
    assert not old.exists()
    assert not use_of(hub, old).exists()
    assert newer.is_dir()
    assert list((hub.cache / "work").iterdir()) == []


def test_it_is_fetched_again_when_it_is_asked_for(hub: Hub) -> None:
    (old,) = fetch(hub, "a/a")
    age(KEPT + DAY, old, use_of(hub, old))
    age(2 * DAY, hub.cache / "uses" / "pruned")
    fetch(hub, "a/c")
    assert [(tree / "f").read_text() for tree in fetch(hub, "a/a")] == ["a/a"]


def test_using_it_again_keeps_it_and_leaves_its_files_as_they_were(hub: Hub) -> None:
    (old,) = fetch(hub, "a/a")
    age(KEPT + DAY, old, use_of(hub, old))
    before = old.stat().st_mtime_ns
    assert fetch(hub, "a/a") == [old]
    assert old.stat().st_mtime_ns == before
    age(2 * DAY, hub.cache / "uses" / "pruned")
    fetch(hub, "a/c")
    assert old.is_dir()


def test_it_is_looked_for_once_a_day(hub: Hub) -> None:
    (old,) = fetch(hub, "a/a")
    age(KEPT + DAY, old, use_of(hub, old))
    fetch(hub, "a/b")
    assert old.is_dir()


def test_what_another_process_is_about_to_use_stays(hub: Hub) -> None:
    (old,) = fetch(hub, "a/a")
    age(KEPT + DAY, old, use_of(hub, old))
    age(2 * DAY, hub.cache / "uses" / "pruned")
    with FileLock(hub.cache / "locks" / f"{'-'.join(old.parts[-3:])}.lock"):
        fetch(hub, "a/c")
    assert old.is_dir()


def test_it_is_used_when_seen_so_with_the_lock_held(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    (old,) = fetch(hub, "a/a")
    age(KEPT + DAY, old, use_of(hub, old))
    looks = iter([True, False])
    monkeypatch.setattr(Uses, "_idle", lambda *_: next(looks))
    age(2 * DAY, hub.cache / "uses" / "pruned")
    Uses(hub.cache).prune()
    assert old.is_dir()


def test_what_older_versions_fetched_counts_from_then(hub: Hub) -> None:
    old, newer = fetch(hub, "a/a", "a/b")
    for tree, seconds in ((old, KEPT + DAY), (newer, KEPT - DAY)):
        use_of(hub, tree).unlink()
        age(seconds, tree)
    age(2 * DAY, hub.cache / "uses" / "pruned")
    Uses(hub.cache).prune()
    assert [old.exists(), newer.exists()] == [False, True]


def test_a_cache_that_cannot_be_written_is_used_as_it_is(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    (old,) = fetch(hub, "a/a")
    age(KEPT + DAY, use_of(hub, old))

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Repositories, "_folder", refused)
    commit = old.name
    found = Repositories.of(hub.environ).checkout([Locator("github.com/a/a", version=commit)])
    assert found.tree.directory == old


def test_repositories_that_use_sha_256(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.environ["GIT_DEFAULT_HASH"] = "sha256"
    commit = hub.commit("long/names", {"f": "long"})
    assert len(commit) == 64
    for version in ("", commit, "main"):
        checkout = Repositories.of(hub.environ).checkout([Locator("github.com/long/names", version=version)])
        assert ((checkout.tree.directory / "f").read_text(), checkout.commit) == ("long", commit)
    assert fetch(hub, "a/a")  # whose commits are short, whatever the user prefers for new ones
    with pytest.raises(PackageError) as caught:
        Repositories.of(hub.environ).checkout([Locator("github.com/long/names", version=commit[:50])])
    assert caught.value.remedy == "a commit is named by all of its 64 digits"


def test_a_manifest_that_leads_out_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.yml").write_text("name: github.com/a/b\n")
    root = tmp_path / "package"
    root.mkdir()
    (root / "main.star").write_text("def run(plan):\n    pass\n")
    (root / "kurtosis.yml").symlink_to("../elsewhere.yml")
    for target in (root, root / "main.star"):
        with pytest.raises(PackageError) as caught:
            load(target)
        assert caught.value.message == (
            f"`kurtosis.yml` leads out of the package in {root}, to {tmp_path / 'elsewhere.yml'}"
        )
        assert "copy the file into the package" in caught.value.remedy


def test_a_fetched_manifest_that_leads_out_of_its_repository(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "secret.yml").write_text("name: github.com/x/y\n")
    hub.commit("x/y", {"main.star": "def run(plan):\n    pass\n", "kurtosis.yml": tmp_path / "secret.yml"})
    with pytest.raises(PackageError) as caught:
        load("github.com/x/y", others=Repositories.of(hub.environ))
    assert caught.value.message == (
        f"`github.com/x/y/kurtosis.yml` leads out of `github.com/x/y`, to {tmp_path / 'secret.yml'}"
    )


def test_a_manifest_may_be_a_link_within_the_package(tmp_path: Path) -> None:
    (tmp_path / "real.yml").write_text("name: github.com/a/b\n")
    (tmp_path / "kurtosis.yml").symlink_to("real.yml")
    (tmp_path / "main.star").write_text("def run(plan):\n    pass\n")
    assert load(tmp_path).name == "github.com/a/b"
