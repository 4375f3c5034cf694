"""From locators to files, for one interpretation: in the package, in what replaces others, or in other repositories."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_enclave.errors import PackageError, Problem
from pytest_enclave.package import locators, manifest
from pytest_enclave.package.files import FileState
from pytest_enclave.package.git.repositories import Checkout, Repositories
from pytest_enclave.package.locators import Locator
from pytest_enclave.package.package import Found, Package, Resolver
from pytest_enclave.package.replacing import LocalPath, replaced
from pytest_enclave.package.tree import Tree


class NeedFetch(Exception):
    """Something has to be fetched first, in the process that this one was forked from: see `Finder.fetch`."""

    def __init__(self, readings: tuple[Locator, ...]) -> None:
        super().__init__(readings)
        self.readings = readings


class Finder:
    """Finds files. `states` are those of the manifests it read; `warnings`, by text, what users should know.

    `waited` is how many seconds were spent on other repositories; `lasts` tells that the main package and what replaces
    others is all that there was to find: elsewhere a branch may move without a file being changed.
    """

    def __init__(self, package: Package, resolve: Resolver | None = None, others: Repositories | None = None) -> None:
        self.states: list[FileState] = []
        self.warnings: dict[str, Problem] = {problem.message: problem for problem in package.warnings}
        self.waited = 0.0
        self.lasts = not package.is_fetched
        self._fetches = True
        self._failed: dict[tuple[Locator, ...], PackageError] = {}
        self._package = package
        self._resolve = resolve
        self._others = others
        self._found: dict[tuple[str, str, bool], Found] = {}
        self._locators: dict[str, Locator] = {}
        self._others_files: set[str] = set()
        self._manifests: set[tuple[Path, str]] = set()

    def find(self, locator: str, caller: str, in_package: bool = False) -> Found:
        """The file or directory that a locator written in the file `caller` stands for (behaviour.md §3.4).

        Raises PackageError where it is malformed, leads out of its repository, or leads nowhere; with `in_package`,
        also for what is in a repository, but in no package there.
        """
        key = (locator, caller, in_package)
        if key not in self._found:
            self._found[key] = self._find(locator, caller, in_package)
        return self._found[key]

    def is_fetched(self, name: str) -> bool:
        """Whether the file of that name came through git: what its author wants is not what the user has written."""
        return self._package.is_fetched or name in self._others_files

    def is_at_hand(self, locator: str, caller: str) -> bool:
        """Whether it can be looked for without a network. Raises PackageError where it is malformed."""
        readings = self._readings(locator, caller)
        substitute = self._substitute(readings[0]) if readings else None
        if isinstance(substitute, LocalPath) or not readings:
            return True
        wanted = (substitute or readings)[0]
        if self._below_package(wanted) is not None or self._own_repository(wanted) or self._others is None:
            return True
        return self._others.are_at_hand([wanted])

    def fetch_no_more(self) -> None:
        """Raise NeedFetch from now on: for a fork, which could neither be waited for nor leave no process behind."""
        self._fetches = False
        if self._others is not None:
            self._others.unlock()

    def fetch(self, readings: tuple[Locator, ...]) -> None:
        """Fetch what a fork needs; where that fails, the next fork will be told why."""
        with contextlib.suppress(PackageError):
            self._checkout(readings)

    def _find(self, locator: str, caller: str, in_package: bool) -> Found:
        readings = self._readings(locator, caller)
        substitute = self._substitute(readings[0]) if readings else None
        if isinstance(substitute, LocalPath):
            return self._replacement(locator, substitute, in_package)
        readings = substitute or readings
        own = self._below_package(readings[0]) if readings else locator
        if own is not None:
            return Found(own or ".", self._package.tree(locator).existing(locator, own))
        self.lasts = False
        return self._elsewhere(locator, caller, readings, in_package)

    def _readings(self, locator: str, caller: str) -> tuple[Locator, ...]:
        """What it may mean, likeliest first; nothing for a relative locator in a script that stands alone."""
        locators.refuse_malformed(locator)
        if locators.is_remote(locator):
            readings = locators.parse(locator)
            if caller not in self._locators and self._package.name:
                self._refuse_own(locator, readings[0], self._package.name)
            return readings
        base = self._locators.get(caller) or self._own(caller)
        if base is None:
            return ()
        target = base.relative(locator)
        if target is None:
            raise self._outside(locator, caller, base)
        return (target,)

    def _own(self, caller: str) -> Locator | None:
        package = self._package.locator
        return package and Locator(package.repository, f"{package.path}/{caller}".lstrip("/"))

    def _outside(self, locator: str, caller: str, base: Locator) -> PackageError:
        package = self._package.locator
        if caller in self._locators or (package and package.path):
            return PackageError(f"`{locator}` leads out of the repository `{base.repository}`")
        return PackageError(
            f"`{locator}` leads out of the package, above its root",
            remedy="packages see nothing outside their own directory; `/` is the package's root",
        )

    def _refuse_own(self, locator: str, target: Locator, package: str) -> None:
        if target.below(package) is not None:
            raise PackageError(
                f"`{locator}` lies in this package itself, which takes relative locators only",
                remedy=f"write `/{target.path}`",
            )

    def _below_package(self, locator: Locator) -> str | None:
        """The path in the main package; None for what lies elsewhere."""
        return None if locator.version or not self._package.name else locator.below(self._package.name)

    def _substitute(self, locator: Locator) -> tuple[Locator, ...] | LocalPath | None:
        """What `replace` says of it; of the main package's own files, only what it says of packages inside."""
        package = self._package.name
        own = self._below_package(locator) is not None
        rules: Mapping[str, str] = self._package.replace
        if own and package:
            rules = {name: by for name, by in rules.items() if name.lower().startswith(f"{package}/".lower())}
        found = replaced(locator, rules)
        if isinstance(found, LocalPath) and self._package.is_fetched and not self._is_inside(found.directory):
            message = (
                f"{self._package.title} replaces `{found.package}` by the path `{found.directory}`, which is nowhere "
                "in its repository: the package itself is used"
            )
            self.warnings[message] = Problem(message, severity="warning")
            return None
        return found

    def _is_inside(self, directory: str) -> bool:
        root, repository = self._package.root, self._package.repository
        path = root and (root / directory).resolve()
        return bool(path and repository and path.is_relative_to(repository) and path.is_dir())

    def _replacement(self, locator: str, by: LocalPath, in_package: bool) -> Found:
        directory = (self._package.tree(locator).directory / by.directory).resolve()
        if not directory.is_dir():
            raise PackageError(
                f"`{by.package}` is replaced by `{by.directory}`, which is no directory (looked for {directory})",
                remedy="the path is relative to the directory of `kurtosis.yml`",
            )
        tree = Tree(directory, f"`{by.directory}`, which replaces `{by.package}`")
        parts = by.package.split("/")
        target = Locator("/".join(parts[:3]), "/".join([*parts[3:], *filter(None, [by.path])]))
        path = tree.existing(locator, by.path)
        if in_package:
            self._require_manifest(tree, by.path, locator, None)
        return self._named(target, path)

    def _elsewhere(self, locator: str, caller: str, readings: Sequence[Locator], in_package: bool) -> Found:
        path = self._resolve(str(readings[0]), caller) if self._resolve else None
        if path is not None:
            return self._named(readings[0], path)
        tree, target = self._tree(locator, readings)
        if self._own_repository(readings[0]) is None:
            self._others_files.add(str(target))
        path = tree.existing(locator, target.path)
        if in_package:
            self._require_manifest(tree, target.path, locator, target.repository)
        return self._named(target, path)

    def _tree(self, locator: str, readings: Sequence[Locator]) -> tuple[Tree, Locator]:
        if directory := self._own_repository(readings[0]):
            return Tree(directory, f"the repository `{readings[0].repository}`, in {directory}"), readings[0]
        if self._others is None:
            raise PackageError(f"`{locator}` is in `{readings[0].repository}`, and nothing is fetched here")
        checkout = self._checkout(tuple(readings))
        if checkout.warning:
            self.warnings[checkout.warning] = Problem(checkout.warning, severity="warning")
        return checkout.tree, checkout.locator

    def _checkout(self, readings: tuple[Locator, ...]) -> Checkout:
        if self._others is None:
            raise PackageError(f"`{readings[0]}` is in `{readings[0].repository}`, and nothing is fetched here")
        if readings in self._failed:
            failed = self._failed[readings]
            raise PackageError(failed.message, location=failed.location, remedy=failed.remedy)
        if not self._fetches and not self._others.are_at_hand(readings):
            raise NeedFetch(readings)
        began = time.monotonic()
        try:
            return self._others.checkout(readings)
        except PackageError as error:
            self._failed[readings] = error
            raise
        finally:
            self.waited += time.monotonic() - began

    def _own_repository(self, locator: Locator) -> Path | None:
        """The directory of the main package's own repository, if that is at hand and this lies in it."""
        package = self._package.locator
        same = package is not None and package.repository.lower() == locator.repository.lower()
        return self._package.repository if same and not locator.version else None

    def _named(self, locator: Locator, path: Path) -> Found:
        self._locators[str(locator)] = locator
        return Found(str(locator), path)

    def _require_manifest(self, tree: Tree, path: str, locator: str, repository: str | None) -> None:
        """Raise PackageError unless some directory from the root to the file makes a package of it.

        The uppermost `kurtosis.yml` counts; where the repository's name is given, its `name` must say where it is.
        """
        folders = path.split("/")[:-1]
        for depth in range(len(folders) + 1):
            folder = "/".join(folders[:depth])
            file = tree.directory / folder / manifest.FILE
            if file.is_file():
                if (tree.directory, folder) not in self._manifests:
                    self._check_manifest(tree, folder, repository)
                    self._manifests.add((tree.directory, folder))
                return
        raise PackageError(
            f"`{locator}` is in no package: there is no `{manifest.FILE}` in {tree.title}, from its root to the file",
            remedy="only `plan.upload_files` takes files from outside of packages",
        )

    def _check_manifest(self, tree: Tree, folder: str, repository: str | None) -> None:
        place = f"{repository}/{folder}".rstrip("/") if repository else folder
        shown = f"{place}/{manifest.FILE}".lstrip("/")
        described = manifest.read(tree.inside(shown, f"{folder}/{manifest.FILE}".lstrip("/")), shown)
        self.states.append(described.state)
        if repository:
            manifest.refuse_other_place(described, place, shown)
