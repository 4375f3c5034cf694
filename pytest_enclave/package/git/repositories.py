"""Repositories on github.com, as directories: each commit is fetched once, and kept in the user's cache.

trees/author/name/COMMIT/     the files of a commit; complete, as it is renamed into place
versions/author/name.….json   what tags and branches there were when it was last asked
locks/                        one for each commit, held while it is fetched or removed
uses/                         one file for each commit: when it was last used, to a day
work/                         half of a fetch; whatever a killed process left goes with the next fetch of that commit
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from pytest_enclave import cache
from pytest_enclave.errors import PackageError
from pytest_enclave.package.git.command import Git
from pytest_enclave.package.git.failures import GitFailure
from pytest_enclave.package.git.uses import Uses
from pytest_enclave.package.git.versions import Versions
from pytest_enclave.package.locators import HOST, Locator
from pytest_enclave.package.tree import Tree

FILES_LIMIT = 100_000
"""Files that a commit may have."""


class Checkout(msgspec.Struct, frozen=True):
    """The files of one commit, and what was asked for. `warning` tells that the version may have moved since."""

    tree: Tree
    locator: Locator
    commit: str
    warning: str = ""


def default_root(environ: Mapping[str, str]) -> Path:
    """Where fetched commits are kept: below the user's cache directory. Raises EnclaveError where there is none."""
    return cache.directory(environ, "git")


class Repositories:
    """Fetches what is not there yet. Tags and branches are asked for at most once in the life of this object.

    Safe to use from several threads and, with the same `root`, from several processes. Where that is, is only asked
    when something is needed, and may raise.
    """

    def __init__(self, root: Path | Callable[[], Path], git: Git) -> None:
        self._where = root
        self._git = git
        self._began = time.time()
        self._lock = threading.RLock()
        self._versions: dict[str, Versions] = {}

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Repositories:
        """Those of the user with this environment."""
        return cls(partial(default_root, environ), Git(environ))

    @property
    def _root(self) -> Path:
        return self._where if isinstance(self._where, Path) else self._where()

    def checkout(self, readings: Sequence[Locator]) -> Checkout:
        """The commit that one of these locators names, the first whose version there is.

        Raises PackageError where there is none, or it cannot be fetched.
        """
        with self._lock:
            try:
                return self._checkout(readings)
            except OSError as error:
                raise PackageError(
                    f"`{readings[0].repository}` cannot be kept in {self._root}: {error.strerror or error}",
                    remedy="set XDG_CACHE_HOME to a directory that can be written",
                ) from None

    def are_at_hand(self, readings: Sequence[Locator]) -> bool:
        """Whether `checkout` can do without a network, as far as is known by now."""
        with self._lock:
            for locator in readings:
                versions = self._versions_of(locator.repository)
                if not versions.is_known(locator.version):
                    return False
                try:
                    commit = versions.commit(locator.version)
                except PackageError:
                    return True
                if commit is not None:
                    return self._tree(locator.repository, commit).is_dir()
            return True

    def unlock(self) -> None:
        """Be usable in a fork of this process, whatever another thread was doing when it was made."""
        self._lock = threading.RLock()

    def _checkout(self, readings: Sequence[Locator]) -> Checkout:
        repository = readings[0].repository
        versions = self._versions_of(repository)
        for locator in readings:
            commit = versions.commit(locator.version)
            if commit is not None:
                directory = self._fetched(repository, commit)
                title = f"`{repository}`" + (f" at `{locator.version}`" if locator.version else "")
                return Checkout(Tree(directory, title), locator, commit, versions.warning(locator.version))
        raise versions.unknown(readings[0].version)

    def _versions_of(self, repository: str) -> Versions:
        key = repository.lower()
        if key not in self._versions:

            def list_remote(default: bool) -> str:
                address = _address(repository)
                wanted = (address, "HEAD") if default else ("--heads", "--tags", address)
                with tempfile.TemporaryDirectory(dir=self._folder("work")) as folder:
                    return self._git("ls-remote", *wanted, within=Path(folder), over_network=True)

            file = self._root / "versions" / Path(*key.split("/")[1:])
            self._versions[key] = Versions(repository, file, list_remote, self._began)
        return self._versions[key]

    def _fetched(self, repository: str, commit: str) -> Path:
        tree = self._tree(repository, commit)
        name = "-".join([*repository.lower().split("/")[1:], commit])
        uses = Uses(self._root)
        if tree.is_dir() and uses.is_recent(name):
            return tree.resolve()
        from filelock import FileLock

        try:
            with FileLock(self._folder("locks") / f"{name}.lock"):
                uses.note(name)
                if not tree.is_dir():
                    uses.prune()
                    self._fetch_into(tree, repository, commit, name)
        except OSError:
            if not tree.is_dir():
                raise
        return tree.resolve()

    def _fetch_into(self, tree: Path, repository: str, commit: str, name: str) -> None:
        work = self._folder("work")
        for left in work.glob(f"{name}.*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=work))
        try:
            self._fetch(repository, commit, folder)
            shutil.rmtree(folder / ".git")
            folder.chmod(0o755)
            tree.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(tree)
        except GitFailure as failure:
            if failure.kind == "no commit":
                raise PackageError(f"`{repository}` has no commit `{commit}`") from None
            raise failure.error(repository) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _fetch(self, repository: str, commit: str, folder: Path) -> None:
        """Have the commit's files in the folder, and a `.git` beside them."""
        git = self._git
        object_format = "sha1" if len(commit) == 40 else "sha256"
        git("init", "--quiet", "--template=", within=folder, object_format=object_format)
        git("remote", "add", "origin", _address(repository), within=folder)
        fetch = ("fetch", "--quiet", "--no-tags")
        try:
            git(*fetch, "--depth=1", "origin", commit, within=folder, over_network=True)
        except GitFailure as failure:
            if failure.kind != "unadvertised":
                raise
            everything = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
            git(*fetch, "origin", *everything, within=folder, over_network=True)
        self._refuse_excess(git("ls-tree", "-r", "-l", "-z", commit, within=folder))
        git("checkout", "--quiet", "--detach", commit, within=folder)

    def _refuse_excess(self, listing: str) -> None:
        """Count before anything is unpacked: what is small when packed need not be so."""
        entries = listing.split("\0")[:-1]
        sizes = [entry.partition("\t")[0].split()[-1] for entry in entries]
        if len(entries) > FILES_LIMIT:
            raise GitFailure("large", f"it has more than {FILES_LIMIT:,} files")
        if sum(int(size) for size in sizes if size.isdigit()) > self._git.limit:
            raise GitFailure("large", f"its files have more than {self._git.limit // 1024**2} MiB")

    def _tree(self, repository: str, commit: str) -> Path:
        return self._root / "trees" / Path(*repository.lower().split("/")[1:]) / commit

    def _folder(self, name: str) -> Path:
        folder = self._root / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder


def _address(repository: str) -> str:
    author, name = repository.split("/")[1:]
    return f"https://{HOST}/{author}/{name}.git"
