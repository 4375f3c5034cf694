"""Why did this run again? Every answer, word for word, from runs on the simulated engine."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace

from pytest_enclave.engine.protocol import Action, ExecResult, Exit
from pytest_enclave.engine.simulated.behaviour import ScriptedImage
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.plan.image_sources import image_name
from pytest_enclave.report.explanation import explain
from pytest_enclave.run.outcome import Run
from tests.laboratory import Laboratory

DB = 'plan.add_service("db", ServiceConfig(image = "img"{}))\n'
MIGRATE = 'plan.exec("db", ExecRecipe(command = ["migrate"]))\n'


def told(run: Run, earlier: Run | None = None) -> str:
    """The explanation as text, two spaces for each indent, each paragraph in one line."""
    found = explain(run, "shop-1", earlier)
    paragraphs = [] if found is None else [(0, found.headline), *found.paragraphs]
    return "\n".join("  " * indent + text for indent, text in paragraphs)


def why(lab: Laboratory, before: str | Path, now: str | Path, ending: str = "ok") -> str:
    """What is told of the second of two runs."""
    lab.ok(before)
    return told(getattr(lab, ending)(now))


def block(text: str) -> str:
    """The lines of an indented literal; what is indented by eight or more goes on with the line before."""
    lines = text.strip("\n").rstrip().split("\n")
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    return re.sub(r"\n {8,}", " ", "\n".join(line[margin:] for line in lines))


def test_a_first_run_has_nothing_to_explain(lab: Laboratory):
    assert told(lab.ok(DB.format("") + MIGRATE)) == "first run in enclave shop-1: everything runs"


def test_a_run_that_reuses_everything_is_not_told(lab: Laboratory):
    assert why(lab, DB.format(""), DB.format("")) == ""


@pytest.mark.parametrize(
    ("before", "now", "change"),
    [
        (', env_vars = {"MODE": "dev"}', ', env_vars = {"MODE": "prod"}', 'config.env_vars["MODE"]: "dev" → "prod"'),
        ("", ', env_vars = {"MODE": "prod"}', 'config.env_vars: (not given) → {"MODE": "prod"}'),
        (', env_vars = {"A": "1", "B": "2"}', ', env_vars = {"A": "1"}', 'config.env_vars["B"]: "2" → (not given)'),
        (', cmd = ["a", "b"]', ', cmd = ["a", "c"]', 'config.cmd[1]: "b" → "c"'),
        (", max_cpu = 100", ", max_cpu = 200", "config.max_cpu: 100 → 200"),
        (
            ', ports = {"p": PortSpec(80, wait = None)}',
            ', ports = {"p": PortSpec(81, wait = None)}',
            'config.ports["p"].number: 80 → 81',
        ),
        (
            ', cmd = ["' + "x" * 70 + "one" + "y" * 70 + '"]',
            ', cmd = ["' + "x" * 70 + "two" + "y" * 70 + '"]',
            f"config.cmd[0]: …{'x' * 12}one{'y' * 31}… → …{'x' * 12}two{'y' * 31}…",
        ),
        (
            ', cmd = ["' + "a" * 90 + '"]',
            ', cmd = ["b"]',
            f'config.cmd[0]: "{"a" * 46}… → "b"',
        ),
        (', cmd = ["a\\tb"]', ', cmd = ["a\\nb"]', r'config.cmd[0]: "a\tb" → "a\nb"'),
    ],
)
def test_a_changed_argument_is_told_by_its_path_and_its_values(lab: Laboratory, before: str, now: str, change: str):
    expected = f'enclave shop-1: 1 of 1 instruction ran\n  add_service("db") at <source>:2, updated\n    {change}'
    assert why(lab, DB.format(before), DB.format(now)) == expected


def test_a_call_that_has_moved_is_told_with_both_places(lab: Laboratory):
    now = 'mode = "prod"\n\n' + DB.format(', env_vars = {"MODE": mode}')
    assert why(lab, DB.format(', env_vars = {"MODE": "dev"}'), now) == block(
        """
        enclave shop-1: 1 of 1 instruction ran
          add_service("db") at <source>:4 (recorded at <source>:2), updated
            config.env_vars["MODE"]: "dev" → "prod"
        """
    )


@pytest.mark.parametrize(
    ("variables", "change"),
    [
        ('"DB_PASSWORD": "{0}"', 'config.env_vars["DB_PASSWORD"]: •••• → •••• (a secret)'),
        (
            '"DB_URL": "pg://u:{0}@db", "TOKEN": "{0}"',
            'config.env_vars["DB_URL"]: "pg://u:••••@db" → "pg://u:••••@db" (a secret)',
        ),
        ('"KEYBOARD": "{0}"', 'config.env_vars["KEYBOARD"]: "sesame-open" → "sesame-shut"'),
    ],
)
def test_secrets_are_masked_those_of_the_record_as_well(lab: Laboratory, variables: str, change: str):
    before, now = (
        DB.format(f", env_vars = {{{variables.format(secret)}}}") for secret in ("sesame-open", "sesame-shut")
    )
    assert why(lab, before, now).splitlines()[2] == f"    {change}"


def test_a_secret_of_one_letter_is_masked_where_it_changed(lab: Laboratory):
    before, now = (DB.format(f', env_vars = {{"API_KEY": "{secret}"}}') for secret in ("1", "2"))
    assert why(lab, before, now).splitlines()[2] == '    config.env_vars["API_KEY"]: •••• → •••• (a secret)'


def test_a_reference_to_another_call_looks_the_same(lab: Laboratory):
    calls = "a, b = [plan.exec('db', ExecRecipe(command = [word])) for word in ('one', 'two')]\n"
    service = 'plan.add_service("api", ServiceConfig(image = "img", cmd = [{}["output"]]))\n'
    plan = DB.format("") + calls + service
    assert why(lab, plan.format("a"), plan.format("b")).splitlines()[1:] == [
        '  add_service("api") at <source>:4, updated',
        '    config.cmd[0]: "‹output›" → "‹output›" (of another call)',
    ]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package that uploads a file, and mounts it in a service."""
    root = tmp_path / "package"
    (root / "api").mkdir(parents=True)
    (root / "kurtosis.yml").write_text("name: github.com/example/uploads\n")
    (root / "settings.txt").write_text("one")
    (root / "api" / "Dockerfile").write_text("FROM a\n")
    (root / "main.star").write_text(
        "def run(plan):\n"
        '    f = plan.upload_files("./settings.txt", name = "settings")\n'
        '    plan.add_service("a", ServiceConfig(image = "img", files = {"/f": f}))\n'
        '    plan.exec("a", ExecRecipe(command = ["true"]))\n'
    )
    return root


