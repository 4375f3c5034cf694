"""Errors where they belong: every chunk of `testdata/*.star` must end in the error that a comment in it announces."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_enclave.errors import InterpretationError

EXPECTED = re.compile(r'### "(?P<pattern>.*)"')


def chunks() -> Iterator[Any]:
    for file in sorted((Path(__file__).parent / "testdata").glob("*.star")):
        for number, text in enumerate(file.read_text("utf-8").split("---\n"), 1):
            yield pytest.param(text, id=f"{file.stem}-{number}")


@pytest.mark.parametrize("text", list(chunks()))
def test_the_announced_error_comes_from_its_line(plan_of: Callable[..., Any], text: str) -> None:
    expected = {
        line: match["pattern"].replace('\\"', '"')
        for line, content in enumerate(text.split("\n"), 1)
        if (match := EXPECTED.search(content))
    }
    with pytest.raises(InterpretationError) as caught:
        plan_of(text)
    error = caught.value
    found = {p.location.line: p.message for p in error.problems if p.location} if error.problems else {}
    assert error.location is not None
    found = found or {error.location.line: error.message}
    for line, pattern in expected.items():
        assert line in found, str(error)
        assert re.search(pattern, found[line]) or re.search(pattern, error.message)
    assert error.location.column > 0


def test_every_chunk_announces_exactly_one_error() -> None:
    for chunk in chunks():
        assert len(EXPECTED.findall(chunk.values[0])) == 1, chunk.id
