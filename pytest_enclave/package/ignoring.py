"""What a `.dockerignore` names.

`*`, `?` and `[…]` stand for characters between two slashes, `**` between slashes for any number of directories. What
lies below a directory that is named is named too; a line with `!` takes back, and the last line that fits counts.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

import msgspec

from pytest_enclave.errors import PackageError
from pytest_enclave.package.wildcards import Wildcards
from pytest_enclave.source import Location


class _Rule(msgspec.Struct, frozen=True):
    """One line. A part that is None is `**`."""

    parts: tuple[Wildcards | None, ...]
    takes_back: bool

    def begin(self) -> frozenset[int]:
        return self._with_skipped({0})

    def after(self, name: str, reached: frozenset[int]) -> frozenset[int]:
        """How many parts may be used up behind this name, where before it that many were."""
        found = set()
        for at in reached:
            if at < len(self.parts):
                part = self.parts[at]
                if part is None:
                    found.add(at)
                elif part.fit(name):
                    found.add(at + 1)
        return self._with_skipped(found)

    def _with_skipped(self, reached: set[int]) -> frozenset[int]:
        for at in sorted(reached):
            while at < len(self.parts) and self.parts[at] is None:
                at += 1
                reached.add(at)
        return frozenset(reached)


class Ignored(msgspec.Struct, frozen=True):
    """What is known of one path; `rules` are those of the whole file."""

    rules: tuple[_Rule, ...] = ()
    reached: tuple[frozenset[int], ...] = ()
    named: tuple[bool, ...] = ()

    @classmethod
    def of(cls, text: str, file: str) -> Ignored:
        """What is known of the directory itself. Raises PackageError at the line of `file` that means nothing."""
        rules = tuple(_rules(text, file))
        return cls(rules, tuple(rule.begin() for rule in rules), (False,) * len(rules))

    def below(self, name: str) -> Ignored:
        """What is known of the entry of that name in this directory."""
        reached = tuple(rule.after(name, before) for rule, before in zip(self.rules, self.reached, strict=True))
        named = tuple(
            before or len(rule.parts) in now for rule, now, before in zip(self.rules, reached, self.named, strict=True)
        )
        return Ignored(self.rules, reached, named)

    @property
    def itself(self) -> bool:
        """Whether the path is left out."""
        return next((not rule.takes_back for rule, named in self._from_the_last() if named), False)

    @property
    def wholly(self) -> bool:
        """Whether the path is left out, and nothing below it can be taken back."""
        return self.itself and not any(
            rule.takes_back and any(at < len(rule.parts) for at in reached)
            for rule, reached in zip(self.rules, self.reached, strict=True)
        )

    def _from_the_last(self) -> Iterator[tuple[_Rule, bool]]:
        return zip(reversed(self.rules), reversed(self.named), strict=True)


def _rules(text: str, file: str) -> Iterator[_Rule]:
    for number, line in enumerate(text.split("\n"), 1):
        pattern = line.strip()
        if line.startswith("#") or not pattern:
            continue
        takes_back = pattern.startswith("!")
        pattern = pattern.removeprefix("!").strip()
        # From a `/` at the beginning no `..` leads out.
        written = [part for part in posixpath.normpath(f"/{pattern}").split("/") if part]
        if not written:
            continue
        try:
            parts: list[Wildcards | None] = [None if part == "**" else Wildcards.of(part) for part in written]
        except ValueError as error:
            raise PackageError(
                f"`{pattern}` is no pattern: {error}",
                location=Location(file, number, line.index(pattern) + 1),
                remedy="write `[[]` for a `[` in a name",
            ) from None
        if parts[-1] is None:
            # What is in there, and not the directory itself.
            parts.append(Wildcards.of("*"))
        yield _Rule(tuple(parts), takes_back)
