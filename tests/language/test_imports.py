"""Files that import each other (behaviour.md §3.4 and §10.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_enclave.errors import InterpretationError
from pytest_enclave.instructions.registry import built_in
from pytest_enclave.language.interpret import interpret
from pytest_enclave.package.files import unchanged
from pytest_enclave.package.load import load

PlanOf = Callable[..., Any]

LIB = "lib = import_module({})\n\ndef run(plan):\n    return {}\n"


def error_of(plan_of: PlanOf, files: Mapping[str, str]) -> InterpretationError:
    with pytest.raises(InterpretationError) as caught:
        plan_of(files)
    return caught.value


@pytest.mark.parametrize(
    ("files", "output"),
    [
        pytest.param(
            {"main.star": LIB.format('"./lib.star"', "lib.a"), "lib.star": 'a = "World!"\n'}, "World!", id="row-33"
        ),
        pytest.param(
            {
                "main.star": LIB.format('"./lib.star"', "lib.inner.a"),
                "lib.star": 'inner = import_module("./inner.star")\n',
                "inner.star": "a = 1\n",
            },
            1,
            id="row-34",
        ),
        pytest.param(
            {
                "main.star": LIB.format('"./lib.star"', 'ServiceConfig(**{"image": lib.parts.image}).image'),
                "lib.star": 'parts = struct(image = "img")\n',
            },
            "img",
            id="row-38",
        ),
        pytest.param({"main.star": LIB.format('"./lib.star"', "type(lib)"), "lib.star": "\n"}, "module", id="row-40"),
        pytest.param(
            {"main.star": 'def run(plan):\n    return read_file("./f.txt")\n', "f.txt": "é\n"}, "é\n", id="row-42"
        ),
        pytest.param(
            {
                "main.star": LIB.format('"./src/lib.star"', "lib.other.a"),
                "src/lib.star": 'other = import_module("../other.star")\n',
                "other.star": "a = 2\n",
            },
            2,
            id="row-44",
        ),
        pytest.param(
            {"main.star": LIB.format('"src/lib.star"', "lib.a"), "src/lib.star": "a = 3\n"}, 3, id="row-44-bare"
        ),
        pytest.param(
            {
                "main.star": LIB.format('"./src/lib.star"', "lib.root.a"),
                "src/lib.star": 'root = import_module("/other.star")\n',
                "other.star": "a = 4\n",
            },
            4,
            id="row-48",
        ),
        pytest.param(
            {"main.star": LIB.format('"./lib.star"', "lib._a"), "lib.star": "_a = 5\n"}, 5, id="private-names"
        ),
        pytest.param(
            {
                "main.star": "def run(plan):\n"
                "    name = 'lib'\n"
                "    return import_module('./' + name + '.star').f(import_module('./%s.star' % 'other').a)\n",
                "lib.star": "def f(x):\n    return x + 1\n",
                "other.star": "a = 5\n",
            },
            6,
            id="dynamic-in-function",
        ),
        pytest.param(
            {
                "main.star": 'run_name = "lib"\nlib = import_module("./" + run_name + ".star")\n'
                "def run(plan):\n    return lib.a\n",
                "lib.star": "a = 7\n",
            },
            7,
            id="dynamic-at-top-level",
        ),
        pytest.param(
            {
                "main.star": 'def never():\n    import_module("./missing.star")\n\ndef run(plan):\n    return 8\n',
            },
            8,
            id="missing-but-never-imported",
        ),
    ],
)
def test_import(plan_of: PlanOf, files: Mapping[str, str], output: object) -> None:
    assert plan_of(files).output == output


@pytest.mark.parametrize("row", [pytest.param(35, id="row-35")])
def test_cycles_are_named(plan_of: PlanOf, row: int) -> None:
    error = error_of(
        plan_of,
        {
            "main.star": 'a = import_module("./a.star")\n',
            "a.star": 'b = import_module("./b.star")\n',
            "b.star": 'a = import_module("./a.star")\n',
        },
    )
    assert str(error) == "b.star:1:18: files import each other: `a.star` → `b.star` → `a.star`"
    assert error.remedy == "move what both need into a third file"
    assert [str(frame.location) for frame in error.frames] == ["main.star:1:18", "a.star:1:18", "b.star:1:18"]


@pytest.mark.parametrize("row", [pytest.param(36, id="row-36")])
def test_missing_modules_are_told_with_what_lies_beside_them(plan_of: PlanOf, row: int) -> None:
    error = error_of(
        plan_of, {"main.star": 'def run(plan):\n    import_module("./helper.star")\n', "helpers.star": "a = 1\n"}
    )
    assert str(error) == (
        'main.star:2:18: cannot import "./helper.star": `./helper.star` does not exist in package '
        "`github.com/test/package` (looked for `helper.star`)"
    )
    assert error.remedy == "did you mean `helpers.star`, which lies beside it?"


@pytest.mark.parametrize("row", [pytest.param(37, id="row-37")])
def test_a_module_that_appears_later_is_found(plan_of: PlanOf, write: Callable[..., Path], row: int) -> None:
    main = {"main.star": LIB.format('"./lib.star"', "lib.a")}
    error_of(plan_of, main)
    assert plan_of({**main, "lib.star": "a = 1\n"}).output == 1


@pytest.mark.parametrize("row", [pytest.param("39+43", id="row-39-43")])
def test_instructions_are_placed_where_they_are_written(plan_of: PlanOf, row: str) -> None:
    plan = plan_of(
        {
            "main.star": 'a = import_module("./a.star")\n\ndef run(plan):\n    plan.print("1st")\n    a.outer(plan)\n',
            "a.star": 'b = import_module("./src/b.star")\n\ndef outer(plan):\n    b.inner(plan, 3)\n',
            "src/b.star": "def inner(p, n):\n    for i in range(n):\n        e = 1; p.print(msg = i)\n",
        }
    )
    assert [str(call.location) for call in plan.instructions] == ["main.star:4:15"] + ["src/b.star:3:23"] * 3


@pytest.mark.parametrize("row", [pytest.param(41, id="row-41")])
def test_two_interpretations_share_nothing(plan_of: PlanOf, row: int) -> None:
    files = {
        "main.star": 'lib = import_module("./lib.star")\ndef run(plan):\n    lib.add(plan)\n',
        "lib.star": 'def add(plan):\n    plan.print("x")\n',
    }
    assert len(plan_of(files).instructions) == len(plan_of(files).instructions) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(
            'import_module("github.com/test/package/lib.star")', "which takes relative locators only", id="row-46"
        ),
        pytest.param('import_module("https://github.com/a/b/c.star")', "has a scheme", id="row-56-scheme"),
        pytest.param('import_module("gitlab.com/a/b/c.star")', "is not on github.com", id="row-56-host"),
        pytest.param('import_module("github.com/a")', "names no repository", id="row-56-parts"),
        pytest.param('import_module("../x.star")', "leads out of the package", id="out-of-package"),
        pytest.param('import_module("./src")', "is a directory", id="directory"),
        pytest.param('import_module("")', "must be given a locator", id="empty-text"),
        pytest.param("import_module(1)", r"must be given a locator, not 1 \(int\)", id="not-a-text"),
        pytest.param('read_file("./nope")', "does not exist in package", id="row-57-read"),
        pytest.param('plan.upload_files("./nope")', "does not exist in package", id="row-57"),
        pytest.param('plan.upload_files("/../etc")', "leads out of the package", id="upload-out-of-package"),
    ],
)
def test_bad_locators(plan_of: PlanOf, call: str, message: str) -> None:
    with pytest.raises(InterpretationError, match=message) as caught:
        plan_of({"main.star": f"def run(plan):\n    {call}\n", "src/x.star": "x = 1\n"})
    assert caught.value.location is not None
    assert (caught.value.location.file, caught.value.location.line) == ("main.star", 2)


def test_errors_inside_a_module_show_who_imports_it(plan_of: PlanOf) -> None:
    error = error_of(plan_of, {"main.star": 'a = import_module("./a.star")\n', "a.star": "b = [][1]\n"})
    assert str(error) == "a.star:1:5: index 1 is out of range"
    assert [(str(f.location), f.function) for f in error.frames] == [
        ("main.star:1:18", "<module>"),
        ("a.star:1:5", "<module>"),
    ]
    assert set(error.sources) == {"main.star", "a.star"}


def test_a_resolver_finds_what_lies_outside(write: Callable[..., Path], tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "lib.star").write_text('other = import_module("./other.star")\n')
    (outside / "other.star").write_text("a = 9\n")
    asked = []

    def resolve(locator: str, caller: str) -> Path:
        asked.append((locator, caller))
        return outside / locator.rpartition("/")[2]

    root = write({"main.star": LIB.format('"github.com/x/y/lib.star"', "lib.other.a")})
    assert interpret(load(root), built_in(), {}, resolve=resolve).plan.output == 9
    assert asked == [
        ("github.com/x/y/lib.star", "main.star"),
        ("github.com/x/y/other.star", "github.com/x/y/lib.star"),
    ]


def test_the_files_of_an_interpretation_tell_whether_it_still_holds(write: Callable[..., Path]) -> None:
    root = write(
        {
            "main.star": 'lib = import_module("./lib.star")\n'
            'def run(plan):\n    plan.print(read_file("./note"))\n    plan.upload_files("./site")\n',
            "lib.star": "",
            "note": "n",
            "site/index.html": "<html>",
        }
    )
    files = interpret(load(root), built_in(), {}).files
    names = {state.path.relative_to(root).as_posix() for state in files}
    assert names == {"kurtosis.yml", "main.star", "lib.star", "note", "site", "site/index.html"}
    assert unchanged(files)
    (root / "site/new.css").write_text("")
    assert not unchanged(files)


@pytest.mark.parametrize("row", [pytest.param(10, id="row-10")])
def test_a_package_without_run_is_named(plan_of: PlanOf, row: int) -> None:
    error = error_of(plan_of, {"main.star": "def runn(plan):\n    pass\n"})
    assert str(error) == "main.star: package `github.com/test/package` has no function `run` in main.star"
    assert error.remedy == "did you mean `runn`?"
