"""The lines of a Dockerfile as instructions."""

from __future__ import annotations

import pytest

from pytest_enclave.images.dockerfile.syntax import Instruction, parse


def read(text: str) -> list[tuple[int, str, str]]:
    return [(each.line, each.keyword, each.text) for each in parse(text).instructions]


@pytest.mark.parametrize(
    ("text", "instructions"),
    [
        ("FROM a", [(1, "FROM", "a")]),
        ("from a\nRun  b  c \n", [(1, "FROM", "a"), (2, "RUN", "b  c")]),
        ("\n\n  FROM a\n", [(3, "FROM", "a")]),
        ("# comment\nFROM a\n  # another\nRUN b", [(2, "FROM", "a"), (4, "RUN", "b")]),
        ("RUN a # no comment", [(1, "RUN", "a # no comment")]),
        ("RUN a \\\n  && b\nCMD c", [(1, "RUN", "a   && b"), (3, "CMD", "c")]),
        ("RUN a \\  \n b", [(1, "RUN", "a  b")]),
        ("RUN a \\\n# between\n\n  # more\n b\nCMD", [(1, "RUN", "a  b"), (6, "CMD", "")]),
        ("RUN a \\", [(1, "RUN", "a")]),
        ("RUN a\\\\\nCMD b", [(1, "RUN", "a\\CMD b")]),
        ("RUN a \\ b\nCMD c", [(1, "RUN", "a \\ b"), (2, "CMD", "c")]),
        ("FROM a\r\nRUN b \\\r\n c\r\n", [(1, "FROM", "a"), (2, "RUN", "b  c")]),
        ("\ufeffFROM a", [(1, "FROM", "a")]),
        ("CMD", [(1, "CMD", "")]),
        ("", []),
        ("# only a comment\n", []),
        ("\\\nFROM a", [(2, "FROM", "a")]),
    ],
)
def test_instructions_begin_on_their_lines(text: str, instructions: list[tuple[int, str, str]]):
    assert read(text) == instructions


def test_another_character_may_escape():
    text = "# syntax=docker/dockerfile:1\n# Escape = `\nFROM a\nRUN b `\n c\nCMD d \\\n"
    assert parse(text).escape == "`"
    assert read(text) == [(3, "FROM", "a"), (4, "RUN", "b  c"), (6, "CMD", "d \\")]


@pytest.mark.parametrize("text", ["# a comment\n# escape=`\nRUN b `\n", "FROM a\n# escape=`\n", "# escape=x\n", ""])
def test_directives_stand_at_the_top(text: str):
    assert parse(text).escape == "\\"


def test_texts_for_an_instruction_are_not_instructions():
    text = "RUN <<EOF cat\nFROM b\nEOF\nCOPY <<-'A' <<B /x\none\n\tA\ntwo\nB\nCMD c"
    assert parse(text).instructions == (
        Instruction(1, "RUN", "<<EOF cat", has_heredoc=True),
        Instruction(4, "COPY", "<<-'A' <<B /x", has_heredoc=True),
        Instruction(9, "CMD", "c"),
    )


@pytest.mark.parametrize(
    "text",
    ["RUN cat <<< word\nCMD c", 'RUN ["cat", "<<EOF"]\nCMD c', "ENV a=<<EOF\nCMD c", "RUN echo $((1<<A))\nCMD c"],
)
def test_what_looks_like_a_text_is_none(text: str):
    assert [each.has_heredoc for each in parse(text).instructions] == [False, False]


def test_a_text_that_does_not_end_leaves_the_rest_alone():
    assert read("RUN cat <<EOF\nCMD c") == [(1, "RUN", "cat <<EOF"), (2, "CMD", "c")]


def test_an_instruction_is_shown_as_it_is_written():
    assert str(Instruction(1, "RUN", "make all")) == "RUN make all"
    assert str(Instruction(1, "CMD", "")) == "CMD"
