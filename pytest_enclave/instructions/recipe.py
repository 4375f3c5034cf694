"""Carrying out a recipe once, and extracting from what it gave (behaviour.md §1.5, §1.6, §2.4)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pytest_enclave.engine.protocol import DeadlineExceeded, HttpRequest, NotReached
from pytest_enclave.errors import RecipeFailed
from pytest_enclave.golang.jq import ExtractionError
from pytest_enclave.instructions.protocol import Context
from pytest_enclave.plan.futures import Future
from pytest_enclave.plan.recipes import ExecRecipe, HttpRecipe, Recipe
from pytest_enclave.plan.values import Value


def result_fields(recipe: Recipe) -> tuple[str, ...]:
    """The fields that carrying out the recipe yields."""
    text = "output" if isinstance(recipe, ExecRecipe) else "body"
    return ("code", text, *(f"extract.{key}" for key in recipe.extract))


def placeholders(recipe: Recipe, producer: str) -> dict[str, Value]:
    """What the script gets in place of the result: a future reference for every field."""
    return {name: str(Future(producer, name)) for name in result_fields(recipe)}


class NoResult(Exception):
    """A recipe could not be carried out; the text is the reason in a few words."""


def carry_out(context: Context, service: str, recipe: Recipe, deadline: float | None) -> Mapping[str, Value]:
    """Run the command or send the request, and extract; returns the result's fields.

    `deadline` is a `Clock.now()`. Raises RecipeFailed, which tells what was asked of which service, and the reason.
    """
    try:
        return once(context, service, recipe, deadline)
    except NoResult as error:
        raise RecipeFailed(f"{describe_recipe(service, recipe)}: {error}", service=service) from None


def once(context: Context, service: str, recipe: Recipe, deadline: float | None) -> Mapping[str, Value]:
    """As `carry_out`, for those who name service and recipe themselves. Raises NoResult."""
    try:
        if isinstance(recipe, ExecRecipe):
            done = context.site.exec(service, recipe.command, deadline)
            fields: dict[str, Value] = {"code": done.code, "output": done.output}
            return fields | _extract(context, recipe, json.dumps(done.output))
        body = recipe.body.encode() if recipe.body is not None else None
        request = HttpRequest(recipe.method, recipe.endpoint, recipe.headers, body)
        port = context.services[service].ports[recipe.port_id]
        response = context.site.request(service, port, request, deadline)
    except NotReached as error:
        raise NoResult(str(error)) from None
    except DeadlineExceeded:
        raise NoResult("no answer in time") from None
    text = response.body.decode("utf-8", "replace")
    return {"code": response.code, "body": text} | _extract(context, recipe, text)


def _extract(context: Context, recipe: Recipe, body: str) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for key, query in recipe.extract.items():
        try:
            found[f"extract.{key}"] = context.extract(query, body)
        except ExtractionError as error:
            raise NoResult(f"extract `{key}`: {error}") from None
    return found


def describe(fields: Mapping[str, Value]) -> str:
    """A result in one line: the code, and the beginning of what came with it."""
    text = str(fields["output"] if "output" in fields else fields["body"]).strip()
    first = text.splitlines()[0] if text else ""
    shown = first if len(first) <= 100 and first == text else first[:100] + " …"
    return f"{fields['code']} {shown}".rstrip()


def describe_recipe(service: str, recipe: Recipe) -> str:
    """The recipe in one line, as reports show it."""
    if isinstance(recipe, HttpRecipe):
        return f"{service} {recipe.method} {recipe.endpoint}"
    return f"{service} $ {recipe}"


def code_list(codes: Sequence[int]) -> str:
    """Codes in words, neighbours drawn together: `200–208, 226`."""
    runs: list[list[int]] = []
    for code in sorted(set(codes)):
        if runs and code == runs[-1][-1] + 1:
            runs[-1].append(code)
        else:
            runs.append([code])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)
