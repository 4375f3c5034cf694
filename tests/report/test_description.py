"""A description stands where the call would stand, in what is told of an instruction while it runs."""

from __future__ import annotations

import pytest

from pytest_enclave.plan.instruction import Instruction
from pytest_enclave.report.masking import Secrets
from pytest_enclave.report.short_call import told
from pytest_enclave.source import Location

REFERENCE = "{{kurtosis:" + "a" * 32 + ":code.runtime_value}}"


def call(**arguments: object) -> Instruction:
    """A print."""
    return Instruction("print", {"msg": "x", **arguments}, Location("main.star", 1), "text", "b" * 32)


def test_without_a_description_the_call_is_told():
    assert told(call()) == 'print("x")'


@pytest.mark.parametrize(
    ("description", "shown"),
    [
        ("Saying hello", "Saying hello"),
        ("two\nlines\tand \x1b[31mcolour", "two lines and colour"),
        (f"code {REFERENCE}", "code ‹code›"),
    ],
)
def test_a_description_is_told_in_one_line(description: str, shown: str):
    assert told(call(description=description)) == shown


def test_it_is_never_longer_than_the_width():
    assert len(told(call(description="long " * 40), 30)) <= 30


def test_secrets_are_masked_in_it():
    assert "hunter2hunter2" not in told(
        call(description="with hunter2hunter2"), 80, Secrets(frozenset({"hunter2hunter2"}))
    )


def test_the_password_in_a_url_is_a_secret():
    url = "https://me:correct-horse@host/f"
    upload = Instruction("upload_files", {"src": url}, Location("main.star", 1), "text", "c" * 32)
    secrets = Secrets.of_instructions([upload])
    assert "correct-horse" not in told(upload, 80, secrets)
    assert "host/f" in told(upload, 80, secrets)
