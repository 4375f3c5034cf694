"""What paths in a request are relative to: the file of the test that makes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_enclave.run.interpretation import PackageLike


def located(package: PackageLike, here: Path) -> PackageLike:
    """The package with its path made absolute; locators of other packages stay as they are."""
    from pytest_enclave.package.locators import is_remote

    if is_remote(package):
        return package
    return here / package if isinstance(package, (str, Path)) else package


def anchored(args: Any, here: Path) -> Any:
    """The arguments, where `@FILE` with its path made absolute."""
    return f"@{here / args[1:]}" if isinstance(args, str) and args.startswith("@") else args
