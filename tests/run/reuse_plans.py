"""Random plans over a few names, each complete in itself, and what each of their values is in a fresh enclave.

A plan is written from steps. A step that makes no sense where it stands (reading what was not written) is taken for a
similar one, or left out; so any list of steps is a plan, and any change of the list another one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

SERVICES, ARTIFACTS, VERSIONS, KEYS = ("a", "b"), ("f", "g"), ("1", "2"), ("x", "y")
BETWEEN, BY_DEFAULT = frozenset(KEYS), frozenset[str]()
"""The subnetworks that a connection is between: keys name these, too."""


@dataclass(frozen=True)
class Step:
    """What to do, to the service or artifact of which name, and the version of whatever it says or makes."""

    does: str
    name: str = ""
    version: str = "1"
    mounts: str = ""
    uses_value: bool = False
    key: str = "x"


@dataclass(frozen=True)
class Draft:
    """Steps, and the content of the package's file, which is no part of its text.

    One that is wired puts services into subnetworks, and begins by settling all connections between these.
    """

    steps: tuple[Step, ...]
    edition: str = "1"
    wired: bool = False


services, versions, keys = st.sampled_from(SERVICES), st.sampled_from(VERSIONS), st.sampled_from(KEYS)
mounts = st.sampled_from(["", *ARTIFACTS])
added = st.builds(Step, st.just("add"), services, versions, mounts, st.booleans())
steps = st.one_of(
    added,
    st.builds(Step, st.sampled_from(["add", "batch"]), services, versions, mounts, st.booleans()),
    st.builds(Step, st.sampled_from(["remove", "stop", "start", "set"]), services, versions),
    st.builds(Step, st.sampled_from(["write", "write", "read"]), services, versions, key=keys),
    st.builds(Step, st.sampled_from(["read", "wait", "request"]), services, key=keys),
    st.builds(Step, st.sampled_from(["render", "upload"]), st.sampled_from(ARTIFACTS), versions),
    st.builds(Step, st.just("store"), st.sampled_from(ARTIFACTS), services, key=keys),
    st.builds(Step, st.sampled_from(["print", "verify"]), version=versions, uses_value=st.booleans()),
)
beginnings = st.lists(added, max_size=2)
unwired = st.builds(
    lambda first, rest, edition: Draft((*first, *rest), edition),
    beginnings,
    st.lists(steps, min_size=1, max_size=7),
    versions,
)
wirings = st.builds(Step, st.sampled_from(["wire", "reach", "reach", "move", "unwire"]), services, versions, key=keys)
wired = st.builds(
    lambda first, rest, edition: Draft((*first, *rest), edition, wired=True),
    st.lists(added, min_size=2, max_size=2),
    st.lists(st.one_of(wirings, wirings, steps), min_size=1, max_size=6),
    versions,
)
drafts = st.one_of(unwired, unwired, wired)


@st.composite
def changed(draw: st.DrawFn, draft: Draft) -> Draft:
    """The plan with one step replaced, left out or added, cut off at some point, or with another file."""
    at = draw(st.integers(0, len(draft.steps) - 1))
    head, tail = draft.steps[:at], draft.steps[at + 1 :]
    other = "1" if draft.steps[at].version == "2" else "2"
    variants = [
        replace(draft, steps=(*head, replace(draft.steps[at], version=other), *tail)),
        replace(draft, steps=(*head, draw(steps), *tail)),
        replace(draft, steps=(*head, *tail)),
        replace(draft, steps=(*draft.steps, draw(steps))),
        replace(draft, steps=(*head, draw(steps), *draft.steps[at:])),
        replace(draft, steps=draft.steps[: at + 1]),
        replace(draft, steps=draft.steps[at:]),
        replace(draft, edition=draw(versions)),
        draft,
    ]
    variant = draw(st.sampled_from(variants))
    return variant if variant.steps else draft


@st.composite
def series(draw: st.DrawFn) -> list[Draft]:
    """Plans to be run one after the other: most are changed from one before."""
    found = [draw(drafts)]
    for _ in range(draw(st.integers(0, 4))):
        again = draw(st.integers(0, 4))
        found.append(draw(changed(draw(st.sampled_from(found)))) if again else draw(drafts))
    return found


@dataclass
class Running:
    """One service of a plan, as its latest line has it: what it says of itself, whether it runs, what was written."""

    image: str
    version: str
    env: Callable[[], str] | None
    mounted: tuple[str, Callable[[], str]] | None
    in_batch: bool
    place: str = ""
    up: bool = True
    written: dict[str, str] = field(default_factory=dict)

    def says(self, value: str) -> str:
        """What its commands and requests give; the site of the tests has the same words."""
        return says(
            self.image,
            self.version,
            self.env() if self.env else "",
            [self.mounted[1]()] if self.mounted else [],
            value,
        )

    def config(self, value: str) -> str:
        """Its config; `value` is the name of the value that is in its environment."""
        fields = [
            f'image = "img{self.version}"',
            f'cmd = ["{self.version}"]',
            'ports = {"http": PortSpec(number = 80, wait = "1s")}',
        ]
        if self.mounted:
            fields.append(f'files = {{"/f": "{self.mounted[0]}"}}')
        if self.place:
            fields.append(f'subnetwork = "{self.place}"')
        if self.env:
            fields.append(f'env_vars = {{"V": {value}}}')
        return f"ServiceConfig({', '.join(fields)})"


def says(image: str, command: str, env: str, files: list[str], value: str) -> str:
    """What a service with that config, those files and that state gives."""
    return f"{image}/{command}/{env}/{'+'.join(files)}/{value}"


@dataclass
class Written:
    """A plan without the steps that make no sense, and what it has at its end.

    What a line says, and what a value is, is known when all lines are: a later one may set a service.
    """

    edition: str
    lines: list[Callable[[], str]] = field(default_factory=list)
    values: list[Callable[[], str]] = field(default_factory=list)
    there: dict[str, Running] = field(default_factory=dict)
    made: dict[str, Callable[[], str]] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    wires: dict[frozenset[str], int] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(draft: Draft) -> Written:
        """The plan of a draft."""
        plan = Written(draft.edition)
        if draft.wired:
            plan.lines += [plan._settled(BY_DEFAULT, 0), plan._settled(BETWEEN, 0)]
        for step in draft.steps:
            line = plan._line(plan._sensible(step))
            if line is not None:
                plan.lines.append(line)
        return plan

    def script(self, *, fails_at: int | None = None) -> str:
        """The package's text; it returns every value that it finds out. It may fail before a line of some number."""
        lines = [line() for line in self.lines]
        if fails_at is not None:
            lines.insert(fails_at % (len(lines) + 1), 'plan.verify("no", "==", "yes")')
        body = "".join(f"    {line}\n" for line in lines)
        return f"def run(plan):\n{body}    return [" + ", ".join(f"v{n}" for n in range(len(self.values))) + "]\n"

    def broken_script(self) -> str:
        """The same, but no service of it ever listens."""
        return self.script().replace('"http": ', '"p": ').replace('port_id = "http"', 'port_id = "p"')

    @property
    def output(self) -> list[str]:
        """What it returns."""
        return [value() for value in self.values]

    @property
    def network(self) -> dict[tuple[str, str], int]:
        """The percentage of packets that are lost between the services that it leaves, unless none are."""
        found = {(one, other): self._loss(one, other) for one in self.there for other in self.there}
        return {pair: loss for pair, loss in found.items() if loss}

    def _loss(self, one: str, other: str) -> int:
        pair = frozenset({self.places.get(one, ""), self.places.get(other, "")})
        return 0 if len(pair) < 2 else self.wires.get(pair, self.wires[BY_DEFAULT])

    def _settled(self, between: frozenset[str], loss: int) -> Callable[[], str]:
        self.wires[between] = loss
        pair = f'("{KEYS[0]}", "{KEYS[1]}"), ' if between else ""
        return lambda: f"plan.set_connection({pair}config = ConnectionConfig(packet_loss_percentage = {loss}))"

    def _sensible(self, step: Step) -> Step:
        """The step, or one like it: most of what makes no sense would do so for another service, or as a write."""
        if step.does == "add" and step.name in self.there:
            step = replace(step, name=next((name for name in SERVICES if name not in self.there), step.name))
            return step if step.name not in self.there else replace(step, does="write")
        if step.does in ("write", "read", "wait", "request"):
            up = [name for name, service in self.there.items() if service.up]
            name = step.name if step.name in up else up[0] if up else step.name
            written = name in up and step.key in self.there[name].written
            return replace(step, name=name, does=step.does if written else "write")
        return step

    def _line(self, step: Step) -> Callable[[], str] | None:
        name, version = step.name, step.version
        here = self.there.get(name)
        match step.does:
            case "add" if here is None:
                return self._added(step, f'plan.add_service("{name}", %s)')
            case "batch" if not self.there:
                other = Step("add", "b" if name == "a" else "a")
                return self._added(
                    other, self._added(step, f'plan.add_services({{"{name}": %s, "{other.name}": %%s}})')
                )
            case "set" if here is not None and not here.in_batch:
                here.image = f"img{version}"
                return lambda: f'plan.set_service("{name}", ServiceConfig(image = "img{version}"))'
            case "remove" if here is not None:
                del self.there[name], self.places[name]
                return lambda: f'plan.remove_service("{name}")'
            case "stop" | "start" if here is not None and here.up == (step.does == "stop"):
                here.up = step.does == "start"
                return lambda: f'plan.{step.does}_service("{name}")'
            case "write" if here is not None and here.up:
                here.written[step.key] = version
                command = f'ExecRecipe(command = ["set", "{step.key}", "{version}"])'
                return self._gives(f'plan.exec("{name}", {command})["output"]', here, version)
            case "read" if here is not None and here.up and step.key in here.written:
                command = f'ExecRecipe(command = ["get", "{step.key}"])'
                return self._gives(f'plan.exec("{name}", {command})["output"]', here, here.written[step.key])
            case "wait" if here is not None and here.up and step.key in here.written:
                value = here.written[step.key]
                line = (
                    f'plan.wait("{name}", ExecRecipe(command = ["get", "{step.key}"]), "output", "==", %s,'
                    ' timeout = "3s")["output"]'
                )
                return self._gives(line, here, value)
            case "request" if here is not None and here.up and step.key in here.written:
                recipe = f'GetHttpRequestRecipe(port_id = "http", endpoint = "/{step.key}")'
                return self._gives(f'plan.request("{name}", recipe = {recipe})["body"]', here, here.written[step.key])
            case "render" if name not in self.made:
                self._makes(name, lambda: version)
                template = f'{{"t": struct(template = "{version}", data = {{}})}}'
                return lambda: f'plan.render_templates({template}, name = "{name}")'
            case "upload" if name not in self.made:
                self._makes(name, lambda: self.edition)
                return lambda: f'plan.upload_files("./t", name = "{name}")'
            case "store" if name not in self.made and (source := self.there.get(version)) is not None:
                if not source.up or step.key not in source.written:
                    return None
                stored = source.written[step.key]
                self._makes(name, lambda: stored)
                return lambda: f'plan.store_service_files("{version}", "/state/{step.key}", name = "{name}")'
            case "wire" if self.wires:
                return self._settled(BETWEEN if step.key == "x" else BY_DEFAULT, 50 * int(version))
            case "unwire" if self.wires and set(self.places.values()) == BETWEEN:
                self.wires.pop(BETWEEN, None)
                return lambda: f'plan.remove_connection(("{KEYS[1]}", "{KEYS[0]}"))'
            case "move" if self.wires and here is not None:
                self.places[name] = step.key
                return lambda: f'plan.update_service("{name}", UpdateServiceConfig("{step.key}"))'
            case "reach" if here is not None and here.up and self.wires and len(self.there) == len(SERVICES):
                other = next(service for service in SERVICES if service != name)
                command = f'ExecRecipe(command = ["reach", "{other}"])'
                return self._gives(f'plan.exec("{name}", {command})["output"]', here, f"{self._loss(name, other)}")
            case "print":
                number = len(self.values) - 1
                value = f"v{number}" if step.uses_value and number >= 0 else f'"{version}"'
                return lambda: f"plan.print({value})"
            case "verify" if self.values:
                number, known = len(self.values) - 1, self.values[-1]
                return lambda: f'plan.verify(v{number}, "==", {json.dumps(known())})'
        return None

    def _added(self, step: Step, line: str | Callable[[], str]) -> Callable[[], str]:
        content = self.made.get(step.mounts)
        number = len(self.values) - 1
        service = Running(
            f"img{step.version}",
            step.version,
            self.values[-1] if step.uses_value and self.values else None,
            (step.mounts, content) if content is not None else None,
            in_batch="add_services" in line if isinstance(line, str) else True,
            place=step.key if self.wires else "",
        )
        self.places[step.name] = service.place
        self.there[step.name] = service
        self.named.add(step.name)
        config = service.config(f"v{number}")
        return lambda: (line if isinstance(line, str) else line()) % config

    def _gives(self, line: str, service: Running, value: str) -> Callable[[], str]:
        number = len(self.values)
        self.values.append(lambda: service.says(value))
        return lambda: f"v{number} = " + (line % json.dumps(service.says(value)) if "%s" in line else line)

    def _makes(self, name: str, content: Callable[[], str]) -> None:
        self.made[name] = content
        self.named.add(name)
