"""A plan as text, for `--enclave-plan`: what would be done, in order, and where each instruction is written."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_enclave.plan.instruction import Plan
from pytest_enclave.report.masking import Secrets
from pytest_enclave.report.short_call import short_call
from pytest_enclave.report.source_excerpt import longest, place
from pytest_enclave.report.text import cells, plural, printable
from pytest_enclave.run.reuse import Action, Decision

VERBS = {Action.SKIP: "reuse", Action.RUN: "run", Action.UPDATE: "update"}
WIDEST_CALL = 72


def render_plan(plan: Plan, decisions: Sequence[Decision] | None = None) -> str:
    """One line per instruction: number, place, call; with `decisions`, what would become of it and why."""
    if not plan.instructions:
        return "the plan has no instructions"
    secrets = Secrets.of_plan(plan)
    calls = plan.instructions
    places = [place(call.location) for call in calls]
    texts = [short_call(call, WIDEST_CALL, secrets) for call in calls]
    decided = [_decided(decision) for decision in decisions] if decisions is not None else [""] * len(calls)
    number_width, place_width = len(str(len(calls))), longest(places)
    call_width = longest(texts) if decisions is not None else 0
    lines = [plural(len(calls), "instruction")]
    for number, (call, where, text, what) in enumerate(zip(calls, places, texts, decided, strict=True), 1):
        start = f"  {number:>{number_width}}  {_padded(where, place_width)}  "
        lines.append(f"{start}{_padded(text, call_width)}  {what}".rstrip())
        if description := call.get("description"):
            told = " ".join(printable(secrets.mask(str(description))).split())
            lines.append(f"{' ' * cells(start)}“{told}”")
    return secrets.mask("\n".join(lines))


def _decided(decision: Decision) -> str:
    return VERBS[decision.action] + (f": {decision.reason}" if decision.reason else "")


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cells(text))
