"""How a report may look: how wide, how long, and what it must not show."""

from __future__ import annotations

import textwrap

import msgspec

from pytest_enclave.report.masking import Secrets
from pytest_enclave.report.text import cut, printable

NARROWEST = 40
WITHOUT_END = 1_000_000


class Look(msgspec.Struct, frozen=True):
    """`gutter` is how many columns the line numbers take; a verbose report cuts nothing."""

    verbose: bool = False
    width: int = 100
    secrets: Secrets = msgspec.field(default_factory=Secrets)
    gutter: int = 2

    @property
    def margin(self) -> str:
        """What stands left of `|` and `=`."""
        return " " * (self.gutter + 1)

    def clean(self, text: str) -> str:
        """The text as it may be shown: no secrets, nothing that a terminal would act on."""
        return self.secrets.mask(printable(self.secrets.mask(text)))

    def lines(self, text: str) -> list[str]:
        """The clean text's lines, tabs expanded."""
        return self.clean(text).expandtabs(4).split("\n")

    def one_line(self, text: str) -> str:
        """The clean text, its line breaks and tabs as spaces."""
        return self.clean(text).expandtabs(4).replace("\n", " ")

    def room(self, indent: int) -> int:
        """How many columns are left after an indent."""
        return WITHOUT_END if self.verbose else max(self.width, NARROWEST) - indent

    def fit(self, text: str, indent: int) -> str:
        """A clean text, cut to what is left of the line after the indent."""
        return cut(text, max(self.room(indent), 10))

    def wrap(self, text: str, indent: int) -> list[str]:
        """A clean text in lines that fit after the indent; words that are longer than a line stay whole."""
        room = max(self.room(indent), 20)
        return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
