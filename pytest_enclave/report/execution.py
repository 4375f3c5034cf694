"""What reports tell of an instruction that did not succeed."""

from __future__ import annotations

from msgspec.structs import replace

from pytest_enclave.errors import (
    ExecutionError,
    PortNeverOpened,
    ServiceExited,
    UnacceptableCode,
    VerifyFailed,
    WaitTimedOut,
)
from pytest_enclave.plan.comparison import ComparisonError, holds
from pytest_enclave.report.amounts import setting
from pytest_enclave.report.call_log import call_log
from pytest_enclave.report.facts import LONGEST_OUTPUT, fact_lines, last_lines, output_block
from pytest_enclave.report.fitting import Block, at_most
from pytest_enclave.report.look import Look
from pytest_enclave.report.source_excerpt import (
    Excerpt,
    Mark,
    call_in,
    excerpt_at,
    excerpt_of_call,
    gutter_of,
    label_room,
)
from pytest_enclave.report.starlark_call import place_of
from pytest_enclave.report.story import Story
from pytest_enclave.report.text import plural
from pytest_enclave.report.value_lines import comparison_facts, name_of, origin_lines, shown, with_kind

SIGNALS = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM"}


def execution_story(error: ExecutionError, look: Look) -> Story:
    """The call, what is known about its failure, where its values came from, and what the services had to say."""
    excerpt = _excerpt(error, look)
    look = replace(look, gutter=gutter_of(excerpt))
    facts = [*_facts(error, excerpt, look), *error.details]
    blocks = [
        Block(tuple(fact_lines(facts, look))) if facts else None,
        Block(tuple(origin_lines(error.origins, look))) if error.origins else None,
        call_log(error.attempts, error.timeout, look) if isinstance(error, WaitTimedOut) else None,
        output_block("output", error.output, look) if isinstance(error, UnacceptableCode) else None,
        *_log_blocks(error, look),
    ]
    told = tuple(block for block in blocks if block is not None)
    return Story(_headline(error, look), error.location, excerpt, told, error.remedy)


def _headline(error: ExecutionError, look: Look) -> str:
    match error:
        case WaitTimedOut():
            return f"wait timed out after {setting(error.timeout)}: {error.condition}"
        case VerifyFailed():
            name = name_of(error.instruction.get("value")) if error.instruction else ""
            if not name or not _is_plain_mismatch(error):
                return error.message
            target, value = with_short(error.target, look), with_short(error.value, look)
            return f"verify failed: `{name}` {error.assertion} {target} does not hold, it is {value}"
        case _:
            return error.message


def with_short(value: object, look: Look) -> str:
    """The value in a headline."""
    text = shown(value, look)
    return text if len(text) <= 60 else text[:59] + "…"


def _is_plain_mismatch(error: VerifyFailed) -> bool:
    """Whether the two values could be compared at all; where not, only the message says why."""
    try:
        return not holds(error.value, error.assertion, error.target)
    except (ComparisonError, KeyError, TypeError):
        return False


def _excerpt(error: ExecutionError, look: Look) -> Excerpt | None:
    """The whole call, with the part that failed marked."""
    found = call_in(error.sources, error.location)
    if found is None:
        return excerpt_at(error.sources, error.location)
    text, call = found
    argument = call.argument("value", 0) if isinstance(error, VerifyFailed) else None
    span = argument.span if argument else call.name
    excerpt = excerpt_of_call(text, call, Mark(span), whole=look.verbose)
    return replace(excerpt, mark=Mark(span, _label(error, excerpt, look)))


def _label(error: ExecutionError, excerpt: Excerpt, look: Look) -> str:
    look = replace(look, gutter=gutter_of(excerpt))
    match error:
        case VerifyFailed():
            return with_kind(error.value, look, label_room(excerpt, look))
        case UnacceptableCode():
            return f"code {error.code}"
        case _:
            return ""


def _facts(error: ExecutionError, excerpt: Excerpt | None, look: Look) -> list[tuple[str, str]]:
    match error:
        case VerifyFailed():
            return _verify_facts(error, excerpt, look)
        case WaitTimedOut():
            return _wait_facts(error, look)
        case UnacceptableCode():
            code = [] if excerpt and excerpt.mark else [("code", str(error.code))]
            return [*code, ("acceptable", ", ".join(map(str, error.acceptable)) or "none")]
        case ServiceExited():
            reason = ", out of memory" if error.out_of_memory else ""
            return [("service", error.service or ""), ("exit code", f"{error.code}{_signal(error.code)}{reason}")]
        case PortNeverOpened():
            return [("service", error.service or ""), ("port", f"{error.port}, waited for {setting(error.timeout)}")]
        case _:
            return [("service", error.service)] if error.service else []


def _verify_facts(error: VerifyFailed, excerpt: Excerpt | None, look: Look) -> list[tuple[str, str]]:
    """What the excerpt says beside its carets already is not said again."""
    facts = comparison_facts(error.value, error.assertion, error.target, look)
    told = excerpt.mark.label if excerpt and excerpt.mark else ""
    return facts[1:] if facts[0][1] == told else facts


def _wait_facts(error: WaitTimedOut, look: Look) -> list[tuple[str, str]]:
    expected = error.condition.rpartition(" → ")[2]
    tries = plural(len(error.attempts), "attempt")
    settings = [_where_set(error), f"interval {setting(error.interval)}", tries]
    facts = [
        ("expected", expected),
        ("timeout", f"{setting(error.timeout)} ({'; '.join(filter(None, settings))})"),
    ]
    if error.attempts:
        facts.insert(1, ("last", look.fit(look.one_line(error.attempts[-1].outcome), look.gutter + 13)))
    return facts


def _where_set(error: WaitTimedOut) -> str:
    """Which line sets the timeout; a ready condition may be written anywhere, so nothing is said of it."""
    found = call_in(error.sources, error.location)
    if found is None or error.instruction is None or error.instruction.name != "wait":
        return ""
    text, call = found
    argument = call.argument("timeout", 6)
    return f"set on line {place_of(text, argument.span.start)[0]}" if argument else "the default"


def _signal(code: int) -> str:
    return f" (killed by {SIGNALS.get(code - 128, f'signal {code - 128}')})" if 128 < code < 160 else ""


def _log_blocks(error: ExecutionError, look: Look) -> list[Block]:
    """The last log lines of each service, each under its name."""
    blocks = []
    for service, lines in error.logs.items():
        if lines:
            told = [part for text in lines for part in look.lines(text)]
            count = len(told) if look.verbose else min(len(told), LONGEST_OUTPUT)
            title = f"{service} · last {'log line' if count == 1 else f'{count} log lines'}"
            blocks.append(last_lines(title, told[-count:], look, "log line"))
    return blocks if look.verbose else [at_most(block, LONGEST_OUTPUT) for block in blocks]
