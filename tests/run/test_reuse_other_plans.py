"""Different packages in one enclave: each grows and changes it, and it is told where they do not agree."""

from __future__ import annotations

from tests.laboratory import Laboratory

DB = 'plan.add_service("db", ServiceConfig(image = "postgres"))\n'
API = 'plan.add_service("api", ServiceConfig(image = "api", cmd = ["{}"]))\n'
MIGRATE = 'plan.exec("db", ExecRecipe(command = ["migrate"]))\n'


def starts(lab: Laboratory) -> list[str]:
    """The services that were started, one after the other."""
    return [spec.name for call in lab.engine.sites["lab-0"].asked("start") for spec in call["specs"]]


def test_a_plan_that_continues_the_last_one_adds_to_it(lab: Laboratory):
    lab.ok(DB)
    assert lab.outcomes(DB + API.format(1)) == ["skipped", "executed"]
    assert lab.outcomes(DB + API.format(1) + MIGRATE) == ["skipped", "skipped", "executed"]
    assert starts(lab) == ["db", "api"]


def test_a_plan_that_begins_where_the_last_one_ended_goes_on_from_there(lab: Laboratory):
    lab.ok(DB + API.format(1))
    assert lab.outcomes(API.format(1) + 'plan.print("more")') == ["skipped", "executed"]


def test_unrelated_plans_leave_each_other_alone(lab: Laboratory):
    lab.ok(DB + MIGRATE)
    lab.ok(API.format(1))
    assert lab.outcomes(DB + MIGRATE) == ["skipped", "skipped"]
    assert lab.outcomes(API.format(1)) == ["skipped"]
    assert starts(lab) == ["db", "api"]


def test_plans_that_want_a_service_differently_replace_it_in_turn(lab: Laboratory):
    lab.ok(API.format(1) + DB)
    lab.ok('plan.print("another plan")\n' + API.format(2))
    assert lab.state.configs()["api"].cmd == ("2",)
    lab.ok(API.format(1) + DB)
    assert lab.state.configs()["api"].cmd == ("1",)
    assert lab.ok(API.format(1) + DB).executed == 0


def test_where_nothing_aligns_the_run_says_where_the_plans_part(lab: Laboratory):
    lab.ok('plan.print("one")\n' + DB)
    finished = lab.ok('plan.print("one")\n' + MIGRATE)
    assert finished.mismatch == "exec at <source>:3:14 is not the add_service of <source>:3:21 that ran here before"
    assert finished.skipped == 0


def test_where_something_since_has_changed_what_is_asked_for_the_run_says_so(lab: Laboratory):
    lab.ok(DB)
    lab.ok(DB + 'plan.stop_service("db")')
    finished = lab.ok(DB)
    assert finished.mismatch == "stop_service at <source>:3:22 has since changed what this plan asks for"
    assert [(str(step.outcome), step.reason) for step in finished.instructions] == [("updated", "new")]


def test_a_batch_that_takes_over_a_service_of_another_plan_leaves_one_truth(lab: Laboratory):
    batch = 'plan.add_services({"api": ServiceConfig(image = "api", cmd = ["9"])})\n'
    lab.ok(DB + API.format(1))
    lab.ok(batch)
    assert lab.state.configs()["api"].cmd == ("9",)
    assert lab.ok(batch).executed == 0
    lab.ok(DB + API.format(1))
    assert lab.state.configs()["api"].cmd == ("1",)


def test_a_batch_that_grows_over_a_service_of_a_later_plan_leaves_one_truth(lab: Laboratory):
    small = 'plan.add_services({"a": ServiceConfig(image = "img")})\n'
    large = 'plan.add_services({"a": ServiceConfig(image = "img"), "api": ServiceConfig(image = "new")})\n'
    lab.ok(small)
    lab.ok(API.format(1))
    lab.ok(large)
    assert lab.state.configs()["api"].image == "new"
    assert lab.ok(large).executed == 0


def test_a_service_removed_and_added_again_within_one_plan_is_what_the_last_line_says(lab: Laboratory):
    plan = API + 'plan.remove_service("api")\n' + API.replace('image = "api"', 'image = "other"')
    lab.ok(plan.replace("{}", "1"))
    assert lab.ok(plan.replace("{}", "1")).executed == 0
    lab.ok(plan.replace("{}", "2", 1).replace("{}", "1"))
    assert list(lab.state.site.observe()) == ["api"]
    assert (lab.state.configs()["api"].cmd, lab.state.configs()["api"].image) == (("1",), "other")


def test_reasons_tell_what_before_an_instruction_changed(lab: Laboratory):
    plan = (
        'plan.render_templates({"t": struct(template = "TEXT", data = {})}, name = "f")\n'
        + DB.replace("))", ', files = {"/f": "f"}))')
        + 'said = plan.exec("db", ExecRecipe(command = ["cat", "/f/t"]))["output"]\n'
        + API.replace('"{}"', "said")
        + 'plan.print(said)\nplan.print("constant")\nplan.stop_service("db")\nplan.start_service("db")'
    )
    lab.ok(plan.replace("TEXT", "one"))
    finished = lab.ok(plan.replace("TEXT", "two"))
    assert [(step.name, str(step.outcome), step.reason) for step in finished.instructions] == [
        ("render_templates", "updated", 'config["t"].template changed'),
        ("add_service", "updated", "files artifact `f` changed"),
        ("exec", "executed", "service `db` was replaced"),
        ("add_service", "updated", "the value of config.cmd[0] changed"),
        ("print", "executed", "the value of msg changed"),
        ("print", "skipped", "already done"),
        ("stop_service", "executed", "service `db` was replaced"),
        ("start_service", "executed", "service `db` was replaced"),
    ]
