"""Waiting until a recipe's result is as it should be: `plan.wait` and ready conditions.

The pause after the i-th try is `rand(0.5, 1.5) · interval · 2^min(i, 3)` (design §5); the last one is cut so that one
more try is made right at the deadline; one that is under way then is the last. A service that ends meanwhile ends the
wait at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from pytest_enclave.engine.protocol import Exit
from pytest_enclave.errors import Attempt, ServiceExited, WaitTimedOut
from pytest_enclave.instructions.protocol import Context
from pytest_enclave.instructions.recipe import NoResult, describe, describe_recipe, once
from pytest_enclave.plan.comparison import ComparisonError, holds
from pytest_enclave.plan.events import Waiting
from pytest_enclave.plan.recipes import Condition
from pytest_enclave.plan.values import Value, to_repr, to_short_repr, type_name

LARGEST_DOUBLING = 3
IN_FLIGHT_GRACE = 0.25
"""A try under way at the deadline gets a quarter of the timeout more, so that its own reason can be told."""


def wait_until(context: Context, service: str, condition: Condition) -> tuple[Mapping[str, Value], int]:
    """Try until the condition holds; returns the last result and the number of tries.

    Raises WaitTimedOut with every attempt, or ServiceExited.
    """
    clock = context.clock
    started = clock.now()
    deadline = started + condition.timeout
    grace = deadline + IN_FLIGHT_GRACE * condition.timeout
    if context.deadline is not None:
        deadline, grace = min(deadline, context.deadline), min(grace, context.deadline)
    what = f"{describe_recipe(service, condition.recipe)} → {wanted(condition)}"
    context.emit(Waiting(what))
    attempts: list[Attempt] = []
    while True:
        at = clock.now()
        fields, outcome = _try(context, service, condition, grace)
        if fields is not None:
            return fields, len(attempts) + 1
        attempts.append(Attempt(at - started, outcome))
        last = clock.now() >= deadline
        ended = context.site.exit_of(service)
        if ended is None and not last:
            pause = context.random.uniform(0.5, 1.5) * condition.interval
            pause *= 2 ** min(len(attempts) - 1, LARGEST_DOUBLING)
            ended = context.site.pause(max(0.0, min(pause, deadline - clock.now())), watching=service)
        if ended is not None:
            raise exited(service, ended, f"while waiting for {what}")
        if last:
            raise _timed_out(service, what, condition, attempts)


def wanted(condition: Condition) -> str:
    """The comparison that must hold, as text."""
    return f"{condition.field} {condition.assertion} {to_short_repr(condition.target)}"


def _try(
    context: Context, service: str, condition: Condition, deadline: float
) -> tuple[Mapping[str, Value] | None, str]:
    """One try: the fields where the condition holds, else None; and the outcome in one line."""
    try:
        fields = once(context, service, condition.recipe, deadline)
    except NoResult as error:
        return None, str(error)
    shown = describe(fields)
    if condition.field not in fields:
        return None, f"{shown} — the result has no `{condition.field}`, only " + ", ".join(f"`{f}`" for f in fields)
    value = fields[condition.field]
    try:
        met = holds(value, condition.assertion, condition.target)
    except ComparisonError as error:
        return None, f"{shown} — {error}"
    if met:
        return fields, shown
    if condition.field in ("output", "body"):
        return None, f"{fields['code']} — {condition.field} is {_short(to_repr(value))}"
    if condition.field != "code":
        shown += f" — {condition.field} is {_short(to_repr(value))} ({type_name(value)})"
    return None, shown


def _short(text: str) -> str:
    return text if len(text) <= 120 else text[:119] + "…"


def _timed_out(service: str, what: str, condition: Condition, attempts: list[Attempt]) -> WaitTimedOut:
    tries = f"{len(attempts)} {'try' if len(attempts) == 1 else 'tries'}"
    moved = len(attempts) > 3 and len({attempt.outcome for attempt in attempts[-4:]}) > 1
    return WaitTimedOut(
        f"wait timed out after {condition.timeout:g} s ({tries}): {what}; last: {attempts[-1].outcome}",
        service=service,
        condition=what,
        timeout=condition.timeout,
        interval=condition.interval,
        attempts=attempts,
        remedy="the answers were still changing when time ran out: a longer `timeout` may be all it takes"
        if moved
        else "",
    )


def exited(service: str, ended: Exit, when: str) -> ServiceExited:
    """The error for a service whose process ended when it should not have."""
    if ended.out_of_memory:
        how, remedy = f"ran out of memory (exit code {ended.code})", "raise its `max_memory`"
    else:
        how, remedy = f"exited with code {ended.code}{_meaning(ended.code)}", ""
    return ServiceExited(
        f"service `{service}` {how} {when}",
        service=service,
        code=ended.code,
        out_of_memory=ended.out_of_memory,
        remedy=remedy,
    )


def _meaning(code: int) -> str:
    words = {
        126: "its command may not be executed",
        127: "its command was not found",
        137: "killed",
        139: "crashed",
        143: "terminated",
    }
    return f" ({words[code]})" if code in words else ""