def test_a_file_that_changed_is_told_with_its_digests_and_is_the_first_cause_of_what_follows(
    lab: Laboratory, package: Path
):
    old = _digest(lab.ok(package))
    (package / "settings.txt").write_text("two")
    run = lab.ok(package)
    new = _digest(run)
    assert told(run) == block(
        f"""
        enclave shop-1: 3 of 3 instructions ran
          upload_files("./settings.txt", "settings") at main.star:2, updated
            the content of `./settings.txt` changed: {old} → {new}
          add_service("a") at main.star:3, updated
            files artifact `settings` changed: upload_files("./settings.txt", "settings") at main.star:2 was updated,
                because the content of `./settings.txt` changed
          exec("a", $ true) at main.star:4, executed
            service `a` was replaced: add_service("a") at main.star:3 was updated
            first cause: upload_files("./settings.txt", "settings") at main.star:2 was updated,
                because the content of `./settings.txt` changed
        """
    )


def test_what_an_image_is_built_from_is_told_when_it_changed(lab: Laboratory, package: Path):
    spec = 'ImageBuildSpec(image_name = "shop/api", build_context_dir = "./api")'
    (package / "main.star").write_text(f'def run(plan):\n    plan.add_service("a", ServiceConfig(image = {spec}))\n')
    (old,) = _images(lab.ok(package))
    (package / "api" / "Dockerfile").write_text("FROM b\n")
    run = lab.ok(package)
    (new,) = _images(run)
    assert told(run).splitlines()[1:] == [
        '  add_service("a") at main.star:2, updated',
        f"    what image `shop-api` is built from changed: {old[:12]} → {new[:12]}",
    ]


BOTH = (
    'plan.add_services({n: ServiceConfig(image = "img", env_vars = {"T": "%s"}) for n in ["a", "b"]})\n'
    'plan.update_service("a", UpdateServiceConfig(subnetwork = "%s"))\n'
    'plan.exec("a", ExecRecipe(command = ["true"]))\n'
)


def test_a_service_that_moved_to_another_subnetwork_is_told_and_so_is_who_may_see_it(lab: Laboratory):
    lab.ok(BOTH % ("1", "one"))
    assert told(lab.ok(BOTH % ("1", "two"))) == block(
        """
        enclave shop-1: 2 of 3 instructions ran
          update_service("a", "two") at <source>:3, updated
            config.subnetwork: "one" → "two"
          exec("a", $ true) at <source>:4, executed
            connections between services changed: update_service("a", "two") at <source>:3 was updated,
                because config.subnetwork changed
        """
    )


