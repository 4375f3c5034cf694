"""What is to happen in a simulated engine: services, answers, images, told in advance.

    Script()
        .service("db", opens_after={"pg": 2.0}, logs=[(0.1, "starting")])
        .on_exec("db", ["pg_isready", ...], [ExecResult(1, "no\\n"), ExecResult(0, "yes\\n")])
        .on_request("api", "/health", HttpResponse(200, {}, b"ok"))
        .image("postgres:61", missing="manifest unknown")

A script is an immutable value: each call returns a new one that says this as well. Service names are globs
(`"run-*"`, `"*"`). Where several rules fit, the one told last holds, so a script can be made more particular
by whoever gets it. All times are virtual seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from pytest_enclave.engine.protocol import Exit, HttpRequest, Leak
from pytest_enclave.engine.simulated.behaviour import Behaviour, ScriptedBuild, ScriptedImage, Timing, digest_of
from pytest_enclave.engine.simulated.rules import (
    Command,
    CommandPattern,
    EndpointPattern,
    ExecAnswer,
    ExecRule,
    RequestAnswer,
    RequestRule,
    Rule,
    fits_command,
    fits_endpoint,
    turns_of,
)
from pytest_enclave.errors import Problem
from pytest_enclave.plan.facts import Capacity


@dataclass(frozen=True, slots=True)
class Script:
    """All that was told of a simulated engine. Read it with the methods ending in `_of` and `_for`.

    It is a dataclass, for users may make more of it.
    """

    services: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    execs: tuple[ExecRule, ...] = ()
    requests: tuple[RequestRule, ...] = ()
    images: Mapping[str, ScriptedImage] = field(default_factory=dict)
    builds: Mapping[str, ScriptedBuild] = field(default_factory=dict)
    times: Timing = field(default_factory=Timing)
    limits: Capacity | None = field(default_factory=lambda: Capacity(cpu=8_000, memory=16_384))
    leaks: tuple[Leak, ...] = ()
    outage: str | None = None

    def service(
        self,
        name: str,
        *,
        opens_after: Mapping[str, float | None] | None = None,
        exits_after: float | None = None,
        exits_with: Exit | None = None,
        logs: Sequence[tuple[float, str]] | None = None,
        files: Mapping[str, str | bytes] | None = None,
        start_takes: float | None = None,
        start_fails: str | None = None,
        problems: Sequence[Problem] | None = None,
    ) -> Script:
        """How services of that name behave, see `Behaviour`; what is left out stays as told before.

        Raises ValueError where a time is negative.
        """
        told: dict[str, Any] = {
            "opens_after": opens_after,
            "exits_after": exits_after,
            "exits_with": exits_with,
            "logs": None if logs is None else tuple(sorted((at, text) for at, text in logs)),
            "files": None if files is None else {path: _content(text) for path, text in files.items()},
            "start_takes": start_takes,
            "start_fails": start_fails,
            "problems": None if problems is None else tuple(problems),
        }
        times = [exits_after, start_takes, *(opens_after or {}).values(), *(at for at, _ in logs or ())]
        _refuse_negative(f'service("{name}")', times)
        given = {key: value for key, value in told.items() if value is not None}
        return replace(self, services=(*self.services, (name, given)))

    def on_exec(
        self, service: str, command: CommandPattern, answer: ExecAnswer, *, takes: float | None = None
    ) -> Script:
        """What commands give in a service, and how long they take in all.

        Raises ValueError where a pattern is a text, or has `...` elsewhere than at its end, and where there
        is no answer.
        """
        _refuse_negative(f'on_exec("{service}")', [takes])
        rule: ExecRule = Rule(service, fits_command(command), turns_of(answer), takes)
        return replace(self, execs=(*self.execs, rule))

    def on_request(
        self,
        service: str,
        endpoint: EndpointPattern,
        answer: RequestAnswer,
        *,
        method: str | None = None,
        takes: float | None = None,
    ) -> Script:
        """What requests (of one method, or of any) to a service give, and how long they take in all.

        Raises ValueError where there is no answer.
        """
        _refuse_negative(f'on_request("{service}")', [takes])
        rule: RequestRule = Rule(service, fits_endpoint(endpoint, method), turns_of(answer), takes)
        return replace(self, requests=(*self.requests, rule))

    def image(
        self,
        reference: str,
        *,
        digest: str | None = None,
        local: bool = True,
        missing: bool | str = False,
        pull_takes: float | None = None,
    ) -> Script:
        """What is special about an image: its digest, or that a pull must come first (`local=False`).

        `missing`, best with the reason: it is neither local nor to be had.
        """
        _refuse_negative(f'image("{reference}")', [pull_takes])
        reason = "not found" if missing is True else missing or None
        scripted = ScriptedImage(digest or digest_of(reference), local and reason is None, reason, pull_takes)
        return replace(self, images={**self.images, reference: scripted})

    def build(self, title: str, *, fails: str | None = None, takes: float | None = None) -> Script:
        """What is special about building the image that an `ImageBuildSpec` calls so: that it fails, or takes long."""
        _refuse_negative(f'build("{title}")', [takes])
        return replace(self, builds={**self.builds, title: ScriptedBuild(fails, takes)})

    def timing(self, timing: Timing) -> Script:
        """How long everything takes that no rule gives a time of its own."""
        _refuse_negative("timing", [timing.start, timing.exec, timing.request, timing.pull, timing.build])
        return replace(self, times=timing)

    def capacity(self, capacity: Capacity | None) -> Script:
        """What services can be given in all; None: that is not known."""
        return replace(self, limits=capacity)

    def leaves(self, *leaks: Leak) -> Script:
        """What closing an enclave for the first time fails to remove."""
        return replace(self, leaks=(*self.leaks, *leaks))

    def unavailable(self, reason: str) -> Script:
        """No engine answers, for this reason."""
        return replace(self, outage=reason)

    def behaviour_of(self, service: str) -> Behaviour:
        """All that was told of a service, over the defaults."""
        told: dict[str, Any] = {}
        for pattern, given in self.services:
            if fnmatchcase(service, pattern):
                told.update(given)
        return Behaviour(**told)

    def image_of(self, reference: str) -> ScriptedImage:
        """What is told of an image, or else one that is local."""
        return self.images.get(reference) or ScriptedImage(digest_of(reference))

    def build_of(self, title: str) -> ScriptedBuild:
        """What is told of a build, or else one that succeeds."""
        return self.builds.get(title, ScriptedBuild())

    def rule_for_exec(self, service: str, command: Command) -> ExecRule | None:
        """The rule that answers a command, None where there is none."""
        return next((rule for rule in reversed(self.execs) if rule.concerns(service, command)), None)

    def rule_for_request(self, service: str, request: HttpRequest) -> RequestRule | None:
        """The rule that answers a request, None where there is none."""
        return next((rule for rule in reversed(self.requests) if rule.concerns(service, request)), None)


def _content(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _refuse_negative(subject: str, times: Sequence[float | None]) -> None:
    for time in times:
        if time is not None and not time >= 0:
            raise ValueError(f"{subject}: {time} is no length of time")
