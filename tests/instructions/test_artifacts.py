"""Files artifacts: rendered, uploaded, stored from services; their names and their content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.errors import ExecutionError, InterpretationError
from tests.laboratory import Laboratory

A = 'plan.add_service("a", ServiceConfig(image = "img"))\n'


def content(lab: Laboratory, name: str) -> Mapping[str, str]:
    """An artifact's files by relative path."""
    root = lab.state.artifacts.directory(name)
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_row_161_values_are_rendered_as_they_are_written(lab: Laboratory):
    lab.ok(
        'data = {"Name": "Stranger", "Answer": 6, "Numbers": [1, 2, 3], "UnixTimeStamp": 1257894000, '
        '"LargeFloat": 1231231243.43, "Alive": True}\n'
        'template = "Hello {{.Name}}. The sum of {{.Numbers}} is {{.Answer}}. My favorite moment in history '
        '{{.UnixTimeStamp}}. My favorite number {{.LargeFloat}}. Am I Alive? {{.Alive}}"\n'
        'plan.render_templates({"/foo/bar/output.txt": struct(template = template, data = data)}, name = "f")'
    )
    assert content(lab, "f") == {
        "foo/bar/output.txt": "Hello Stranger. The sum of [1 2 3] is 6. My favorite moment in history 1257894000. "
        "My favorite number 1231231243.43. Am I Alive? true"
    }


def test_several_templates_make_one_artifact_and_structs_are_data(lab: Laboratory):
    data = 'struct(x = struct(y = "deep"))'
    entries = f'{{"a": struct(template = "{{{{.x.y}}}}", data = {data}), "b/c": struct(template = "B", data = {{}})}}'
    lab.ok(f'plan.render_templates({entries}, name = "f")')
    assert content(lab, "f") == {"a": "deep", "b/c": "B"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"t": struct(template = 1, data = {})}', '`config["t"].template` must be a string, the text of the template'),
        ('{"t": struct(template = "x")}', '`config["t"].data` is missing'),
        (
            '{"../t": struct(template = "x", data = {})}',
            '`config["../t"]` must be a path of a file inside the artifact',
        ),
        ('{"/": struct(template = "x", data = {})}', '`config["/"]` must be a path of a file inside the artifact'),
        ("{}", "`config` must be a non-empty dict, each value a struct, not {} (dict)"),
    ],
)
def test_what_cannot_be_rendered_is_refused_while_the_package_is_read(lab: Laboratory, config: str, message: str):
    error = lab.error(f"plan.render_templates({config})")
    assert type(error) is InterpretationError
    assert error.message == f"render_templates: {message}"


def test_a_template_that_does_not_parse_is_refused_while_the_package_is_read(lab: Laboratory):
    error = lab.error('plan.render_templates({"t": struct(template = "{{.A", data = {})})')
    assert type(error) is InterpretationError
    assert error.message.startswith('render_templates: `config["t"].template` is not a valid Go template: ')


def test_a_template_that_fails_while_it_is_rendered_names_the_file(lab: Laboratory):
    error = lab.error('plan.render_templates({"dir/t": struct(template = "{{index .A 5}}", data = {"A": [1]})})')
    assert type(error) is ExecutionError
    assert error.message.startswith("rendering `dir/t`: ")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with a file and a directory to upload."""
    root = tmp_path / "package"
    (root / "static" / "sub").mkdir(parents=True)
    (root / "kurtosis.yml").write_text("name: github.com/example/uploads\n")
    (root / "static" / "one.txt").write_text("1")
    (root / "static" / "sub" / "two.txt").write_text("2")
    (root / "main.star").write_text(
        "def run(plan):\n"
        '    one = plan.upload_files(src = "static/one.txt", name = "one")\n'
        '    return [plan.upload_files("./static", name = "all"), one]\n'
    )
    return root


def test_a_directory_is_uploaded_as_its_content_and_a_file_under_its_name(lab: Laboratory, package: Path):
    assert lab.ok(package).output == ["all", "one"]
    assert content(lab, "all") == {"one.txt": "1", "sub/two.txt": "2"}
    assert content(lab, "one") == {"one.txt": "1"}


@pytest.mark.parametrize(
    ("src", "expected"),
    [
        ("/data/file", {"file": "F"}),
        ("/data/dir", {"dir/a": "A", "dir/sub/b": "B"}),
        ("/data/dir/", {"a": "A", "sub/b": "B"}),
        ("/data/dir/*", {"a": "A", "sub/b": "B"}),
    ],
)
def test_files_of_a_service_are_stored_as_cp_would(
    laboratory: Callable[..., Laboratory], src: str, expected: Mapping[str, str]
):
    lab = laboratory(Script().service("a", files={"/data/file": "F", "/data/dir/a": "A", "/data/dir/sub/b": "B"}))
    lab.ok(A + f'plan.store_service_files("a", "{src}", name = "f")')
    assert content(lab, "f") == expected


def test_a_path_that_a_service_does_not_have_cannot_be_stored(lab: Laboratory):
    error = lab.error(A + 'plan.store_service_files("a", "/nowhere")')
    assert type(error) is ExecutionError
    assert error.message.startswith("cannot store `/nowhere` of service `a`: ")
    assert error.service == "a"


def test_a_stored_artifact_can_be_mounted(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().service("a", files={"/etc/app": "settings"}))
    stored = 'f = plan.store_service_files(service_name = "a", src = "/etc/app")\n'
    mounted = 'plan.add_service("b", ServiceConfig(image = "img", files = {"/in": f}))\n'
    read = 'return plan.exec("b", ExecRecipe(command = ["cat", "/in/app"]))["output"]'
    assert lab.ok(A + stored + mounted + read).output == "settings"


def test_an_artifact_without_a_name_gets_one_that_is_the_same_in_every_run(lab: Laboratory):
    rendered = 'plan.render_templates({"t": struct(template = "TEXT", data = {})})'
    plan = f"return [{rendered.replace('TEXT', 'a')}, {rendered.replace('TEXT', 'b')}, {rendered.replace('TEXT', 'a')}]"
    names = lab.ok(plan).output
    assert len(set(names)) == 3, "equal calls make artifacts of their own"
    again = lab.ok(plan)
    assert (again.output, again.executed) == (names, 0)


def test_a_service_keeps_the_artifact_it_mounted_until_it_is_replaced(lab: Laboratory):
    rendered = 'plan.render_templates({{"t": struct(template = "{}", data = {{}})}}, name = "f")\n'
    lab.ok(rendered.format("old") + 'plan.add_service("a", ServiceConfig(image = "img", files = {"/f": "f"}))')
    lab.ok(rendered.format("new"))
    assert content(lab, "f") == {"t": "new"}
    assert lab.enclave().services["a"].exec(["cat", "/f/t"]).output == "old"
