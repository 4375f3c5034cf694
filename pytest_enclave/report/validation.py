"""What reports tell of a plan that cannot work: everything at once."""

from __future__ import annotations

from msgspec.structs import replace

from pytest_enclave.errors import Problem, ValidationError
from pytest_enclave.report.facts import note_lines, output_block
from pytest_enclave.report.fitting import Block
from pytest_enclave.report.look import Look
from pytest_enclave.report.problem_table import problem_table
from pytest_enclave.report.source_excerpt import excerpt_at, gutter_of
from pytest_enclave.report.story import Story
from pytest_enclave.report.text import plural


def validation_story(error: ValidationError, look: Look) -> Story:
    """A table of the problems; a single one is told like any other error, at its place."""
    of = f" ({plural(error.instructions, 'instruction')}, nothing was started)" if error.instructions else ""
    if len(error.problems) == 1:
        return _single(error, error.problems[0], of, look)
    headline = f"{plural(len(error.problems), 'problem')} in the plan{of}"
    return Story(headline, None, None, (problem_table(error.problems, look),), error.remedy)


def _single(error: ValidationError, problem: Problem, of: str, look: Look) -> Story:
    excerpt = excerpt_at(error.sources, problem.location)
    about = f"{problem.subject}: " if problem.subject and excerpt is None else ""
    note = note_lines(f"1 problem in the plan{of}", replace(look, gutter=gutter_of(excerpt)))
    output = output_block("what it wrote last", problem.output, replace(look, gutter=gutter_of(excerpt)))
    blocks = (Block(tuple(note)), output) if output else (Block(tuple(note)),)
    return Story(f"{about}{problem.message}", problem.location, excerpt, blocks, problem.remedy or error.remedy)
