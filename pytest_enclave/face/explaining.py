"""`--enclave-explain`: the section at a session's end that tells why instructions ran again."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from pytest_enclave.report.explanation import Explanation, explain
from pytest_enclave.report.text import plural

if TYPE_CHECKING:
    from pytest_enclave.run.outcome import Run

TITLE = "enclave: why instructions ran again"
WITHOUT_CACHE = "--enclave-no-cache: every test gets a new enclave, in which everything runs"

_STEP = 2
_NARROWEST = 40


class Explaining:
    """What there is to tell of the session's runs: of each one in which something ran."""

    def __init__(self) -> None:
        self._told: list[Explanation] = []
        self._unchanged = 0
        self._latest: dict[str, Run] = {}

    def note(self, run: Run, enclave: str, by: pytest.Item | None) -> None:
        """A run has ended, for this test. Unit tests in Starlark always begin with nothing: they are left out."""
        from pytest_enclave.face.star_tests import StarTest

        if isinstance(by, StarTest):
            return
        told = explain(run, enclave, self._latest.get(enclave))
        self._latest[enclave] = run
        if told is None:
            self._unchanged += bool(run.instructions)
        else:
            test = f"{by.nodeid}: " if by is not None else ""
            self._told.append(Explanation(test + told.headline, told.paragraphs))

    def packed(self) -> dict[str, Any]:
        """All of it as an xdist worker hands it to its controller."""
        return {"told": [[one.headline, one.paragraphs] for one in self._told], "unchanged": self._unchanged}

    def add(self, packed: dict[str, Any]) -> None:
        """What a worker has handed over."""
        self._told += [Explanation(headline, tuple(paragraphs)) for headline, paragraphs in packed["told"]]
        self._unchanged += packed["unchanged"]

    def lines(self, width: int, *, no_cache: bool = False) -> list[str]:
        """The section, in lines that are no longer than that unless a word is."""
        shown = [one for one in self._told if one.paragraphs or not no_cache]
        lines = [WITHOUT_CACHE] if no_cache and len(shown) < len(self._told) else []
        for one in shown:
            lines += wrapped(0, one.headline, width)
            for indent, text in one.paragraphs:
                lines += wrapped(indent, text, width)
        if self._unchanged:
            lines.append(f"everything was reused in {plural(self._unchanged, 'more run' if lines else 'run')}")
        return lines


def show(reporter: pytest.TerminalReporter, lines: Sequence[str]) -> None:
    """Write the section; none where nothing has run."""
    if lines:
        reporter.write_sep("=", TITLE)
        for line in lines:
            reporter.write_line(line)


def wrapped(indent: int, text: str, width: int) -> list[str]:
    """A paragraph in lines that fit; its further lines stand deeper than its first."""
    margin = " " * _STEP * indent
    return textwrap.wrap(
        text,
        max(width, _NARROWEST),
        initial_indent=margin,
        subsequent_indent=margin + " " * 2 * _STEP,
        break_long_words=False,
        break_on_hyphens=False,
    )
