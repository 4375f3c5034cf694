"""Random plans over a few names, each complete in itself: one that a fresh enclave accepts.

A plan is written from steps. A step that makes no sense where it stands (stopping what does not run) is left out, so
any list of steps is a plan, and any change of the list another one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

SERVICES, ARTIFACTS, VERSIONS = ("a", "b"), ("f", "g"), ("1", "2")


@dataclass(frozen=True)
class Step:
    """What to do, to the service or artifact of which name, and the version of whatever it says or makes."""

    does: str
    name: str
    version: str = "1"
    mounts: str = ""
    uses_value: bool = False


services, versions = st.sampled_from(SERVICES), st.sampled_from(VERSIONS)
added = st.builds(Step, st.just("add"), services, versions, st.sampled_from(["", *ARTIFACTS]), st.booleans())
steps = (
    added
    | added
    | st.builds(Step, st.sampled_from(["remove", "stop", "start"]), services)
    | st.builds(Step, st.sampled_from(["exec", "batch"]), services, versions)
    | st.builds(Step, st.just("render"), st.sampled_from(ARTIFACTS), versions)
    | st.builds(Step, st.just("store"), st.sampled_from(ARTIFACTS), services)
    | st.builds(Step, st.just("print"), st.just(""), versions)
)
plans = st.lists(steps, min_size=1, max_size=6)


@st.composite
def changed(draw: st.DrawFn, plan: list[Step]) -> list[Step]:
    """The plan with one step replaced, left out or added, or cut off at some point."""
    at = draw(st.integers(0, len(plan) - 1))
    head, tail = plan[:at], plan[at + 1 :]
    variants = [[*head, draw(steps), *tail], [*head, *tail], [*plan, draw(steps)], plan[: at + 1], plan]
    return draw(st.sampled_from(variants)) or plan


@st.composite
def series(draw: st.DrawFn) -> list[list[Step]]:
    """Plans to be run one after the other: most are changed from one before."""
    found = [draw(plans)]
    for _ in range(draw(st.integers(1, 4))):
        again = draw(st.integers(0, 4))
        found.append(draw(changed(draw(st.sampled_from(found)))) if again else draw(plans))
    return found


@dataclass
class Written:
    """The script of a plan, and what the plan has at its end."""

    lines: list[str] = field(default_factory=list)
    running: dict[str, bool] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    values: int = 0

    @property
    def script(self) -> str:
        """The package's text; it returns every value that it finds out."""
        body = "".join(f"    {line}\n" for line in self.lines)
        return f"def run(plan):\n{body}    return [" + ", ".join(f"v{n}" for n in range(self.values)) + "]\n"

    @property
    def broken_script(self) -> str:
        """The same, but no service of it ever listens."""
        return self.script.replace("ServiceConfig(", 'ServiceConfig(ports = {"p": PortSpec(number = 1, wait = "1s")}, ')


def written(plan: list[Step]) -> Written:
    """The plan without the steps that make no sense."""
    done = Written()
    for step in plan:
        line = _line(step, done)
        if line:
            done.lines.append(line)
    return done


def _line(step: Step, done: Written) -> str:
    """The step's line, nothing if it makes no sense; what it changes is noted."""
    name, version = step.name, step.version
    match step.does:
        case "print":
            return f'plan.print("{version}")'
        case "add" if name not in done.running:
            done.running[name] = True
            done.named.add(name)
            return f'plan.add_service("{name}", {_config(step, done)})'
        case "batch" if not done.running:
            done.running |= dict.fromkeys(SERVICES, True)
            done.named |= set(SERVICES)
            other = Step("add", "b" if name == "a" else "a")
            return f'plan.add_services({{"{name}": {_config(step, done)}, "{other.name}": {_config(other, done)}}})'
        case "remove" if name in done.running:
            del done.running[name]
            return f'plan.remove_service("{name}")'
        case "stop" | "start" if done.running.get(name) == (step.does == "stop"):
            done.running[name] = step.does == "start"
            return f'plan.{step.does}_service("{name}")'
        case "exec" if done.running.get(name):
            done.values += 1
            return f'v{done.values - 1} = plan.exec("{name}", ExecRecipe(command = ["echo", "{version}"]))["output"]'
        case "render" if name not in done.made:
            done.made.add(name)
            done.named.add(name)
            return f'plan.render_templates({{"t": struct(template = "{version}", data = {{}})}}, name = "{name}")'
        case "store" if name not in done.made and done.running.get(version):
            done.made.add(name)
            done.named.add(name)
            return f'plan.store_service_files("{version}", "/data", name = "{name}")'
    return ""


def _config(step: Step, done: Written) -> str:
    fields = [f'image = "img{step.version}"', f'cmd = ["{step.version}"]']
    if step.mounts in done.made:
        fields.append(f'files = {{"/f": "{step.mounts}"}}')
    if step.uses_value and done.values:
        fields.append(f'env_vars = {{"V": v{done.values - 1}}}')
    return f"ServiceConfig({', '.join(fields)})"
