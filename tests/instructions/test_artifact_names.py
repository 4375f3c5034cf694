"""Names and paths of files artifacts: what cannot be is told at the call, before anything runs."""

from __future__ import annotations

import pytest

from tests.laboratory import Laboratory


@pytest.mark.parametrize(
    "name", ["../../x", "a/b", "a\\nb", "{{kurtosis:00000000000000000000000000000000:code.runtime_value}}"]
)
def test_a_name_that_no_artifact_can_have_is_refused(lab: Laboratory, name: str):
    error = lab.error(f'plan.render_templates({{"f": struct(template = "x", data = {{}})}}, name = "{name}")')
    assert "must be a name of up to 255 characters, known before execution, without `/`" in str(error)
    assert lab.state.artifacts.names() == ()


@pytest.mark.parametrize(
    ("paths", "problem"),
    [
        (["/"], "must be a path of a file inside the artifact"),
        (["a/../../b"], "must be a path of a file inside the artifact"),
        (["a\\0b"], "must be a path of a file inside the artifact"),
        (["a" * 300], "has a part longer than 255 bytes, which no file's name can be"),
        (["a", "a/b"], 'cannot be a file beside "a", which is one with the same path, or above it'),
        (["a/b", "//a/./b"], 'cannot be a file beside "a/b", which is one with the same path, or above it'),
    ],
)
def test_a_path_that_no_file_can_have_is_refused(lab: Laboratory, paths: list[str], problem: str):
    entries = ", ".join(f'"{path}": struct(template = "x", data = {{}})' for path in paths)
    assert problem in str(lab.error(f"plan.render_templates({{{entries}}})"))


def test_a_leading_slash_means_the_artifact_itself(lab: Laboratory):
    lab.ok('plan.render_templates({"/etc/x.conf": struct(template = "x", data = {})}, name = "n")')
    assert (lab.state.artifacts.directory("n") / "etc" / "x.conf").read_text() == "x"