def test_services_that_were_replaced_leave_their_subnetworks_as_they_are(lab: Laboratory):
    lab.ok(BOTH % ("1", "one"))
    assert told(lab.ok(BOTH % ("2", "one"))) == block(
        """
        enclave shop-1: 2 of 3 instructions ran
          add_services("a", "b") at <source>:2, updated
            configs["a"].env_vars["T"]: "1" → "2"
          exec("a", $ true) at <source>:4, executed
            services `a`, `b` were replaced: add_services("a", "b") at <source>:2 was updated,
                because configs["a"].env_vars["T"] changed
        """
    )


def _digest(run: Run) -> str:
    return run.plan.instructions[0].files["src"].digest.removeprefix("sha256:")[:12]


def _images(run: Run) -> list[str]:
    return [image_name(call.get("config").get("image")).rpartition(":")[2] for call in run.plan.instructions]


@dataclass(frozen=True)
class Registry(Script):
    """A script whose tags can be moved to other images while an enclave lives."""

    tags: dict[str, ScriptedImage] = field(default_factory=dict)

    def image_of(self, reference: str) -> ScriptedImage:
        """The image that the tag is at now."""
        return self.tags.get(reference) or Script.image_of(self, reference)


def test_an_image_whose_tag_has_moved_is_told_with_both_digests(laboratory: Callable[..., Laboratory]):
    registry = Registry(tags={"img": ScriptedImage("sha256:0123456789abcdef")})
    lab = laboratory(registry)
    task = 'plan.run_sh(run = "true", image = "img", name = "t")\n'
    lab.ok('plan.add_service("db", ServiceConfig(image = "img"))\n' + task)
    registry.tags["img"] = ScriptedImage("sha256:fedcba9876543210")
    assert told(lab.ok('plan.add_service("db", ServiceConfig(image = "img"))\n' + task)) == block(
        """
        enclave shop-1: 2 of 2 instructions ran
          add_service("db") at <source>:2, updated
            service `db` runs from another image than recorded
            image `img` is another one now: 0123456789ab → fedcba987654
          run_sh($ true) at <source>:3, executed
            service `db` was replaced: add_service("db") at <source>:2 was updated,
                because service `db` runs from another image than recorded
            image `img` is another one now: 0123456789ab → fedcba987654
        """
    )


def test_an_image_that_is_not_here_any_more_is_told(laboratory: Callable[..., Laboratory]):
    registry = Registry(tags={"img": ScriptedImage("sha256:0123456789abcdef")})
    lab = laboratory(registry)
    lab.ok(DB.format(""))
    registry.tags["img"] = ScriptedImage("sha256:0123456789abcdef", local=False)
    assert told(lab.ok(DB.format(""))).splitlines()[2:] == [
        "    image `img` is another one now: it was not here any more"
    ]


def test_a_replaced_service_is_named_with_who_replaced_it_and_why(lab: Laboratory):
    before = DB.format(', env_vars = {"MODE": "dev"}') + MIGRATE + 'plan.stop_service("db")'
    assert why(lab, before, before.replace('"dev"', '"prod"')) == block(
        """
        enclave shop-1: 3 of 3 instructions ran
          add_service("db") at <source>:2, updated
            config.env_vars["MODE"]: "dev" → "prod"
          exec("db", $ migrate) at <source>:3, executed
            service `db` was replaced: add_service("db") at <source>:2 was updated,
                because config.env_vars["MODE"] changed
          stop_service("db") at <source>:4, executed
            service `db` was replaced: add_service("db") at <source>:2 was updated,
                because config.env_vars["MODE"] changed
        """
    )


