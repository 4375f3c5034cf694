"""`plan.run_sh`: a command in a service of its own, which is gone afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_enclave.engine.protocol import ExecResult
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.errors import ExecutionError, RunTimedOut, UnacceptableCode
from pytest_enclave.instructions.run_sh import IMAGE
from pytest_enclave.run.pipeline import Options
from tests.laboratory import Laboratory


def test_row_146_its_output_goes_into_another_one(lab: Laboratory):
    finished = lab.ok(
        'first = plan.run_sh(run = "echo -n kurtosis")\n'
        'second = plan.run_sh(run = "echo hello " + first.output)\n'
        "return [first.code, second.output]"
    )
    assert finished.output == [0, "hello kurtosis\n"]


def test_row_147_what_it_stores_can_be_mounted_in_another_one(laboratory: Callable[..., Laboratory]):
    script = Script().service("maker", files={"/src/tech.txt": "kurtosis", "/src/sub/a": "A", "/one": "1"})
    finished = laboratory(script).ok(
        'made = plan.run_sh(run = "true", name = "maker", store = ["/src", "/src/*", "/one"])\n'
        "whole, content, one = made.files_artifacts\n"
        'files = {"/w": whole, "/c": content, "/o": one}\n'
        'read = "cat /w/src/tech.txt /c/tech.txt /c/sub/a /o/one"\n'
        "return [made.files_artifacts, plan.run_sh(run = read, files = files).output]"
    )
    names, text = finished.output
    assert text == "kurtosiskurtosisA1"
    assert len(set(names)) == 3


def test_row_148_a_command_that_takes_too_long_fails(lab: Laboratory):
    error = lab.error('plan.run_sh(run = "sleep 10", wait = "5s")')
    assert type(error) is ExecutionError
    assert (error.message, error.remedy) == (
        "the command did not end in 5s",
        "`wait` sets how long it may take",
    )


def test_a_command_may_take_as_long_as_it_likes_where_wait_is_none(lab: Laboratory):
    assert lab.outcomes('plan.run_sh(run = "sleep 10000", wait = None)') == ["executed"]


def test_a_command_may_take_three_minutes_unless_told(lab: Laboratory):
    assert lab.outcomes('plan.run_sh(run = "sleep 179")') == ["executed"]
    assert lab.error('plan.run_sh(run = "sleep 181")').message == "the command did not end in 180s"


def test_the_end_of_the_whole_run_ends_a_command(lab: Laboratory):
    lab.options = Options(timeout=60.0)
    assert type(lab.error('plan.run_sh(run = "sleep 100", wait = None)')) is RunTimedOut


@pytest.mark.parametrize("code", [0, 1, 42], ids="row-149-code-{}".format)
def test_acceptable_codes(laboratory: Callable[..., Laboratory], code: int):
    lab = laboratory(Script().on_exec("*", ["/bin/sh", ...], ExecResult(code, "said\n")))
    assert lab.outcomes(f'plan.run_sh(run = "x", acceptable_codes = [{code}])') == ["executed"]
    error = lab.error('plan.run_sh(run = "x", acceptable_codes = [7])')
    assert type(error) is UnacceptableCode
    assert (error.code, error.acceptable, error.output) == (code, (7,), "said\n")
    assert lab.outcomes('plan.run_sh(run = "x", acceptable_codes = [7], skip_code_check = True)') == ["executed"]


@pytest.mark.parametrize(
    "plan", ['plan.run_sh(run = "true")', 'plan.run_sh(run = "false")', 'plan.run_sh(run = "true", store = ["/no"])']
)
def test_its_service_is_gone_afterwards_however_it_ended(lab: Laboratory, plan: str):
    lab.run(plan)
    assert lab.state.site.observe() == {}
    assert lab.enclave().services == {}


def test_its_service_is_made_of_what_was_asked_for(lab: Laboratory):
    lab.ok(
        'f = plan.render_templates({"t": struct(template = "", data = {})}, name = "f")\n'
        'plan.run_sh(run = "true", name = "job", image = "busybox", files = {"/f": f}, env_vars = {"A": "b"})\n'
        'plan.run_sh(run = "true")'
    )
    first, second = (call["specs"][0] for call in lab.engine.sites["lab-0"].asked("start"))
    assert (first.name, first.image, first.files, first.env_vars) == ("job", "busybox", {"/f": "f"}, {"A": "b"})
    assert second.image == IMAGE
    assert second.name.startswith("task-")


def test_a_path_that_is_not_there_cannot_be_stored(lab: Laboratory):
    error = lab.error('plan.run_sh(run = "true", name = "job", store = ["/no"])')
    assert type(error) is ExecutionError
    assert error.message.startswith("cannot store `/no` of service `job`: ")


def test_it_is_not_run_again_but_its_values_are_there(lab: Laboratory):
    plan = 'return plan.run_sh(run = "echo once").output'
    assert lab.ok(plan).output == "once\n"
    again = lab.ok(plan)
    assert (again.executed, again.output) == (0, "once\n")
