"""What is wrong with a build whoever does it, and can be told from its Dockerfile alone."""

from __future__ import annotations

import difflib
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
        if target and target.lower() not in names and not (target.isascii() and target.isdigit()):
            known = [name for name in names if name]
            raise ImageFault(f"there is no stage `{target}` in {self.build.build_file}", _nearest(target, known))
        for line, name in self._bases():
            if reserved := reserved_name(name):
                meaning = f'image "{name}": so (`{reserved}`) begin names of images that are built, not pulled'
                raise DockerfileFault(line, ImageFault(meaning, "make both images by stages of one Dockerfile"))

    def unused_arguments(self) -> Iterator[tuple[str, str]]:
        """The build arguments that no `ARG` takes, each with what to do about it."""
        taken = {name for each in self._all("ARG") for name, _ in self._pairs(each)}
        for name in self.build.arguments:
            if name not in taken and name not in PROXIES:
                yield name, _nearest(name, sorted(taken)) or f"write `ARG {name}` where it is wanted"

    def _stages(self) -> list[str]:
        """The names of all stages in lower case, empty for one without."""
        found = [stage_parts(_without_flags(each.text)) for each in self._all("FROM")]
        return [name for _, name in filter(None, found)]

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
            elif each.keyword == "COPY":
                flags = [word for word in each.text.split() if word.startswith("--from=")]
                named = flags[0].removeprefix("--from=") if flags else ""
            with suppress(ImageFault):
                # What a variable has that is not closed is told by whoever builds.
                yield each.line, expand(named, known, self.dockerfile.escape)

    def _all(self, keyword: str) -> Iterator[Instruction]:
        return (each for each in self.dockerfile.instructions if each.keyword == keyword)

    def _pairs(self, each: Instruction) -> Iterator[tuple[str, str]]:
        for word in split(each.text, self.dockerfile.escape):
            name, _, value = word.partition("=")
            yield name, value


def _without_flags(text: str) -> str:
    return " ".join(word for word in text.split() if not word.startswith("--"))


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1) or difflib.get_close_matches(name.upper(), known, 1)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"there are {', '.join(f'`{each}`' for each in known)}" if known else ""
