"""The reference says what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def test_the_reference_page_is_made_from_the_code():
    spec = importlib.util.spec_from_file_location("generate_reference", DOCS / "generate_reference.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert (DOCS / "reference.md").read_text() == generate.page(), "run: python docs/generate_reference.py"


@pytest.mark.parametrize(
    ("name", "gives"),
    [
        ("get_service", "The service, as this script or an earlier run has added it."),
        ("get_services", "The services at this point of the script."),
        ("add_service", "A `Service`"),
        ("remove_service", "None."),
        ("set_service", "None."),
    ],
)
def test_the_reference_says_what_a_call_gives(name: str, gives: str):
    section = (DOCS / "reference.md").read_text().partition(f"### plan.{name}\n")[2].partition("\n### ")[0]
    assert section.partition("Returns: ")[2].startswith(gives)
