"""An error as users read it.

    error[E301]: headline           what
      --> main.star:44:5            where
       |
    44 |     the source, as written
       |         ^^^^ with a caret
       |
       = facts, aligned             why
       = help: what to do           what now

Every report has this anatomy, at most 40 lines unless verbose, no secrets, and a unit behind every number.
"""

from __future__ import annotations

from msgspec.structs import replace

from pytest_enclave.errors import (
    EnclaveError,
    EngineUnavailable,
    ExecutionError,
    InterpretationError,
    PackageError,
    ValidationError,
)
from pytest_enclave.report.codes import code_of
from pytest_enclave.report.execution import execution_story
from pytest_enclave.report.facts import help_lines
from pytest_enclave.report.fitting import Block, at_most, fit
from pytest_enclave.report.interpretation import interpretation_story, package_story
from pytest_enclave.report.look import WITHOUT_END, Look
from pytest_enclave.report.masking import Secrets
from pytest_enclave.report.source_excerpt import excerpt_at, excerpt_lines, gutter_of, place
from pytest_enclave.report.story import Story
from pytest_enclave.report.text import FailureText, Line, Segment, cut, line, plain_line
from pytest_enclave.report.unavailable import unavailable_story
from pytest_enclave.report.validation import validation_story

LONGEST_SUMMARY = 200
LONGEST_HEADLINE = 400
"""Characters of a message's first line: in pytest's short summary, and in a report that was not asked to be verbose."""

MOST_MESSAGE_LINES = 10


def render(
    error: EnclaveError, *, verbose: bool = False, width: int = 100, secrets: Secrets | None = None
) -> FailureText:
    """The report of an error. `secrets` should be those of the whole plan; the failing instruction's are added."""
    look = Look(verbose, width, _all_secrets(error, secrets or Secrets()))
    story = _story(error, look)
    look = replace(look, gutter=gutter_of(story.excerpt))
    head, *below = look.lines(story.headline)
    head = head if verbose else cut(head, LONGEST_HEADLINE)
    blocks = [
        Block((line(Segment(f"error[{code_of(error)}]: ", "error"), Segment(head, "headline")),)),
        _below_headline(below, look),
        Block(tuple(_place_lines(story, look))),
        *story.blocks,
    ]
    if story.remedy:
        blocks.append(Block(tuple(help_lines(story.remedy, look))))
    lines = fit(blocks, WITHOUT_END) if verbose else fit(blocks)
    return FailureText(_summary(error, story, look), tuple(_masked(shown, look) for shown in lines))


def render_again(
    error: EnclaveError, reported_by: str, enclave: str = "", *, secrets: Secrets | None = None
) -> FailureText:
    """One line for whoever needs an enclave that another test has already reported as broken."""
    told = render(error, secrets=secrets).headline
    name = f"enclave `{enclave}`" if enclave else "the enclave"
    headline = f"{name} is unavailable: {told} — reported at {reported_by}"
    return FailureText(headline, (line(Segment(headline, "error")),))


def _all_secrets(error: EnclaveError, secrets: Secrets) -> Secrets:
    if not isinstance(error, ExecutionError):
        return secrets if isinstance(error, ValidationError) else secrets | Secrets.of_sources(error.sources)
    calls = [origin.step.instruction for origin in error.origins]
    own = Secrets.of_instructions([*calls, error.instruction] if error.instruction else calls)
    return (secrets | own).with_origins(error.origins)


def _story(error: EnclaveError, look: Look) -> Story:
    match error:
        case ValidationError():
            return validation_story(error, look)
        case InterpretationError():
            return interpretation_story(error, look)
        case PackageError():
            return package_story(error, look)
        case ExecutionError():
            return execution_story(error, look)
        case EngineUnavailable():
            return unavailable_story(error, look)
        case _:
            return Story(error.message, error.location, excerpt_at(error.sources, error.location), (), error.remedy)


def _place_lines(story: Story, look: Look) -> list[Line]:
    """`--> file:line:column`, and the source there."""
    if story.location is None:
        return []
    where = look.one_line(str(story.location))
    arrow = line(Segment(" " * look.gutter + "--> ", "dim"), Segment(where, "location"))
    return [arrow, *(excerpt_lines(story.excerpt, look) if story.excerpt else [])]


def _below_headline(texts: list[str], look: Look) -> Block:
    """What else a message of several lines has to say."""
    block = Block(tuple(line("  ", look.fit(text, 2)) for text in texts), (), "first", indent="  ")
    return block if look.verbose else at_most(block, MOST_MESSAGE_LINES)


def _summary(error: EnclaveError, story: Story, look: Look) -> str:
    head = " ".join(look.clean(story.headline).split())
    where = f" ({look.clean(place(story.location))})" if story.location else ""
    return look.secrets.mask(f"{code_of(error)} {cut(head, LONGEST_SUMMARY)}{where}".replace("\n", " "))


def _masked(shown: Line, look: Look) -> Line:
    """The last net: a secret put together from several segments is masked as well."""
    text = "".join(segment.text for segment in shown)
    masked = look.secrets.mask(text)
    if masked == text and "\n" not in text:
        return shown
    return line(plain_line(line(masked.replace("\n", " "))))
