"""The options, and their twins in the ini file."""

from __future__ import annotations

import pytest

from pytest_enclave.engine.select import NAMES
from pytest_enclave.face.options import COMMANDS, OPTIONS, Settings, commands_of, for_pytest, settings_of
from tests.face.conftest import RunPytest, WritePackage

REPLICAS = """
    def test_it(enclave):
        print(f"<{enclave.output}>")
"""


def settings(pytester: pytest.Pytester, *arguments: str) -> Settings:
    """The settings that a session with these arguments has."""
    return settings_of(pytester.parseconfig(*arguments))


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ('{"size": 3}', "3"),
        ("size: 3", "3"),
        ("@given.json", "4"),
        ("@given.yaml", "five"),
        ("", "0"),
    ],
)
def test_arguments_are_json_or_yaml_or_a_file_of_it(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest, text: str, output: str
) -> None:
    package(".", "return size", parameters="size = 0")
    (pytester.path / "given.json").write_text('{"size": 4}')
    (pytester.path / "given.yaml").write_text("size: five")
    pytester.makepyfile(REPLICAS)
    result = run("-rP", f"--enclave-args={text}")
    assert f"<{output}>" in result.outlines


def test_the_markers_arguments_take_the_place_of_all_of_the_options(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package(".", "return [n, m]", parameters="n = 0, m = 0")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.enclave(args={"n": 1})
        def test_it(enclave):
            assert enclave.output == [1, 0]
        """
    )
    run('--enclave-args={"m": 1}').assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "<arguments>: the arguments must be an object of names and values, not a list"),
        ("three", "<arguments>: the arguments must be an object of names and values, not a string"),
        ("@nowhere.yaml", "*nowhere.yaml*"),
        ("{", "<arguments>*: the arguments are neither JSON nor YAML: *"),
    ],
)
def test_bad_arguments_are_a_usage_error(pytester: pytest.Pytester, run: RunPytest, text: str, message: str) -> None:
    pytester.makepyfile(REPLICAS)
    result = run(f"--enclave-args={text}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --enclave-args: {message}"])


def test_arguments_in_the_ini_file_are_relative_to_it(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest, monkeypatch: pytest.MonkeyPatch
) -> None:
    package("shop", "return size", parameters="size = 0")
    pytester.makeini("[pytest]\nenclave_args = @given.yaml\nenclave_package = shop")
    (pytester.path / "given.yaml").write_text("size: 6")
    pytester.makepyfile(**{"below/test_it": REPLICAS})
    monkeypatch.chdir(pytester.path / "below")
    assert "<6>" in run("-rP").outlines


def test_another_main_function(pytester: pytest.Pytester, run: RunPytest) -> None:
    (pytester.path / "it.star").write_text("def run(plan):\n    return 1\n\ndef other(plan):\n    return 2\n")
    pytester.makepyfile(REPLICAS)
    assert "<2>" in run("-rP", "--enclave-package=it.star", "--enclave-main=other").outlines


TWINS = {
    "package": ("a", "b"),
    "args": ("n: 1", "n: 2"),
    "main": ("one", "two"),
    "engine": ("docker", "simulated"),
    "docker_host": ("unix:///a", "unix:///b"),
    "parallelism": ("1", "2"),
    "pull": ("always", "never"),
    "image_mirror": ("a/a", "b/b"),
    "shaper_image": ("a/a", "b/b"),
    "egress": ("off", "on"),
    "timeout": ("1", "2"),
    "interpret_timeout": ("1", "2"),
    "seed": ("1", "2"),
    "star_tests": ("plan", "engine"),
    "unavailable": ("fail", "skip"),
    "keep": ("on-failure", "always"),
}


@pytest.mark.parametrize("name", TWINS)
def test_each_option_has_a_twin_in_the_ini_file_and_wins_over_it(pytester: pytest.Pytester, name: str) -> None:
    in_ini, given = TWINS[name]
    default = getattr(settings(pytester), name)
    pytester.makeini(f"[pytest]\nenclave_{name} = {in_ini}")
    by_ini = getattr(settings(pytester), name)
    by_option = getattr(settings(pytester, f"--enclave-{name.replace('_', '-')}={given}"), name)
    if name == "unavailable":
        assert (default, by_ini, by_option) == ("fail", "fail", "skip")
    elif name == "egress":
        assert (default, by_ini, by_option) == (True, False, True)
    else:
        assert len({str(default), str(by_ini), str(by_option)}) == 3


@pytest.mark.parametrize("name", ["no_cache", "explain", "plan"])
def test_flags_have_a_twin_in_the_ini_file_too(pytester: pytest.Pytester, name: str) -> None:
    assert getattr(settings(pytester), name) is False
    assert getattr(settings(pytester, f"--enclave-{name.replace('_', '-')}"), name) is True
    pytester.makeini(f"[pytest]\nenclave_{name} = true")
    assert getattr(settings(pytester), name) is True


def test_what_named_the_engine_is_known(pytester: pytest.Pytester) -> None:
    assert settings(pytester).engine_told_by == ""
    pytester.makeini("[pytest]\nenclave_engine = embedded")
    assert settings(pytester).engine_told_by == "enclave_engine = embedded"
    assert settings(pytester, "--enclave-engine=auto").engine_told_by == "--enclave-engine=auto"


@pytest.mark.parametrize("name", ["auto", "docker", "embedded", "simulated"])
def test_every_engine_can_be_named(pytester: pytest.Pytester, name: str) -> None:
    assert name in NAMES
    assert settings(pytester, f"--enclave-engine={name}").engine == name


def test_no_option_is_left_out_here() -> None:
    assert {option.name for option in OPTIONS} == {*TWINS, "no_cache", "explain", "plan"}


@pytest.mark.parametrize(("ci", "keep"), [("", "on-failure"), ("true", "never"), ("1", "never")])
def test_where_CI_is_set_nothing_is_kept(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ci: str, keep: str
) -> None:
    monkeypatch.setenv("CI", ci)
    assert settings(pytester).keep == keep
    assert settings(pytester, "--enclave-keep=always").keep == "always"


def test_commands_are_for_the_command_line_alone(pytester: pytest.Pytester) -> None:
    assert [command.usage for command in COMMANDS] == [
        "--enclave-ls",
        "--enclave-clean[=NAME|all]",
        "--enclave-logs=[NAME/]SERVICE",
        "--enclave-exec=[NAME/]SERVICE -- COMMAND",
        "--enclave-shell=[NAME/]SERVICE [-- COMMAND]",
    ]
    assert commands_of(pytester.parseconfig()) == {}
    assert commands_of(pytester.parseconfig("--enclave-ls", "--enclave-clean", "--enclave-logs=db")) == {
        "ls": "",
        "clean": "",
        "logs": "db",
    }
    with pytest.raises(ValueError, match="unknown configuration value: 'enclave_ls'"):
        pytester.parseconfig().getini("enclave_ls")


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["-x", "--", "a b", "-q"], ["-x", "--", "a b", "-q"]),
        (["--enclave-exec=db", "-x", "--", "ls", "--", "-q"], ["--enclave-exec=db", "-x"]),
        (["--enclave-shell", "db", "--", "ls"], ["--enclave-shell", "db"]),
        (["--enclave-shell=db", "-x"], ["--enclave-shell=db", "-x"]),
        (["--", "--enclave-exec=db"], ["--", "--enclave-exec=db"]),
    ],
)
def test_a_command_for_a_service_is_kept_from_pytest(arguments: list[str], left: list[str]) -> None:
    assert for_pytest(arguments) == left


def test_zero_seconds_are_no_limit(pytester: pytest.Pytester) -> None:
    assert settings(pytester, "--enclave-timeout=0", "--enclave-interpret-timeout=0").timeout is None


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--enclave-parallelism=0", "--enclave-parallelism takes a whole number of at least 1, not '0'"),
        ("--enclave-parallelism=٣", "--enclave-parallelism takes a whole number of at least 1, not '٣'"),
        ("--enclave-timeout=soon", "--enclave-timeout takes a number of seconds, not 'soon'"),
        ("--enclave-timeout=-1", "--enclave-timeout takes a number of seconds, not '-1'"),
        ("--enclave-timeout=nan", "--enclave-timeout takes a number of seconds, not 'nan'"),
        ("--enclave-interpret-timeout=inf", "--enclave-interpret-timeout takes a number of seconds, not 'inf'"),
    ],
)
def test_a_wrong_value_is_a_usage_error(run: RunPytest, option: str, text: str) -> None:
    result = run(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: {text}" in result.errlines


def test_a_value_that_is_no_choice_is_a_usage_error(run: RunPytest) -> None:
    result = run("--enclave-pull=sometimes")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*argument --enclave-pull: invalid choice: 'sometimes'*"])


def test_a_value_that_is_no_choice_is_one_in_the_ini_file_too(pytester: pytest.Pytester, run: RunPytest) -> None:
    pytester.makeini("[pytest]\nenclave_pull = sometimes")
    result = run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: enclave_pull = sometimes: it takes one of missing, always, never" in result.errlines
