from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_enclave.golang import duration

GOLDEN = Path(__file__).parent.parent / "golden" / "go_duration.json"
CASES = json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: repr(case["in"]))
def test_a_duration_is_read_as_go_reads_it(case: dict[str, object]) -> None:
    text = str(case["in"])
    if case["error"] is not None:
        with pytest.raises(duration.DurationError) as caught:
            duration.parse(text)
        assert str(caught.value) == case["error"]
        return
    nanoseconds = duration.parse(text)
    assert nanoseconds == case["ns"]
    assert duration.render(nanoseconds) == case["string"]


@given(st.integers(min_value=-(2**63), max_value=2**63 - 1))
def test_every_64_bit_duration_survives_rendering_and_parsing(nanoseconds: int) -> None:
    assert duration.parse(duration.render(nanoseconds)) == nanoseconds


def test_a_very_long_text_is_refused_in_linear_time() -> None:
    with pytest.raises(duration.DurationError):
        duration.parse("9" * 1_000_000 + "s")
