"""`kurtosis.yml`: strictly read, each mistake told with its place (behaviour.md §3.4)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from pytest_enclave.errors import PackageError
from pytest_enclave.golang.yaml import Problem, StrictDocument, StrictYamlError, YamlError, load_strict, second_document
from pytest_enclave.package.files import FileState, read_text
from pytest_enclave.package.locators import HOST, parse
from pytest_enclave.source import Location

FILE = "kurtosis.yml"

_NAME = re.compile(rf"{re.escape(HOST)}(/[A-Za-z0-9._~-]+){{2,}}", re.IGNORECASE)
_TEXTS, _MAPS = ("name", "description"), ("replace",)
_REMEDY = f"write `name: {HOST}/author/repository`"
_VERSIONED = "whatever version is asked for is replaced: write the name without one"
_UNKNOWN = re.compile(r"field (.+) not found", re.DOTALL)
_REPEATED = re.compile(r"(?:field (.+) already set|key \"(.+)\" already set in map)", re.DOTALL)
_LINE = re.compile(r"(?:yaml: )?line (\d+): ")


class Manifest(msgspec.Struct, frozen=True):
    """What a package says of itself, and the state of the file it says it in.

    `replace` maps package names to what stands in for them: packages, with a version or without, or local paths.
    """

    name: str
    state: FileState
    description: str = ""
    replace: Mapping[str, str] = msgspec.field(default_factory=dict)


def read(path: Path, shown: str = FILE) -> Manifest:
    """The manifest at `path`; errors name the file as `shown`.

    Raises PackageError, placed as exactly as the mistake can be.
    """
    text, state = read_text(path, shown)
    try:
        document = load_strict(text, texts=_TEXTS, maps=_MAPS)
    except StrictYamlError as error:
        raise _misshapen(error.problems, shown) from None
    except YamlError as error:
        line = _LINE.match(str(error))
        reason = _LINE.sub("", str(error), count=1).removeprefix("yaml: ")
        place = Location(shown, int(line[1]) if line else 0)
        raise PackageError(f"not valid YAML: {reason}", location=place) from None
    if second := second_document(text):
        raise PackageError(
            "a second YAML document begins here",
            location=Location(shown, second),
            remedy="keep one, without `---` after it",
        )
    name = _package_name(document, shown)
    replace = document.maps.get("replace", {})
    for package, stand_in in replace.items():
        _refuse_replacement(package, stand_in, document, shown)
    return Manifest(name, state, document.texts.get("description", ""), replace)


def refuse_other_place(described: Manifest, place: str, shown: str = FILE) -> None:
    """Raise PackageError where a package is not called by the place in its repository, `github.com/author/name/…`."""
    if described.name.lower() != place.lower():
        raise PackageError(
            f"`name` is `{described.name}`, but this file is at `{place}`",
            location=Location(shown),
            remedy=f"the package's author has to write `name: {place}`",
        )


def is_local(stand_in: str) -> bool:
    """Whether what stands in for a package is a path on this machine."""
    return stand_in.startswith((".", "/"))


def _refuse_replacement(package: str, stand_in: str, document: StrictDocument, shown: str) -> None:
    position = document.positions.get(("replace", package))
    place = Location(shown, position.line, position.column) if position else Location(shown)
    if not _NAME.fullmatch(package):
        message = f"`replace` names `{package}`, which is not of the form `{HOST}/author/repository`"
        raise PackageError(message, location=place, remedy=_VERSIONED if "@" in package else "")
    if is_local(stand_in):
        return
    if not stand_in.lower().startswith(f"{HOST}/"):
        raise PackageError(
            f"`{package}` is replaced by `{stand_in}`, which is neither a package nor a path",
            location=place,
            remedy=f"write `{HOST}/author/repository@version`, or a path that begins with `.` or `/`",
        )
    try:
        parse(stand_in)
    except PackageError as error:
        raise PackageError(error.message, location=place, remedy=error.remedy) from None


def _misshapen(problems: tuple[Problem, ...], shown: str) -> PackageError:
    """The first problem where it is, the others behind it."""
    first, *others = problems
    also = "".join(f"; line {problem.position.line}: {_in_words(problem)[0]}" for problem in others)
    message, remedy = _in_words(first)
    place = Location(shown, first.position.line, first.position.column)
    return PackageError(message + also, location=place, remedy=remedy)


def _in_words(problem: Problem) -> tuple[str, str]:
    """Message and remedy."""
    if unknown := _UNKNOWN.fullmatch(problem.text):
        known = (*_TEXTS, *_MAPS)
        near = difflib.get_close_matches(unknown[1], known, 1)
        remedy = f"did you mean `{near[0]}`?" if near else f"known keys are {', '.join(f'`{key}`' for key in known)}"
        return f"unknown key `{unknown[1]}`", remedy
    if repeated := _REPEATED.fullmatch(problem.text):
        return f"the key `{repeated[1] or repeated[2]}` is there twice", "remove one of them"
    if problem.text.endswith("into a mapping"):
        return "the file must hold keys with values", _REMEDY
    wanted = "a mapping of strings to strings" if "map[string]" in problem.text else "a string"
    return f"must be {wanted}", ""


def _package_name(document: StrictDocument, shown: str) -> str:
    position = document.positions.get(("name",))
    place = Location(shown, position.line, position.column) if position else Location(shown)
    name = document.texts.get("name", "")
    if not name:
        raise PackageError("`name` is empty" if position else "`name` is missing", location=place, remedy=_REMEDY)
    if name.endswith("/"):
        raise PackageError("`name` ends with `/`", location=place, remedy=f"write `name: {name.rstrip('/')}`")
    if not _NAME.fullmatch(name):
        raise PackageError(
            f"`name` is `{name}`, which is not of the form `{HOST}/author/repository` or `…/repository/path`",
            location=place,
            remedy=_REMEDY,
        )
    return name
