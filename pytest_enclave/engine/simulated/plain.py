"""Scripts written as plain data: what YAML, TOML or JSON can hold.

    services:
      db:
        opens_after: {pg: 2.0}
        exits_after: 5.0
        exits_with: 1
        logs: [[0.1, starting]]
        exec:
          - {command: [pg_isready, "..."], answers: [{code: 1}, {code: 0, output: "yes"}], takes: 0.2}
      api:
        request:
          - {endpoint: /health, answers: [{refused: connection refused}, {code: 200, body: ok}]}
    images:
      "postgres:61": {missing: manifest unknown}
    builds:
      shop/api: {fails: the compiler gave up}
    capacity: {cpu: 4000, memory: 8192}
    timing: {start: 1.0}

Each key means what the method or argument of the same name means in `Script`; where a command or an endpoint
is left out, every one is meant. CPU in millicores, memory in megabytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_enclave.engine.protocol import ExecResult, Exit, HttpResponse, NotReached
from pytest_enclave.engine.simulated.behaviour import Timing
from pytest_enclave.engine.simulated.rules import Trouble
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.plan.facts import Capacity

SERVICE = ("opens_after", "exits_after", "exits_with", "logs", "files", "start_takes", "start_fails")


def script_of(data: Mapping[str, Any]) -> Script:
    """The script that the data describes. Raises ValueError naming the first unknown key and its place."""
    _known("the script", data, ("services", "images", "builds", "capacity", "timing", "unavailable"))
    script = Script()
    for name, service in data.get("services", {}).items():
        script = _with_service(script, name, service)
    for reference, image in data.get("images", {}).items():
        _known(f"images.{reference}", image, ("digest", "local", "missing", "pull_takes"))
        script = script.image(reference, **image)
    for title, build in data.get("builds", {}).items():
        _known(f"builds.{title}", build, ("fails", "takes"))
        script = script.build(title, **build)
    if "capacity" in data:
        capacity = data["capacity"]
        script = script.capacity(None if capacity is None else _made("capacity", Capacity, capacity))
    if "timing" in data:
        script = script.timing(_made("timing", Timing, data["timing"]))
    return script.unavailable(data["unavailable"]) if "unavailable" in data else script


def _with_service(script: Script, name: str, data: Mapping[str, Any]) -> Script:
    _known(f"services.{name}", data, (*SERVICE, "exec", "request"))
    told = {key: data[key] for key in SERVICE if key in data}
    if "exits_with" in told:
        told["exits_with"] = _exit(told["exits_with"])
    script = script.service(name, **told)
    for rule in data.get("exec", ()):
        _known(f"services.{name}.exec", rule, ("command", "answers", "takes"))
        answers = [_exec_answer(answer) for answer in _listed(rule.get("answers", {}))]
        script = script.on_exec(name, _pattern(rule.get("command")), answers, takes=rule.get("takes"))
    for rule in data.get("request", ()):
        _known(f"services.{name}.request", rule, ("endpoint", "method", "answers", "takes"))
        responses = [_response(answer) for answer in _listed(rule.get("answers", {}))]
        script = script.on_request(
            name, rule.get("endpoint"), responses, method=rule.get("method"), takes=rule.get("takes")
        )
    return script


def _pattern(words: Sequence[str] | None) -> list[Any] | None:
    """A command pattern; plain data has `"..."` where Python has `...`."""
    if words is None or not words or words[-1] != "...":
        return None if words is None else list(words)
    return [*words[:-1], ...]


def _exit(data: int | Mapping[str, Any]) -> Exit:
    return Exit(data) if isinstance(data, int) else _made("exits_with", Exit, data)


def _exec_answer(data: Mapping[str, Any]) -> ExecResult | Trouble:
    _known("an answer to a command", data, ("code", "output", "refused"))
    if "refused" in data:
        return NotReached(data["refused"])
    return ExecResult(data.get("code", 0), data.get("output", ""))


def _response(data: Mapping[str, Any]) -> HttpResponse | Trouble:
    _known("an answer to a request", data, ("code", "headers", "body", "refused"))
    if "refused" in data:
        return NotReached(data["refused"])
    return HttpResponse(data.get("code", 200), data.get("headers", {}), data.get("body", "").encode())


def _listed(answers: Any) -> Sequence[Any]:
    return [answers] if isinstance(answers, Mapping) else answers


def _made(place: str, kind: Any, data: Mapping[str, Any]) -> Any:
    try:
        return kind(**data)
    except TypeError as mismatch:
        raise ValueError(f"{place}: {mismatch}") from None


def _known(place: str, data: Mapping[str, Any], keys: Sequence[str]) -> None:
    for key in data:
        if key not in keys:
            raise ValueError(f"{place}: unknown key `{key}`; known are {', '.join(keys)}")