def test_a_cause_is_followed_to_the_first_one_through_artifacts_and_services(laboratory: Callable[..., Laboratory]):
    script = Script().service("gen", files={"/data": "1"})
    script = script.on_exec("t", ["look"], [ExecResult(0, "before"), ExecResult(0, "after")])
    lab = laboratory(script)
    plan = (
        'plan.render_templates({{"c": struct(template = "{0}", data = {{}})}}, name = "conf")\n'
        'plan.add_service("t", ServiceConfig(image = "img", files = {{"/c": "conf"}}))\n'
        'o = plan.exec("t", ExecRecipe(command = ["look"]))\n'
        'plan.add_service("api", ServiceConfig(image = "img", env_vars = {{"O": o["output"]}}))\n'
    )
    assert why(lab, plan.format("one"), plan.format("two")) == block(
        """
        enclave shop-1: 4 of 4 instructions ran
          render_templates("conf") at <source>:2, updated
            config["c"].template: "one" → "two"
          add_service("t") at <source>:3, updated
            files artifact `conf` changed: render_templates("conf") at <source>:2 was updated,
                because config["c"].template changed
          exec("t", $ look) at <source>:4, executed
            service `t` was replaced: add_service("t") at <source>:3 was updated
            first cause: render_templates("conf") at <source>:2 was updated,
                because config["c"].template changed
          add_service("api") at <source>:5, updated
            config.env_vars["O"]: "before" → "after"
            ‹output› comes from exec("t", $ look) at <source>:4, executed, because service `t` was replaced
            first cause: render_templates("conf") at <source>:2 was updated,
                because config["c"].template changed
        """
    )


def test_a_value_that_stands_for_a_secret_is_masked(laboratory: Callable[..., Laboratory]):
    script = Script().on_exec("db", ["migrate"], [ExecResult(0, "sesame-1"), ExecResult(0, "sesame-2")])
    plan = (
        DB
        + 'o = plan.exec("db", ExecRecipe(command = ["migrate"]))\n'
        + 'variables = {{"A": o["output"], "A_TOKEN": o["output"]}}\n'
        + 'plan.add_service("api", ServiceConfig(image = "img", env_vars = variables))\n'
        + 'plan.print("it is " + o["output"])'
    )
    lab = laboratory(script)
    text = why(lab, plan.format(""), plan.format(', cmd = ["x"]'))
    assert "sesame" not in text
    assert '    config.env_vars["A"]: •••• → •••• (a secret)' in text.splitlines()
    assert "    msg: •••• → •••• (a secret)" in text.splitlines()


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (Action.KILL, "service `db` was killed (exit code 137)"),
        (Action.STOP, "service `db` was stopped, and not by the plan"),
        (Action.PAUSE, "service `db` was paused, and not by the plan"),
        (Action.REMOVE, "service `db` is gone, and not by the plan"),
    ],
)
def test_what_became_of_a_service_meanwhile_is_told(lab: Laboratory, action: Action, reason: str):
    lab.ok(DB.format("") + MIGRATE)
    lab.state.site.act("db", action)
    assert told(lab.ok(DB.format("") + MIGRATE)) == block(
        f"""
        enclave shop-1: 2 of 2 instructions ran
          add_service("db") at <source>:2, updated
            {reason}
          exec("db", $ migrate) at <source>:3, executed
            service `db` was replaced: add_service("db") at <source>:2 was updated, because {reason}
        """
    )


def test_a_service_that_ended_by_itself_is_told_with_its_exit_code(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().service("db", exits_after=5.0, exits_with=Exit(3)))
    lab.ok(DB.format(""))
    lab.state.site.pause(10.0)
    assert told(lab.run(DB.format(""))).splitlines()[2] == "    service `db` has exited (exit code 3)"


def test_where_the_plans_part_is_told_with_both_instructions_and_how_to_keep_them_apart(lab: Laboratory):
    before = DB.format("") + 'plan.print("one")\n' + MIGRATE
    now = DB.format("") + "\n" + 'plan.print("two")\n' + MIGRATE
    assert why(lab, before, now) == block(
        """
        enclave shop-1 reused nothing, for it had run another plan: 3 of 3 instructions ran
          this plan has print("two") at <source>:4
          where the enclave's had print("one") at <source>:3
          msg: "one" → "two"
          isolate=True, or another share=NAME, gives the test an enclave of its own
        """
    )


def test_plans_that_part_at_different_instructions_are_told_by_these(lab: Laboratory):
    assert why(lab, 'plan.print("one")\n' + DB.format(""), 'plan.print("one")\nplan.print("two")') == block(
        """
        enclave shop-1 reused nothing, for it had run another plan: 2 of 2 instructions ran
          this plan has print("two") at <source>:3
          where the enclave's had add_service("db") at <source>:3
          isolate=True, or another share=NAME, gives the test an enclave of its own
        """
    )


def test_an_instruction_that_has_since_changed_what_is_asked_for_is_named(lab: Laboratory):
    lab.ok(DB.format(""))
    assert why(lab, DB.format("") + 'plan.print("x")\nplan.stop_service("db")', DB.format("")) == block(
        """
        enclave shop-1 reused nothing, for it had run another plan: 1 of 1 instruction ran
          stop_service("db") at <source>:4, which ran since, has changed what this plan asks for
          isolate=True, or another share=NAME, gives the test an enclave of its own
        """
    )


