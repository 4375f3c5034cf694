"""What a test demands: its markers, laid over the options, over the nearest package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    'one, isolate="module" or "class" the tests of its module or class one, isolate="fork" gives a test a copy of the '
    "shared one, as it was before any test."
)
_KEYWORDS = ("package", "args", "main", "share", "isolate")
_SCOPES: dict[str, type[pytest.Collector]] = {"module": pytest.Module, "class": pytest.Class}


def check_all_markers(items: Iterable[pytest.Item]) -> None:
    """Raise one pytest.UsageError for all markers that are used wrongly, with a line for each fault."""
    faults: dict[str, list[str]] = {}
    for item in items:
        if item.get_closest_marker("enclave") is not None:
            try:
                check_markers(item)
            except pytest.UsageError as error:
                faults.setdefault(str(error).removeprefix(item.nodeid), []).append(item.nodeid)
    if faults:
        raise pytest.UsageError(*(f"{_and_more(tests)}{text}" for text, tests in faults.items()))


def _and_more(tests: Sequence[str]) -> str:
    first, *others = tests
    return f"{first} and {len(others)} more" if others else first


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
                f"{item.nodeid}: the marker enclave() takes no argument {unknown[0]!r}; {_instead_of(unknown[0])}"
            )
        arguments = {**dict(zip(_KEYWORDS, marker.args, strict=False)), **marker.kwargs}
        wrong = wrong_argument({name: value for name, value in arguments.items() if value is not None}, _SCOPES)
        if wrong:
            raise pytest.UsageError(f"{item.nodeid}: enclave{wrong}")
        merged |= arguments
    isolate = merged.get("isolate")
    if merged.get("share") and isolate and isolate != "fork":
        others = (
            f"those of other {'classes' if isolate == 'class' else 'modules'}" if isolate in _SCOPES else "all others"
        )
        raise pytest.UsageError(f"{item.nodeid}: a test cannot both share an enclave and be isolated from {others}")
    if isolate in _SCOPES and item.getparent(_SCOPES[isolate]) is None:
        raise pytest.UsageError(f'{item.nodeid}: enclave(isolate="{isolate}"): the test is in no {isolate}')
    return merged


def _instead_of(name: str) -> str:
    """What might have been meant, or all there is."""
    from difflib import get_close_matches

    alike = get_close_matches(name, _KEYWORDS, 1)
    return f"did you mean {alike[0]!r}?" if alike else f"it takes {', '.join(_KEYWORDS)}"


def wrong_argument(arguments: Mapping[str, Any], scopes: Iterable[str] = ()) -> str:
    """`(main=3): main must be the name of a function`, for the first that is of a wrong type or empty; else nothing.

    `scopes` are those in which tests may be isolated together.
    """
    from pytest_enclave.package.package import Source

    wanted: dict[str, tuple[tuple[type, ...], str]] = {
        "package": ((str, Path, Source), "a path or a Source"),
        "args": ((str, Mapping), "a dict, or JSON or YAML text"),
        "main": ((str,), "the name of a function"),
        "share": ((str,), "a name"),
        "isolate": ((bool, str), ", ".join(["True", "False", *(f'"{name}"' for name in scopes)]) + ' or "fork"'),
    }
    for name, value in arguments.items():
        types, words = wanted[name]
        empty = value == "" and name != "args"
        unknown = name == "isolate" and isinstance(value, str) and value not in ("fork", *scopes)
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
    isolate: Any = marked.get("isolate") or False
    if isolate not in _SCOPES:
        return Demand(request, marked.get("share"), isolate, here)
    scope = item.getparent(_SCOPES[isolate])
    assert scope is not None  # a marker that says otherwise is wrong
    return Demand(request, here=here, scope=scope.nodeid)


class Demands:
    """The demands of a session's tests: one for all in the same directory that have the same markers."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: dict[tuple[Path, tuple[int, ...]], tuple[Demand, list[pytest.Mark]]] = {}

    def of(self, item: pytest.Item) -> Demand:
        """The demand of a test. Raises PackageError where there is no package at all."""
        marks = list(item.iter_markers("enclave"))
        key = item.path.parent, tuple(map(id, marks))
        if key in self._known:
            return self._known[key][0]
        demand = demand_of(item, self._settings)
        if not demand.scope:
            # With the markers, so that no others get their ids.
            self._known[key] = demand, marks
        return demand


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
