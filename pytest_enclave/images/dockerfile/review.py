"""What is wrong with a build whoever does it, and can be told from its Dockerfile alone."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec

from pytest_enclave.images.dockerfile.configuration import PROXIES
from pytest_enclave.images.dockerfile.stages import DockerfileFault, stage_parts
from pytest_enclave.images.dockerfile.syntax import Dockerfile, Instruction
from pytest_enclave.images.dockerfile.words import expand, split
from pytest_enclave.images.faults import ImageFault
from pytest_enclave.plan.image_sources import Build, reserved_name


class Review(msgspec.Struct, frozen=True):
    """A Dockerfile as a build uses it. It may have instructions in it that our own builder does not know."""

    dockerfile: Dockerfile
    build: Build

    def refuse(self) -> None:
        """Raise ImageFault where the target is no stage, and DockerfileFault at an image that only builds here make.

        Registries would be asked for such an image, where anybody could have one of that name.
        """
        target, names = self.build.target, self._stages()
        numbered = target.isascii() and target.isdigit()
        if target and names is not None and target.lower() not in names and not numbered:
            known = [name for name in names if name]
            raise ImageFault(f"there is no stage `{target}` in {self.build.build_file}", _nearest(target, known))
        for line, name in self._bases():
            if fault := built_here(name):
                raise DockerfileFault(line, fault)

    def unused_arguments(self) -> Iterator[tuple[str, str]]:
        """The build arguments that no `ARG` takes, each with what to do about it."""
        taken = {name for each in self._all("ARG") for name, _ in self._pairs(each)}
        for name in self.build.arguments:
            if name not in taken and name not in PROXIES:
                yield name, _nearest(name, sorted(taken)) or f"write `ARG {name}` where it is wanted"

    def meant_stage(self, line: int) -> str:
        """The stage that may be meant where the instruction on this line names an image; empty where none may be."""
        known: list[str] = []
        for each in self.dockerfile.instructions:
            parts = stage_parts(_without_flags(each.text)) if each.keyword == "FROM" else None
            if each.line == line:
                name = (parts[0] if parts else _copied_from(each)).lower()
                # An image with a tag or a path is one.
                unclear = name and name not in known and not re.search("[/:@$]", name)
                return next(iter(difflib.get_close_matches(name, known, 1)), "") if unclear else ""
            known += [parts[1]] if parts and parts[1] else []
        return ""

    def _stages(self) -> list[str] | None:
        """The names of all stages in lower case, empty for one without; None where it is not clear what is a stage.

        Whoever builds tells what is wrong then.
        """
        first = next((each.keyword for each in self.dockerfile.instructions if each.keyword != "ARG"), "FROM")
        found = [stage_parts(_without_flags(each.text)) for each in self._all("FROM")]
        return None if first != "FROM" or None in found else [name for _, name in filter(None, found)]

    def _bases(self) -> Iterator[tuple[int, str]]:
        """The images that are named, stages among them, each with its line."""
        known: dict[str, str] = {}
        began = False
        for each in self.dockerfile.instructions:
            named = ""
            if each.keyword == "FROM":
                began = True
                parts = stage_parts(_without_flags(each.text))
                named = parts[0] if parts else ""
            elif each.keyword == "ARG" and not began:
                for name, default in self._pairs(each):
                    with suppress(ImageFault):
                        known[name] = self.build.arguments.get(name) or expand(default, known, self.dockerfile.escape)
            else:
                named = _copied_from(each)
            with suppress(ImageFault):
                # What a variable has that is not closed is told by whoever builds.
                yield each.line, expand(named, known, self.dockerfile.escape)

    def _all(self, keyword: str) -> Iterator[Instruction]:
        return (each for each in self.dockerfile.instructions if each.keyword == keyword)

    def _pairs(self, each: Instruction) -> Iterator[tuple[str, str]]:
        for word in split(each.text, self.dockerfile.escape):
            quote = word[0] if word[0] in "'\"" else ""
            name, _, value = word.removeprefix(quote).partition("=")
            if quote and name.endswith(quote):
                yield name.removesuffix(quote), value
            else:
                yield name, quote + value


def built_here(name: str) -> ImageFault | None:
    """What is wrong with a base image of that name, if it is one that only builds here give."""
    if not (reserved := reserved_name(name)):
        return None
    return ImageFault(
        f'image "{name}": names that begin with `{reserved}` belong to images that are built here, '
        "and cannot be pulled",
        "make both images by stages of one Dockerfile",
    )


def _copied_from(each: Instruction) -> str:
    flags = [word for word in each.text.split() if word.startswith("--from=")] if each.keyword == "COPY" else []
    return flags[0].removeprefix("--from=") if flags else ""


def _without_flags(text: str) -> str:
    return " ".join(word for word in text.split() if not word.startswith("--"))


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1) or difflib.get_close_matches(name.upper(), known, 1)
    if near:
        return f"did you mean `{near[0]}`?"
    there = "there is only" if len(known) == 1 else "there are"
    return f"{there} {', '.join(f'`{each}`' for each in known)}" if known else ""