def test_new_instructions_are_told_in_one_line(lab: Laboratory):
    assert why(lab, DB.format(""), DB.format("") + MIGRATE) == block(
        """
        enclave shop-1: 1 of 2 instructions ran
          exec("db", $ migrate) at <source>:3, executed: new, what ran here before ends there
        """
    )
    assert told(lab.ok(DB.format("") + MIGRATE + 'plan.print("a")\nplan.print("b")\nplan.print("c")')) == block(
        """
        enclave shop-1: 3 of 5 instructions ran
          print("a") at <source>:4, executed, and 2 more after it: new, what ran here before ends there
        """
    )


def test_what_is_forced_is_told_so(lab: Laboratory):
    forced = DB.format("").replace("))", "), force_update = True)")
    assert why(lab, forced, forced).splitlines()[1:] == [
        '  add_service("db") at <source>:2, updated',
        "    `force_update` is set",
    ]


def test_what_failed_when_it_last_ran_is_told_so(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().on_exec("db", ["migrate"], [ExecResult(1, "no"), ExecResult(0, "yes")]))
    failed = lab.run(DB.format("") + MIGRATE + 'plan.print("x")')
    assert told(lab.ok(DB.format("") + MIGRATE + 'plan.print("x")'), failed) == block(
        """
        enclave shop-1: 2 of 3 instructions ran
          exec("db", $ migrate) at <source>:3, executed
            it failed when it last ran
          print("x") at <source>:4, executed: new, what ran here before ends there
        """
    )


def test_a_failed_update_is_told_when_it_fails_and_when_it_is_tried_again(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().service("*", opens_after={"never": None}))
    broken = DB.format(', ports = {"never": PortSpec(number = 80, wait = "1s")}')
    lab.ok(DB.format("") + MIGRATE)
    for why_now in ("config.ports: (not given) → ", "it failed when it last ran"):
        failed = lab.run(broken + MIGRATE)
        assert told(failed).splitlines()[1] == '  add_service("db") at <source>:2, failed'
        assert told(failed).splitlines()[2].startswith(f"    {why_now}")
    assert told(lab.ok(DB.format("") + MIGRATE)) == block(
        """
        enclave shop-1: 2 of 2 instructions ran
          add_service("db") at <source>:2, updated
            it failed when it last ran
          exec("db", $ migrate) at <source>:3, executed
            service `db` was replaced: add_service("db") at <source>:2 was updated,
                because it failed when it last ran
        """
    )


def test_a_cause_in_an_earlier_run_is_told_with_its_place(laboratory: Callable[..., Laboratory]):
    script = Script().on_exec("db", ["check"], [ExecResult(0, ""), ExecResult(1, "no"), ExecResult(0, "")])
    lab = laboratory(script)
    plan = DB + 'plan.exec("db", ExecRecipe(command = ["check"]))\n' + MIGRATE
    lab.ok(plan.format(""))
    lab.error(plan.format(', cmd = ["x"]'))
    assert told(lab.ok(plan.format(', cmd = ["x"]'))) == block(
        """
        enclave shop-1: 2 of 3 instructions ran
          exec("db", $ check) at <source>:3, executed
            it failed when it last ran
          exec("db", $ migrate) at <source>:4, executed
            service `db` was replaced: add_service("db") at <source>:2, in an earlier run
        """
    )


def test_a_record_that_cannot_be_read_is_not_shown(lab: Laboratory):
    lab.ok(DB.format(', env_vars = {"A": "sesame"}'))
    journal = lab.state.journal
    journal.put({1: replace(journal.records[1], text="<sesame>", key="<sesame>")})
    assert told(lab.ok(DB.format(', env_vars = {"A": "other"}'))).splitlines()[2:] == [
        "    its arguments are written otherwise"
    ]


def test_steps_carry_what_was_recorded_in_their_place(lab: Laboratory):
    before = lab.ok(DB.format("") + MIGRATE)
    now = lab.ok(DB.format(', cmd = ["x"]') + MIGRATE)
    assert [step.before for step in before.instructions] == [None, None]
    added, executed = now.instructions
    assert added.before is not None
    assert executed.before is not None
    assert (added.before.position, added.before.record.text) == (1, before.instructions[0].instruction.text)
    assert (executed.before.record.stale, executed.before.record.stale_by) == ("service `db` was replaced", 1)
    assert executed.before.by is lab.state.journal.records[1]
    assert executed.resolved == executed.instruction.text
    assert (before.recorded, now.recorded, lab.ok(MIGRATE).recorded) == (0, 2, 2)
