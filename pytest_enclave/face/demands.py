"""What a test demands: its markers, laid over the options, over the nearest package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_enclave.enclave.paths import anchored, located

if TYPE_CHECKING:
    from pytest_enclave.enclave.demand import Demand
    from pytest_enclave.face.options import Settings
    from pytest_enclave.run.interpretation import PackageLike

MARKER = (
    "enclave(package=None, *, args=None, main=None, share=None, isolate=False): the environment a test needs. "
    "`package` is a path relative to the test's file, or a locator (`github.com/…`); tests that name the same package "
    "and arguments share one enclave, those with the same share=NAME share that one, isolate=True gives a test a fresh "
    'one, isolate="fork" a copy of the shared one, as it was before any test.'
)
_KEYWORDS = ("package", "args", "main", "share", "isolate")


def check_markers(item: pytest.Item) -> None:
    """Raise pytest.UsageError where a marker is used wrongly."""
    from pytest_enclave.errors import PackageError
    from pytest_enclave.package.arguments import parse_arguments

    marked = _merged(item)
    try:
        parse_arguments(anchored(marked.get("args"), item.path.parent))
    except PackageError as error:
        raise pytest.UsageError(f"{item.nodeid}: enclave(args=…): {error}") from None


def _merged(item: pytest.Item) -> dict[str, Any]:
    """The markers of a test, outermost first, so that inner ones win argument by argument."""
    merged: dict[str, Any] = {}
    for marker in reversed(list(item.iter_markers("enclave"))):
        if len(marker.args) > 1:
            raise pytest.UsageError(f"{item.nodeid}: the marker enclave() takes one positional argument, the package")
        if marker.args and "package" in marker.kwargs:
            raise pytest.UsageError(f"{item.nodeid}: the marker enclave() is given the package twice")
        unknown = [name for name in marker.kwargs if name not in _KEYWORDS]
        if unknown:
            raise pytest.UsageError(
                f"{item.nodeid}: the marker enclave() takes no argument {unknown[0]!r}; it takes {', '.join(_KEYWORDS)}"
            )
        arguments = {**dict(zip(_KEYWORDS, marker.args, strict=False)), **marker.kwargs}
        wrong = wrong_argument({name: value for name, value in arguments.items() if value is not None})
        if wrong:
            raise pytest.UsageError(f"{item.nodeid}: enclave{wrong}")
        merged |= arguments
    if merged.get("share") and merged.get("isolate") is True:
        raise pytest.UsageError(f"{item.nodeid}: a test cannot both share an enclave and be isolated from all others")
    return merged


def wrong_argument(arguments: Mapping[str, Any]) -> str:
    """`(main=3): main must be the name of a function`, for the first that is of a wrong type or empty; else nothing."""
    from pytest_enclave.package.package import Source

    wanted: dict[str, tuple[tuple[type, ...], str]] = {
        "package": ((str, Path, Source), "a path or a Source"),
        "args": ((str, Mapping), "a dict, or JSON or YAML text"),
        "main": ((str,), "the name of a function"),
        "share": ((str,), "a name"),
        "isolate": ((bool, str), 'True, False or "fork"'),
    }
    for name, value in arguments.items():
        types, words = wanted[name]
        empty = value == "" and name != "args"
        unknown = name == "isolate" and isinstance(value, str) and value != "fork"
        if empty or unknown or not isinstance(value, types):
            return f"({name}={value!r}): {name} must be {words}"
    return ""


def demand_of(item: pytest.Item, settings: Settings) -> Demand:
    """The demand of a test: marker over option over ini over the nearest `kurtosis.yml` above its file.

    Raises PackageError where there is no package at all.
    """
    from pytest_enclave.enclave.demand import Demand
    from pytest_enclave.errors import PackageError
    from pytest_enclave.run.interpretation import Request

    marked, here = _merged(item), item.path.parent
    package: PackageLike | None
    package = settings.package or nearest_package(here, item.config.rootpath)
    if marked.get("package") is not None:
        package = located(marked["package"], here)
    if package is None:
        raise PackageError(
            f"{item.nodeid} asks for an enclave, and names no package",
            remedy="name one with --enclave-package=PATH or @pytest.mark.enclave(PATH), "
            "or put a kurtosis.yml above the test",
        )
    args = anchored(marked.get("args"), here)
    request = Request.of(package, settings.args if args is None else args, marked.get("main") or settings.main)
    return Demand(request, marked.get("share"), marked.get("isolate") or False, here)


def may_fork(item: pytest.Item) -> bool:
    """Whether a marker of the test, or one round it, says `isolate="fork"`; cheap, for it is asked of every test."""
    return any(marker.kwargs.get("isolate") == "fork" for marker in item.iter_markers("enclave"))


def nearest_package(directory: Path, root: Path) -> Path | None:
    """The nearest directory with a `kurtosis.yml`, from this one upwards, not above the root."""
    for candidate in (directory, *directory.parents):
        if (candidate / "kurtosis.yml").is_file():
            return candidate
        if candidate == root:
            return None
    return None
