"""`plan.run_python`: a Python program in a service of its own, which is gone afterwards."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pip
import pytest

from pytest_enclave.engine.protocol import ExecResult
from pytest_enclave.engine.simulated.script import Script
from pytest_enclave.errors import ExecutionError, InterpretationError, UnacceptableCode, ValidationError
from pytest_enclave.instructions.run_python import IMAGE
from tests.laboratory import Laboratory

PYTHON = "enclave-test/python:local"


def commands(lab: Laboratory) -> list[tuple[str, ...]]:
    """What was run in helper services, in order."""
    return [call["command"] for call in lab.engine.sites["lab-0"].asked("exec")]


# What it runs


def test_a_program_is_run_without_a_shell_and_with_its_arguments(lab: Laboratory):
    lab.ok("plan.run_python(run = \"print('a b; $HOME')\", args = ['x', 'y z', '$1'])")
    assert commands(lab) == [("python", "-u", "-c", "print('a b; $HOME')", "x", "y z", "$1")]


def test_its_service_is_made_of_what_was_asked_for(lab: Laboratory):
    lab.ok(
        'f = plan.render_templates({"t": struct(template = "", data = {})}, name = "f")\n'
        'plan.run_python(run = "1", name = "job", image = "py", files = {"/f": f})\n'
        'plan.run_python(run = "1")'
    )
    first, second = (call["specs"][0] for call in lab.engine.sites["lab-0"].asked("start"))
    assert (first.name, first.image, first.files) == ("job", "py", {"/f": "f"})
    assert second.image == IMAGE == "python:3.11-alpine"
    assert second.name.startswith("task-")


def test_arguments_may_be_results_of_others_but_the_program_may_not(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().on_exec("*", ["/bin/sh", ...], ExecResult(0, "said")))
    lab.ok('r = plan.run_sh(run = "x")\nplan.run_python(run = "print(%r)" % r.output, args = ["<%s>" % r.output])')
    program, argument = commands(lab)[1][3:]
    assert argument == "<said>"
    assert "runtime_value" in program


def test_packages_are_installed_before_it_runs(lab: Laboratory):
    lab.ok('plan.run_python(run = "1", packages = ["requests==2.31", "six"])')
    pip, program = commands(lab)
    assert pip[:4] == ("python", "-m", "pip", "install")
    assert pip[-2:] == ("requests==2.31", "six")
    assert program == ("python", "-u", "-c", "1")


def test_it_returns_what_run_sh_returns(laboratory: Callable[..., Laboratory]):
    lab = laboratory(
        Script().on_exec("*", ["python", ...], ExecResult(3, "out")).service("*", files={"/f": "F", "/g": "F"})
    )
    finished = lab.ok(
        'r = plan.run_python(run = "1", acceptable_codes = [3], store = ["/f", StoreSpec(src = "/g", name = "mine")])\n'
        "return [r.code, r.output, r.files_artifacts]"
    )
    code, output, names = finished.output
    assert (code, output, names[1]) == (3, "out", "mine")
    assert [next(lab.state.artifacts.directory(name).iterdir()).name for name in names] == ["f", "g"]


def test_the_command_was_its_first_argument_once(lab: Laboratory):
    finished = lab.ok('plan.run_python("print(1)", args = ["a"])\nplan.run_python("job", "print(2)", ["b"])')
    assert [command[3:] for command in commands(lab)] == [("print(1)", "a"), ("print(2)", "b")]
    assert [problem.message for problem in finished.plan.warnings] == [
        "`run_python` with the command as its first argument is deprecated"
    ]


def test_the_arguments_had_another_order_once(lab: Laboratory):
    lab.ok(
        'plan.run_python("print(1)", ["a"], ["six"], "py", {}, [], "5s")\nplan.run_sh("echo", "img", {}, ["/f"][:0])'
    )
    assert commands(lab)[1:] == [("python", "-u", "-c", "print(1)", "a"), ("/bin/sh", "-c", "echo")]
    specs = [call["specs"][0] for call in lab.engine.sites["lab-0"].asked("start")]
    assert [spec.image for spec in specs] == ["py", "img"]
    assert lab.error('plan.run_python("x", ["a"], name = "n")').message == (
        'run_python: `name` was given twice; `run` must be a non-empty string, not ["a"] (list)'
    )


def test_it_is_not_run_again_but_its_values_are_there(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().on_exec("*", ["python", ...], ExecResult(0, "once")))
    plan = 'return plan.run_python(run = "1", packages = ["p"]).output'
    assert lab.ok(plan).output == "once"
    again = lab.ok(plan)
    assert (again.executed, again.output, len(commands(lab))) == (0, "once", 2)


# What goes wrong


def test_an_unacceptable_code_fails(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().on_exec("*", ["python", ...], ExecResult(1, "Traceback …\n")))
    error = lab.error('plan.run_python(run = "1/0", args = ["a b"])')
    assert type(error) is UnacceptableCode
    assert (error.message, error.output, error.remedy) == (
        "$ python -c … 'a b': exit code 1 is not acceptable (0)",
        "Traceback …\n",
        "`acceptable_codes` or `skip_code_check` allow others",
    )
    assert lab.outcomes('plan.run_python(run = "1/0", skip_code_check = True)') == ["executed"]
    assert lab.state.site.observe() == {}


def test_a_program_that_takes_too_long_fails(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().on_exec("*", ["python", ...], ExecResult(0, ""), takes=10))
    assert lab.error('plan.run_python(run = "1", wait = "5s")').message == "the command did not end in 5s"


def test_installing_does_not_count_for_wait(laboratory: Callable[..., Laboratory]):
    lab = laboratory(Script().on_exec("*", ["python", "-m", ...], ExecResult(0, ""), takes=60))
    assert lab.outcomes('plan.run_python(run = "1", packages = ["p"], wait = "5s")') == ["executed"]


ALLOWED = "`acceptable_codes` or `skip_code_check` allow others"
MISSING = '"{}": executable file not found in $PATH'


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (1, MISSING.format("python")),
        (127, ""),
        (127, "sh: 1: python: not found\n"),
        (127, f"Traceback …\n{MISSING.format('python')}\n"),
        (127, MISSING.format("pip")),
    ],
)
def test_a_program_that_ends_as_if_it_were_missing_is_not_run_twice_nor_told_to_be(
    laboratory: Callable[..., Laboratory], code: int, said: str
):
    lab = laboratory(Script().on_exec("*", ["python", ...], ExecResult(code, said)))
    error = lab.error('plan.run_python(run = "1")')
    assert error.message == f"$ python -c …: exit code {code} is not acceptable (0)"
    assert error.remedy == ALLOWED
    assert [command[0] for command in commands(lab)] == ["python"]
    assert lab.outcomes('plan.run_python(run = "1", skip_code_check = True)') == ["executed"]


@pytest.mark.parametrize(
    "said",
    [
        MISSING + "\n",
        "OCI runtime exec failed: exec failed: unable to start container process: exec: " + MISSING,
        "exec /usr/bin/{}: no such file or directory\n",
        'exec: "{0}": stat {0}: no such file or directory',
        '"{}": its interpreter or loader is not in the image\n',
    ],
)
def test_an_image_without_python_is_told(laboratory: Callable[..., Laboratory], said: str):
    script = Script()
    for name in ("python", "python3"):
        script = script.on_exec("*", [name, ...], ExecResult(127, said.format(name)))
    lab = laboratory(script)
    error = lab.error('plan.run_python(run = "1")')
    assert error.message == "$ python -c …: exit code 127 is not acceptable (0)"
    assert error.remedy == "`image` has to name one with `python` or `python3`"
    assert [command[0] for command in commands(lab)] == ["python", "python3"]
    assert lab.outcomes('plan.run_python(run = "1", skip_code_check = True)') == ["executed"]


def with_python3_alone(*more: str) -> Script:
    """No `python`; and nothing of the names in `more` either."""
    script = Script().on_exec("*", ["python3", ...], ExecResult(0, "three"))
    for name in ("python", *more):
        script = script.on_exec("*", [name, ...], ExecResult(127, MISSING.format(name)))
    return script


def test_where_there_is_only_python3_it_is_that(laboratory: Callable[..., Laboratory]):
    lab = laboratory(with_python3_alone())
    lab.ok('r = plan.run_python(run = "1", args = ["a"], packages = ["p"])\nplan.verify(r.output, "==", "three")')
    asked = [command for command in commands(lab) if command[0] == "python3"]
    assert "/bin/sh" not in {command[0] for command in commands(lab)}, "there need not be one"
    assert asked == [
        ("python3", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "p"),
        ("python3", "-u", "-c", "1", "a"),
    ]


def test_a_machine_without_python_is_told(laboratory: Callable[..., Laboratory]):
    lab = laboratory(with_python3_alone("python3").image("host:/", digest="sha256:1"))
    error = lab.error('plan.run_python(run = "1", image = "host:/")')
    assert error.remedy == "install `python3` on this machine, or let `image` name an image with it"
    error = lab.error('plan.run_python(run = "1", image = "host:/", packages = ["p"])')
    assert error.remedy == "`image` has to name one with Python and pip"


@pytest.mark.parametrize("code", [1, 127])
def test_packages_that_cannot_be_installed_end_it(laboratory: Callable[..., Laboratory], code: int):
    said = "\n".join(f"line {number}" for number in range(60)) + "\nERROR: No matching distribution found for nope\n"
    lab = laboratory(Script().on_exec("*", ["python", "-m", ...], ExecResult(code, said)))
    error = lab.error('plan.run_python(run = "1", name = "job", packages = ["nope", "a b"])')
    assert type(error) is ExecutionError
    assert (error.message, error.service, error.remedy) == (
        f"pip could not install nope 'a b': exit code {code}",
        "job",
        "",
    )
    assert len(error.logs["pip"]) == 40
    assert error.logs["pip"][-1] == "ERROR: No matching distribution found for nope"
    assert len(commands(lab)) == 1
    assert lab.state.site.observe() == {}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "run_python: `run` is missing"),
        ('run = ""', 'run_python: `run` must be a non-empty string, not "" (string)'),
        ('run = "1", args = "x"', 'run_python: `args` must be a list, each item a string, not "x" (string)'),
        ('run = "1", args = [1]', "run_python: `args[0]` must be a string, not 1 (int)"),
        ('run = "1", packages = [""]', 'run_python: `packages[0]` must be a non-empty string, not "" (string)'),
        ('run = "1", store = [1]', "run_python: `store[0]` must be a non-empty string or a StoreSpec, not 1 (int)"),
        ('run = "1", wait = "soon"', 'run_python: `wait` time: invalid duration "soon" (write for example "500ms", '
         '"10s" or "1m30s")'),
        ('run = "1", env_vars = {}', "run_python: `env_vars` is not an argument it takes (it takes `name`, `run`, "
         "`args`, `packages`, `image`, `files`, `store`, `wait`, `acceptable_codes`, `skip_code_check`, "
         "`node_selectors`, `tolerations`, `description`)"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_told(lab: Laboratory, arguments: str, told: str):
    error = lab.error(f"plan.run_python({arguments})")
    assert type(error) is InterpretationError
    assert error.message == told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ('store = ["/f", StoreSpec(src = "/f", name = "x")]', "`store` names `/f` more than once"),
        ('store = [StoreSpec("/f", "x"), StoreSpec("/g", "x")]', "files artifact `x` is already made at <source>:2:20"),
        ('files = {"/f": "nope"}', "files artifact `nope` does not exist at this point"),
        ('name = "No"', "`No` is no service name"),
    ],
)
def test_what_cannot_work_is_told_before_anything_starts(lab: Laboratory, arguments: str, told: str):
    error = lab.error(f'plan.run_python(run = "1", {arguments})')
    assert type(error) is ValidationError
    assert [problem.message for problem in error.problems] == [told]


def test_what_only_kubernetes_knows_is_warned_of(lab: Laboratory):
    lab.ok(
        'plan.run_python(run = "1", name = "job", node_selectors = {"disk": "ssd"}, '
        'tolerations = [Toleration(operator = "Exists")])'
    )
    assert [event.problem.message for event in lab.events if hasattr(event, "problem")] == [
        "`tolerations` has no effect: there is no Kubernetes here",
        "`node_selectors` has no effect: there is no Kubernetes here",
    ]


# With real services


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A package with a wheel of `greeting`, made by hand, and with pip, which the image lacks."""
    package = tmp_path / "package"
    shutil.copytree(Path(pip.__file__).parent, package / "pip", ignore=shutil.ignore_patterns("__pycache__"))
    (package / "wheels").mkdir(parents=True)
    (package / "kurtosis.yml").write_text("name: github.com/test/package\n")
    with zipfile.ZipFile(package / "wheels" / "greeting-1.0-py3-none-any.whl", "w") as file:
        file.writestr("greeting.py", "def greet(name):\n    print('hello', name)\n")
        file.writestr("greeting-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
        file.writestr("greeting-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("greeting-1.0.dist-info/RECORD", "")
    return package


def test_row_150_arguments_packages_and_quotes(real: Laboratory, wheel: Path):
    (wheel / "main.star").write_text(
        f'IMAGE = "{PYTHON}"\n\n'
        "def run(plan):\n"
        '    wheels, pip = plan.upload_files("./wheels"), plan.upload_files("./pip")\n'
        '    name = plan.run_sh(run = "printf \'a \\"b\\"\'", image = IMAGE).output\n'
        "    return plan.run_python(\n"
        '        run = "import sys, greeting; greeting.greet(sys.argv[1]); print(\'it\\\\\'s\', \\"done\\")",\n'
        "        args = [name],\n"
        '        packages = ["--break-system-packages", "/wheels/greeting-1.0-py3-none-any.whl"],\n'
        '        files = {"/wheels": wheels, "/usr/lib/python3/dist-packages/pip": pip},\n'
        "        image = IMAGE,\n"
        "    ).output\n"
    )
    assert real.ok(wheel).output == 'hello a "b"\nit\'s done\n'
    assert real.state.site.observe() == {}


def test_a_package_that_no_index_has_ends_it_with_what_pip_said(real: Laboratory, wheel: Path):
    (wheel / "main.star").write_text(
        f'IMAGE = "{PYTHON}"\n\n'
        "def run(plan):\n"
        '    files = {"/usr/lib/python3/dist-packages/pip": plan.upload_files("./pip")}\n'
        '    packages = ["--break-system-packages", "--no-index", "no-such-thing"]\n'
        '    plan.run_python(run = "1", packages = packages, files = files, image = IMAGE)\n'
    )
    error = real.error(wheel)
    assert error.message == "pip could not install --break-system-packages --no-index no-such-thing: exit code 1"
    assert "No matching distribution found for no-such-thing" in "\n".join(error.logs["pip"])


def test_an_image_without_an_interpreter_is_told(real: Laboratory):
    error = real.error('plan.run_python(run = "1", image = "enclave-test/busybox:local")')
    assert isinstance(error, UnacceptableCode)
    assert error.message == "$ python -c …: exit code 127 is not acceptable (0)"
    assert error.remedy == "`image` has to name one with `python` or `python3`"
    assert "python" in error.output


def test_a_program_that_ends_with_127_is_not_taken_for_a_missing_one(real: Laboratory):
    error = real.error(f'plan.run_python(run = "print(1); raise SystemExit(127)", image = "{PYTHON}")')
    assert (error.output, error.remedy) == ("1\n", ALLOWED)


def test_an_image_with_python3_alone_will_do(real: Laboratory, tmp_path: Path):
    build = 'ImageBuildSpec(image_name = "three", build_context_dir = ".")'
    files = {
        "kurtosis.yml": "name: github.com/test/three\n",
        "main.star": f"def run(plan):\n    return plan.run_python(run = 'print(3)', image = {build}).output\n",
        "Dockerfile": f'FROM {PYTHON}\nRUN rm "$(command -v python)"\n',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert real.ok(tmp_path).output == "3\n"


def test_an_image_without_pip_is_told(real: Laboratory):
    error = real.error(f'plan.run_python(run = "1", packages = ["six"], image = "{PYTHON}")')
    assert (error.message, error.remedy) == (
        "pip could not install six: exit code 1",
        "`image` has to name one with Python and pip",
    )


def test_results_are_stored_where_programs_leave_them(real: Laboratory):
    finished = real.ok(
        f"r = plan.run_python(run = \"open('/tmp/out', 'w').write('x'); raise SystemExit(7)\", image = \"{PYTHON}\", "
        'store = [StoreSpec(src = "/tmp/out", name = "out")], acceptable_codes = [7])\n'
        "return [r.code, r.files_artifacts]"
    )
    assert finished.output == [7, ["out"]]
    assert (real.state.artifacts.directory("out") / "out").read_text() == "x"
