"""A package named on the command line is a test item: its run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_enclave.face.demands import demand_of
from pytest_enclave.face.session import SESSION
from pytest_enclave.face.star_tests import SUFFIX, StarTestFile, are_wanted, is_script


def collect(file_path: Path, parent: pytest.Collector) -> PackageFile | StarTestFile | None:
    """The collector for a file of unit tests, or for a package or script that was named on the command line."""
    if file_path.name != "kurtosis.yml" and file_path.suffix != ".star":
        return None
    paths = named(parent.config)
    by_name = str(file_path) in paths
    if file_path.name.endswith(SUFFIX) and not (by_name and is_script(file_path)):
        if not are_wanted(file_path, parent.config, named=by_name):
            return None
        tests: StarTestFile = StarTestFile.from_parent(parent, path=file_path, named=by_name)
        return tests
    of_directory = file_path.name == "kurtosis.yml" and str(file_path.parent) in paths
    if not by_name and not of_directory:
        return None
    made: PackageFile = PackageFile.from_parent(parent, path=file_path)
    return made


def named(config: pytest.Config) -> list[str]:
    """The paths that were named on the command line; those of the ini file, or the working directory, do not count.

    xdist names all of them to its workers, which therefore have to be told.
    """
    told: list[str] | None = getattr(config, "workerinput", {}).get("enclave_named")
    if told is not None or config.args_source is not pytest.Config.ArgsSource.ARGS:
        return told or []
    return [str((config.invocation_params.dir / argument.split("::")[0]).resolve()) for argument in config.args]


class PackageFile(pytest.File):
    """A package; it has one item."""

    def collect(self) -> Iterator[PackageItem]:
        """The item."""
        package = self.path.parent if self.path.name == "kurtosis.yml" else self.path
        item: PackageItem = PackageItem.from_parent(self, name="run")
        item.add_marker(pytest.mark.enclave(package))
        yield item


class PackageItem(pytest.Item):
    """The run of a package: it passes if the run ends well."""

    def setup(self) -> None:
        """Run the package, in the enclave that tests of the same package share.

        Here and not in `runtest`, so that a failed check is told as FAILED, anything else as ERROR, as with fixtures.
        """
        if self.config.option.setupplan:
            return
        session = self.config.stash[SESSION]
        session.obtain(demand_of(self, session.settings), own=True)

    def runtest(self) -> None:
        """Nothing is left to do: the run ended well."""

    def reportinfo(self) -> tuple[Path, int, str]:
        """The package's file."""
        return self.path, 0, f"{self.path.parent.name}: run"


def needs_enclave(item: pytest.Item) -> bool:
    """Whether the test asks for an enclave by itself."""
    return isinstance(item, PackageItem) or "enclave" in getattr(item, "fixturenames", ())
