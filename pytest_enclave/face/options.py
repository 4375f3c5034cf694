"""The options: each on the command line as `--enclave-*`, and in the ini file as `enclave_*`; the former wins."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pytest_enclave.enclave.paths import anchored


class Option(NamedTuple):
    """One option: its name after `enclave`, help, default, and what it takes."""

    name: str
    help: str
    default: str = ""
    choices: tuple[str, ...] = ()
    metavar: str = "VALUE"
    is_flag: bool = False

    @property
    def flag(self) -> str:
        """As written on the command line."""
        return f"--enclave-{self.name.replace('_', '-')}"

    @property
    def ini(self) -> str:
        """As written in the ini file."""
        return f"enclave_{self.name}"


OPTIONS = (
    Option("package", "package to run: a directory with kurtosis.yml, a .star file, or github.com/…", metavar="PATH"),
    Option("args", "arguments for the package: JSON, YAML, or @FILE with either", metavar="ARGS"),
    Option("main", "main function of the package (default: run)", "run", metavar="NAME"),
    Option("engine", "what services run on (default: auto)", "auto", ("auto", "docker", "embedded", "simulated")),
    Option("docker_host", "Docker engine to use, e.g. unix:///run/docker.sock", metavar="URL"),
    Option("parallelism", "services that add_services starts side by side (default: 4)", "4", metavar="N"),
    Option("pull", "when to pull images (default: missing)", "missing", ("missing", "always", "never")),
    Option("image_mirror", "registry mirror, put in front of image names that have no registry", metavar="HOST/PATH"),
    Option(
        "shaper_image",
        "image with python3 that connections are shaped from, where pytest is not root on the Docker engine's machine "
        "(default: pytest-enclave/shaper:1, which is built if need be)",
        metavar="IMAGE",
    ),
    Option("egress", "whether services may reach the outside (default: on)", "on", ("on", "off")),
    Option("timeout", "seconds that a whole run may take, 0 for no limit (default: 0)", "0", metavar="SECONDS"),
    Option("interpret_timeout", "seconds that interpreting may take (default: 60)", "60", metavar="SECONDS"),
    Option(
        "seed",
        "whole number from which follows what is lost on connections, and how long waits pause "
        "(default: another one each time)",
        metavar="NUMBER",
    ),
    Option("unavailable", "what becomes of tests where no engine answers (default: fail)", "fail", ("fail", "skip")),
    Option(
        "star_tests",
        "what becomes of the plans of *_test.star: executed without services, or by the engine; only made; "
        "or no such tests at all (default: simulated)",
        "simulated",
        ("simulated", "engine", "plan", "off"),
    ),
    Option(
        "keep",
        "which enclaves stay when the tests are over, for the next run or to look at them "
        "(default: never where CI is set, else on-failure)",
        choices=("never", "on-failure", "always"),
    ),
    Option("no_cache", "share nothing: every test gets a new enclave", is_flag=True),
    Option("explain", "tell at the end why instructions ran although they had run before", is_flag=True),
    Option("plan", "print the plan of every package that the selected tests need, and start nothing", is_flag=True),
)


class Command(NamedTuple):
    """An option that does something in place of running tests; the ini file has none. `metavar` is what it takes.

    One that is `optional` may be given without a value. What follows `--` goes to it as `words`.
    """

    name: str
    help: str
    metavar: str = ""
    optional: bool = False
    words: str = ""

    @property
    def flag(self) -> str:
        """As written on the command line."""
        return f"--enclave-{self.name}"

    @property
    def usage(self) -> str:
        """With all that it takes."""
        value = f"[={self.metavar}]" if self.optional else f"={self.metavar}" if self.metavar else ""
        return f"{self.flag}{value}{self.words and f' {self.words}'}"


COMMANDS = (
    Command("ls", "list your enclaves that are there, by whatever session, and run no test"),
    Command(
        "clean",
        "remove the enclaves that nobody uses; or the one of that name; or all, also those that are in use",
        "NAME|all",
        optional=True,
    ),
    Command("logs", "print what a service of an enclave that is there wrote; with -v, also when", "[NAME/]SERVICE"),
    Command(
        "exec",
        "run a command in a service of an enclave that is there, and exit with its code",
        "[NAME/]SERVICE",
        words="-- COMMAND",
    ),
    Command(
        "shell",
        "a shell, or the command, in a service of an enclave that is there, on this terminal",
        "[NAME/]SERVICE",
        words="[-- COMMAND]",
    ),
)


def commands_of(config: pytest.Config) -> dict[str, str]:
    """The commands that were given: name and value, "" where there is none.

    Raises pytest.UsageError where a value is empty: a variable may have been, and all would be meant.
    """
    given = {command.name: config.getoption(f"enclave_{command.name}") for command in COMMANDS}
    for name, value in given.items():
        if value == "":
            raise pytest.UsageError(f"--enclave-{name}= is given nothing")
    return {name: "" if value is True else value for name, value in given.items() if value not in (None, False)}


def for_pytest(arguments: list[str]) -> list[str]:
    """The arguments without what follows `--`, where that is a command for a service, and no files."""
    if "--" not in arguments:
        return arguments
    before = arguments[: arguments.index("--")]
    flags = [command.flag for command in COMMANDS if command.words]
    return before if any(each.partition("=")[0] in flags for each in before) else arguments


def add_options(parser: pytest.Parser) -> None:
    """Declare all options."""
    group = parser.getgroup("enclave", "environments as code (pytest-enclave)")
    for option in OPTIONS:
        how: dict[str, Any] = {"dest": option.ini, "help": option.help, "default": None}
        if option.is_flag:
            how["action"] = "store_true"
        elif option.choices:
            how["choices"] = option.choices
        else:
            how["metavar"] = option.metavar
        group.addoption(option.flag, **how)
        if option.is_flag:
            parser.addini(option.ini, option.help, type="bool", default=False)
        else:
            parser.addini(option.ini, option.help, type="string", default="")
    for command in COMMANDS:
        takes: dict[str, Any] = {"metavar": command.metavar} if command.metavar else {"action": "store_true"}
        if command.optional:
            takes |= {"nargs": "?", "const": True}
        group.addoption(command.flag, dest=f"enclave_{command.name}", help=command.help, default=None, **takes)


class Settings(NamedTuple):
    """The options as they hold, checked. Paths are absolute, locators are text; times in seconds, None for no limit."""

    package: Path | str | None
    args: Mapping[str, Any] | None
    main: str
    engine: str
    engine_told_by: str
    docker_host: str | None
    parallelism: int
    pull: str
    image_mirror: str | None
    shaper_image: str | None
    egress: bool
    timeout: float | None
    interpret_timeout: float | None
    seed: int
    unavailable: str
    star_tests: str
    keep: str
    no_cache: bool
    explain: bool
    plan: bool


def settings_of(config: pytest.Config) -> Settings:
    """Read the options. Raises pytest.UsageError, naming the option, where a value does not do."""
    values = {option.name: _value(config, option) for option in OPTIONS}
    return Settings(
        package=_package(config),
        args=_args(config),
        main=values["main"],
        engine=values["engine"],
        engine_told_by=_told_by(config, "engine"),
        docker_host=values["docker_host"] or None,
        parallelism=_whole_number("parallelism", values["parallelism"]),
        pull=values["pull"],
        image_mirror=values["image_mirror"] or None,
        shaper_image=values["shaper_image"] or None,
        egress=values["egress"] == "on",
        timeout=_seconds("timeout", values["timeout"]),
        interpret_timeout=_seconds("interpret_timeout", values["interpret_timeout"]),
        seed=_seed(config, values["seed"]),
        unavailable=values["unavailable"],
        star_tests=values["star_tests"],
        keep=values["keep"] or ("never" if os.environ.get("CI") else "on-failure"),
        no_cache=bool(values["no_cache"]),
        explain=bool(values["explain"]),
        plan=bool(values["plan"]),
    )


def _value(config: pytest.Config, option: Option) -> Any:
    given = config.getoption(option.ini)
    value = given if given is not None else config.getini(option.ini)
    if value is None or value == "":
        return False if option.is_flag else option.default
    if option.choices and value not in option.choices:
        raise pytest.UsageError(f"{option.ini} = {value}: it takes one of {', '.join(option.choices)}")
    return value


def _told_by(config: pytest.Config, name: str) -> str:
    """What set the option, as it is written there; "" where its default holds."""
    option = next(option for option in OPTIONS if option.name == name)
    if given := config.getoption(option.ini):
        return f"{option.flag}={given}"
    written = config.getini(option.ini)
    return f"{option.ini} = {written}" if written else ""


def _package(config: pytest.Config) -> Path | str | None:
    given, base = _placed(config, "enclave_package")
    if not given:
        return None
    from pytest_enclave.package.locators import is_remote

    return given if is_remote(given) else Path(os.path.normpath(base / given))


def _args(config: pytest.Config) -> dict[str, Any] | None:
    given, base = _placed(config, "enclave_args")
    if not given:
        return None
    from pytest_enclave.errors import PackageError
    from pytest_enclave.package.arguments import parse_arguments

    try:
        return parse_arguments(anchored(given, base))
    except PackageError as error:
        raise pytest.UsageError(f"--enclave-args: {error}") from None


def _placed(config: pytest.Config, name: str) -> tuple[str, Path]:
    """A value, and what paths in it are relative to: where pytest was called, or the place of the ini file."""
    given = config.getoption(name)
    if given:
        return given, config.invocation_params.dir
    return config.getini(name), config.inipath.parent if config.inipath is not None else config.rootpath


def _whole_number(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise pytest.UsageError(f"--enclave-{name} takes a whole number of at least 1, not {text!r}")
    return int(text)


SEED = "enclave_seed"
"""Under this an xdist worker is told its session's seed."""


def _seed(config: pytest.Config, text: str) -> int:
    told: int | None = getattr(config, "workerinput", {}).get(SEED)
    if told is not None:
        return told
    if not text:
        return int.from_bytes(os.urandom(3), "big") % 1_000_000
    if not text.isascii() or not text.isdigit():
        raise pytest.UsageError(f"--enclave-seed takes a whole number of at least 0, not {text!r}")
    return int(text)


def _seconds(name: str, text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise pytest.UsageError(f"--enclave-{name.replace('_', '-')} takes a number of seconds, not {text!r}")
    return seconds or None
