"""Files of other repositories: imported, read, uploaded, replaced (behaviour.md §3.4, rows 47 to 54)."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_enclave.errors import EnclaveError, InterpretationError
from pytest_enclave.instructions.registry import built_in
from pytest_enclave.language.confined import apart
from pytest_enclave.language.interpret import Interpretation, interpret
from pytest_enclave.package.files import unchanged
from pytest_enclave.package.finding import Finder
from pytest_enclave.package.git.repositories import Repositories
from pytest_enclave.package.load import load
from pytest_enclave.package.locators import Locator
from pytest_enclave.package.package import Source
from tests.package.hub import Hub

InterpretedIn = Callable[..., Interpretation]

A = "name: github.com/a/a\n"
SUB = "name: github.com/a/a/sub\n"
SAYS = "def says():\n    return {!r}\n"
IMPORTS = "m = import_module({!r})\n\ndef run(plan):\n    return m.says()\n"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    hub = Hub(tmp_path_factory.mktemp("github") / "hub")
    hub.commit("a/a", {"kurtosis.yml": A, "m.star": SAYS.format("a v1"), "main.star": ""}, tags=("v1",))
    hub.commit(
        "a/a",
        {
            "kurtosis.yml": A,
            "m.star": 'near = import_module("./near.star")\n\ndef says():\n    return near.says()\n',
            "near.star": SAYS.format("a next"),
            "main.star": "",
        },
        branch="next",
    )
    hub.commit(
        "a/a",
        {
            "kurtosis.yml": A,
            "m.star": SAYS.format("a main"),
            "main.star": 'm = import_module("./m.star")\n\ndef run(plan):\n    return m.says() + read_file("/note")\n',
            "note": "!",
            "sub/kurtosis.yml": SUB,
            "sub/m.star": SAYS.format("sub"),
            "sub/main.star": 'def run(plan):\n    return import_module("../m.star").says() + " from sub"\n',
            "private.star": "def _hidden():\n    return 7\n",
            "site/index.html": "<html>",
            "site/@scope/x": "x",
            "uses_b.star": 'b = import_module("github.com/b/b/m.star")\n\ndef says():\n    return b.says()\n',
            "uses_root.star": 'r = import_module("github.com/test/package/own.star")\nsays = r.says\n',
            "around.star": 'c = import_module("github.com/b/b/around.star")\n',
        },
    )
    hub.commit(
        "b/b",
        {
            "kurtosis.yml": "name: github.com/b/b\nreplace:\n  github.com/a/a: github.com/b/other\n",
            "m.star": 'a = import_module("github.com/a/a/m.star")\n\ndef says():\n    return "b with " + a.says()\n',
            "around.star": 'a = import_module("github.com/a/a/around.star")\n',
        },
    )
    hub.commit("b/other", {"kurtosis.yml": "name: github.com/b/other\n", "m.star": SAYS.format("other")})
    hub.commit("b/no-package", {"m.star": "", "data/x": "x"})
    hub.commit("b/misnamed", {"kurtosis.yml": A, "m.star": "", "main.star": ""})
    return hub


@pytest.fixture
def interpreted(write: Callable[[Mapping[str, str]], Path], hub: Hub) -> InterpretedIn:
    """Interprets a package of these files, or what a locator stands for, with a session of its own."""

    def interpreted_in(package: Mapping[str, str] | str, **options: Any) -> Interpretation:
        others = options.pop("others", None) or Repositories.of(hub.environ)
        loaded = load(package if isinstance(package, str) else write(package), None, others)
        return interpret(loaded, built_in(), {}, others=others, **options)

    return interpreted_in


@pytest.mark.parametrize(
    ("locator", "says"),
    [
        pytest.param("github.com/a/a/m.star", "a main", id="row-49-default"),
        pytest.param("github.com/a/a/m.star@v1", "a v1", id="row-49-tag"),
        pytest.param("github.com/a/a@v1/m.star", "a v1", id="version-after-the-repository"),
        pytest.param("github.com/a/a/m.star@next", "a next", id="row-49-branch-for-relative-imports-too"),
        pytest.param("github.com/a/a/sub/m.star", "sub", id="package-inside"),
        pytest.param("github.com/b/b/m.star", "b with a main", id="only-the-main-package-replaces"),
        pytest.param("github.com/a/a/uses_b.star", "b with a main", id="there-and-back"),
    ],
)
def test_import(interpreted: InterpretedIn, locator: str, says: str) -> None:
    assert interpreted({"main.star": IMPORTS.format(locator)}).plan.output == says


def test_private_names_inside_functions(interpreted: InterpretedIn) -> None:
    main = 'def run(plan):\n    return import_module("github.com/a/a/private.star")._hidden()\n'
    assert interpreted({"main.star": main}).plan.output == 7


def test_versions_are_modules_of_their_own(interpreted: InterpretedIn) -> None:
    main = (
        'a = import_module("github.com/a/a/m.star")\n'
        'def run(plan):\n    name = "github.com/a/a/m.star@%s"\n'
        '    return [a.says(), import_module(name % "v1").says(), import_module(name % "next").says()]\n'
    )
    assert interpreted({"main.star": main}).plan.output == ["a main", "a v1", "a next"]


def test_what_is_imported_inside_functions_is_not_fetched_before(interpreted: InterpretedIn, tmp_path: Path) -> None:
    other = Hub(tmp_path / "empty")
    main = 'def never():\n    import_module("github.com/a/a/m.star")\n\ndef run(plan):\n    return 1\n'
    assert interpreted({"main.star": main}, others=Repositories.of(other.environ)).plan.output == 1
    assert not other.cache.exists()


@pytest.mark.parametrize("row", [pytest.param(47, id="row-47-from-another-repository")])
def test_other_repositories_may_import_the_main_package(interpreted: InterpretedIn, row: int) -> None:
    files = {"main.star": IMPORTS.format("github.com/a/a/uses_root.star"), "own.star": SAYS.format("own")}
    assert interpreted(files).plan.output == "own"


@pytest.mark.parametrize(
    ("locator", "says"),
    [
        pytest.param("../m.star", "parent", id="row-47-parent"),
        pytest.param("github.com/test/repo/m.star", "parent", id="row-47-parent-absolute"),
        pytest.param("/m.star", "parent", id="row-48-from-the-root-of-the-repository"),
        pytest.param("../sibling/m.star", "sibling", id="row-47-sibling"),
        pytest.param("/child/inner.star", "inner", id="row-48-into-itself"),
    ],
)
def test_packages_of_one_clone_see_each_other(tmp_path: Path, locator: str, says: str) -> None:
    write_repository(tmp_path, IMPORTS.format(locator))
    (tmp_path / ".git").mkdir()
    assert interpret(load(tmp_path / "child"), built_in(), {}).plan.output == says


@pytest.mark.parametrize("locator", ["../m.star", "/m.star"])
def test_a_package_outside_of_a_clone_has_its_siblings_from_git(tmp_path: Path, locator: str) -> None:
    write_repository(tmp_path, IMPORTS.format(locator))
    with pytest.raises(InterpretationError, match=f"`{locator}` is in `github.com/test/repo`, and nothing is fetched"):
        interpret(load(tmp_path / "child"), built_in(), {})


def write_repository(root: Path, main: str) -> None:
    """A package with two inside, one of them with this main file."""
    files = {
        "kurtosis.yml": "name: github.com/test/repo\n",
        "m.star": SAYS.format("parent"),
        "sibling/kurtosis.yml": "name: github.com/test/repo/sibling\n",
        "sibling/m.star": SAYS.format("sibling"),
        "child/kurtosis.yml": "name: github.com/test/repo/child\n",
        "child/inner.star": SAYS.format("inner"),
        "child/main.star": main,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("locator", "output"),
    [
        pytest.param("github.com/a/a", "a main!", id="row-49-main-package"),
        pytest.param("github.com/a/a/sub", "a main from sub", id="row-47-package-inside"),
        pytest.param("github.com/a/a@main/sub", "a main from sub", id="row-49-package-inside-a-branch"),
        pytest.param("github.com/a/a/main.star@main", "a main!", id="main-file"),
        pytest.param("github.com/a/a/sub/main.star", "a main from sub", id="main-file-of-a-package-inside"),
    ],
)
def test_the_main_package_may_be_fetched(interpreted: InterpretedIn, locator: str, output: str) -> None:
    assert interpreted(locator).plan.output == output


@pytest.mark.parametrize(
    ("locator", "message"),
    [
        pytest.param("github.com/b/misnamed", "`name` is `github.com/a/a`, but this file is at", id="row-51-main"),
        pytest.param("github.com/b/no-package", "is not a package: it has no `kurtosis.yml`", id="row-52-main"),
        pytest.param("github.com/a/a/site", "is not a package: it has no `kurtosis.yml`", id="row-52-main-inside"),
        pytest.param("github.com/a/a@nothing", "has no tag, branch or commit `nothing`", id="row-49-none-main"),
        pytest.param("github.com/a/nothing", "there is no repository `github.com/a/nothing`", id="row-50-main"),
        pytest.param("github.com/a/a/nothing", "`github.com/a/a/nothing` does not exist", id="no-such-directory"),
        pytest.param("github.com/a", "names no repository", id="row-56-main"),
    ],
)
def test_what_is_no_package(interpreted: InterpretedIn, locator: str, message: str) -> None:
    with pytest.raises(EnclaveError, match=re.escape(message)):
        interpreted(locator)


@pytest.mark.parametrize(
    ("locator", "message"),
    [
        pytest.param("github.com/a/nothing/m.star", "there is no repository `github.com/a/nothing`", id="row-50"),
        pytest.param(
            "github.com/a/a/m.star@v9", "`github.com/a/a` has no tag, branch or commit `v9`", id="row-49-none"
        ),
        pytest.param("github.com/a/a/n.star", "does not exist in `github.com/a/a`", id="row-36-remote"),
        pytest.param("github.com/b/no-package/m.star", "is in no package: there is no `kurtosis.yml`", id="row-52"),
        pytest.param("github.com/b/misnamed/m.star", "`name` is `github.com/a/a`, but this file is at", id="row-51"),
        pytest.param("github.com/a/a", "is a directory, where a file is needed", id="directory"),
    ],
)
@pytest.mark.parametrize("main", ["import_module", "read_file"])
def test_refused(interpreted: InterpretedIn, locator: str, message: str, main: str) -> None:
    with pytest.raises(InterpretationError, match=re.escape(message)) as caught:
        interpreted({"main.star": f"def run(plan):\n    {main}({locator!r})\n"})
    assert caught.value.frames or caught.value.location


@pytest.mark.parametrize("row", [pytest.param(52, id="row-52-upload")])
def test_files_outside_of_packages_can_be_uploaded(interpreted: InterpretedIn, row: int) -> None:
    uploads = ("github.com/b/no-package/data", "github.com/a/a/site")
    main = "def run(plan):\n" + "".join(f"    plan.upload_files({locator!r})\n" for locator in uploads)
    result = interpreted({"main.star": main})
    data, site = [call.files["src"] for call in result.plan.instructions]
    assert [path.name for path in data.path.iterdir()] == ["x"]
    assert (site.path / "@scope" / "x").read_text() == "x"
    assert unchanged(result.files)


def test_the_digest_of_what_is_uploaded_is_that_of_its_content(interpreted: InterpretedIn) -> None:
    def digest(locator: str, **files: str) -> str:
        main = {"main.star": f"def run(plan):\n    plan.upload_files({locator!r})\n"}
        return interpreted({**main, **files}).plan.instructions[0].files["src"].digest

    same = {"site/index.html": "<html>", "site/@scope/x": "x"}
    assert digest("github.com/a/a/site") == digest("github.com/a/a/site@main") == digest("./site", **same)
    assert digest("github.com/a/a/m.star") != digest("github.com/a/a/m.star@v1")


@pytest.mark.parametrize("row", [pytest.param(35, id="row-35-between-repositories")])
def test_cycles_between_repositories_are_named_with_every_place(interpreted: InterpretedIn, row: int) -> None:
    with pytest.raises(InterpretationError) as caught:
        interpreted({"main.star": IMPORTS.format("github.com/a/a/around.star")})
    way = "`github.com/a/a/around.star` → `github.com/b/b/around.star` → `github.com/a/a/around.star`"
    assert caught.value.message == f"files import each other: {way}"
    assert [str(frame.location) for frame in caught.value.frames] == [
        "main.star:1:18",
        "github.com/a/a/around.star:1:18",
        "github.com/b/b/around.star:1:18",
    ]


def replacing(locator: str, *rules: str) -> dict[str, str]:
    listed = "".join(f"  {rule}\n" for rule in rules)
    return {"kurtosis.yml": f"name: github.com/test/package\nreplace:\n{listed}", "main.star": IMPORTS.format(locator)}


@pytest.mark.parametrize(
    ("locator", "rules", "says"),
    [
        pytest.param("github.com/a/a/m.star", ["github.com/a/a: github.com/b/other"], "other", id="row-53-package"),
        pytest.param("github.com/a/a/m.star", ["github.com/a/a: github.com/a/a@v1"], "a v1", id="row-53-version"),
        pytest.param(
            "github.com/a/a/m.star", ["github.com/a/a: github.com/a/a@next # why"], "a next", id="row-53-branch"
        ),
        pytest.param(
            "github.com/a/a/m.star@v1", ["github.com/a/a: github.com/b/other"], "other", id="version-of-the-replaced"
        ),
        pytest.param("github.com/A/a/m.star", ["github.com/a/A: github.com/b/other"], "other", id="in-capitals"),
        pytest.param(
            "github.com/a/a/sub/m.star",
            ["github.com/a/a: github.com/b/none", "github.com/a/a/sub: github.com/b/other"],
            "other",
            id="row-53-longest",
        ),
        pytest.param(
            "github.com/a/a/sub/m.star", ["github.com/a/a/su: github.com/b/none"], "sub", id="row-53-whole-names"
        ),
        pytest.param(
            "github.com/x/x/m.star", ["github.com/x/x: github.com/a/a/sub"], "sub", id="row-53-by-a-package-inside"
        ),
        pytest.param(
            "github.com/b/b/m.star", ["github.com/a/a: github.com/b/other"], "b with other", id="row-53-inner-module"
        ),
        pytest.param(
            "github.com/x/x/m.star",
            ["github.com/x/x: github.com/a/a@v1", "github.com/a/a: github.com/b/other"],
            "a v1",
            id="no-chains",
        ),
    ],
)
def test_replace(interpreted: InterpretedIn, locator: str, rules: list[str], says: str) -> None:
    assert interpreted(replacing(locator, *rules)).plan.output == says


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A package on this machine, beside the one that is interpreted."""
    beside = tmp_path.parent / f"{tmp_path.name}-beside"
    beside.mkdir()
    (beside / "kurtosis.yml").write_text(A)
    (beside / "m.star").write_text('near = import_module("/near.star")\n\ndef says():\n    return near.says()\n')
    (beside / "near.star").write_text(SAYS.format("here"))
    return beside


@pytest.mark.parametrize("row", [pytest.param(54, id="row-54")])
def test_a_path_may_replace_a_package_and_then_no_more(interpreted: InterpretedIn, beside: Path, row: int) -> None:
    others = "github.com/a/a/m.star"
    for path in (f"../{beside.name}", str(beside)):
        result = interpreted(replacing(others, f"github.com/a/a: {path}"))
        assert result.plan.output == "here"
        assert beside / "near.star" in {state.path for state in result.files}
        assert beside / "kurtosis.yml" in {state.path for state in result.files}
        assert set(result.plan.sources) == {"main.star", others, "github.com/a/a/near.star"}
    assert interpreted(replacing(others, "github.com/a/a: github.com/a/a@v1")).plan.output == "a v1"
    assert interpreted(replacing(others)).plan.output == "a main"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        pytest.param("github.com/a/a: ./nowhere", "which is no directory", id="no-such-path"),
        pytest.param("github.com/a/a: github.com/b", "names no repository", id="row-55-replace-no-repository"),
        pytest.param("github.com/a/a: nonsense", "neither a package nor a path", id="row-55-replace-nonsense"),
        pytest.param("github.com/a/a@v1: ./x", "which is not of the form", id="row-55-replace-versioned-key"),
        pytest.param("github.com/a/a: https://github.com/b/b", "neither a package nor a path", id="row-55-scheme"),
    ],
)
def test_replacements_that_cannot_be(interpreted: InterpretedIn, rule: str, message: str) -> None:
    with pytest.raises(EnclaveError, match=re.escape(message)):
        interpreted(replacing("github.com/a/a/m.star", rule))


def test_links_do_not_lead_out_of_what_replaces(interpreted: InterpretedIn, beside: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.star").write_text("")
    (beside / "m.star").unlink()
    (beside / "m.star").symlink_to(tmp_path / "secret.star")
    with pytest.raises(InterpretationError, match=r"which replaces `github\.com/a/a`, to"):
        interpreted(replacing("github.com/a/a/m.star", f"github.com/a/a: {beside}"))


def test_paths_on_this_machine_do_not_count_for_packages_of_others(hub: Hub, interpreted: InterpretedIn) -> None:
    main = 'm = import_module("github.com/a/a/m.star")\n\ndef run(plan):\n    return m.says()\n'
    rules = "replace:\n  github.com/a/a: ../../../../../../etc\n"
    hub.commit("c/local", {"kurtosis.yml": f"name: github.com/c/local\n{rules}", "main.star": main})
    result = interpreted("github.com/c/local")
    assert result.plan.output == "a main"
    assert "which is nowhere in its repository" in result.plan.warnings[0].message


def test_a_version_that_could_not_be_asked_for_is_a_warning_of_the_plan(hub: Hub, interpreted: InterpretedIn) -> None:
    hub.commit("c/gone", {"kurtosis.yml": "name: github.com/c/gone\n", "main.star": "def run(plan):\n    return 1\n"})
    main = {"main.star": 'import_module("github.com/c/gone/main.star")\n\ndef run(plan):\n    return 2\n'}
    assert interpreted(main).plan.warnings == ()
    hub.remove("c/gone")
    for package, output in (("github.com/c/gone", 1), (main, 2)):
        plan = interpreted(package).plan
        assert (plan.output, [warning.severity for warning in plan.warnings]) == (output, ["warning"])
        assert "its default branch is taken as it was" in plan.warnings[0].message


def test_the_time_that_fetching_takes_is_not_that_of_interpreting(hub: Hub, interpreted: InterpretedIn) -> None:
    class Slow(Repositories):
        def checkout(self, readings: Any) -> Any:
            time.sleep(1.5)
            return super().checkout(readings)

    main = {"main.star": IMPORTS.format("github.com/a/a/m.star")}
    assert interpreted(main, others=Slow.of(hub.environ), timeout=1.4).plan.output == "a main"


DYNAMIC = (
    "def run(plan):\n    l = []\n    l.append(l[:])\n    for i in range(2):\n        l = [l]\n"
    '    m = import_module("github.com/a/a/" + "m.star")\n    return m.says()\n'
)
"""Evaluated in a process of its own, in which it turns out what has to be fetched."""


def test_what_a_fork_needs_is_fetched_here_and_its_time_does_not_count(
    interpreted: InterpretedIn, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    others, pids = Repositories.of(hub.environ), []
    checkout = others.checkout

    def slow(readings: Any) -> Any:
        pids.append(os.getpid())
        time.sleep(1.5 * (len(pids) == 1))
        return checkout(readings)

    monkeypatch.setattr(others, "checkout", slow)
    shutil.rmtree(hub.cache, ignore_errors=True)
    files = {"main.star": DYNAMIC, "kurtosis.yml": "name: github.com/test/package\n"}
    assert interpreted(files, others=others, timeout=1.4).plan.output == "a main"
    assert set(pids) == {os.getpid()}


def test_what_a_fork_needs_and_cannot_be_fetched_is_told_with_its_place(interpreted: InterpretedIn) -> None:
    text = DYNAMIC.replace("github.com/a/a/", "github.com/no/one/")
    with pytest.raises(InterpretationError, match=r"there is no repository `github.com/no/one`") as caught:
        interpreted({"main.star": text, "kurtosis.yml": "name: github.com/test/package\n"})
    assert (caught.value.location and caught.value.location.line) == 6


def test_a_fork_does_not_wait_for_what_another_thread_had_locked(hub: Hub, tmp_path: Path) -> None:
    others = Repositories.of(hub.environ)
    others.checkout([Locator("github.com/a/a", "m.star")])
    finder = Finder(load(Source("def run(plan): pass")), others=others)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with others._lock:
            held.set()
            done.wait(20)

    def find() -> str:
        finder.fetch_no_more()
        return finder.find("github.com/a/a/m.star", "<source>").name

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        held.wait()
        name = apart(find, memory=1 << 30, deadline=time.monotonic() + 10, cancelled=lambda: False)
    finally:
        done.set()
        thread.join()
    assert name == "github.com/a/a/m.star"


SERVICE = 'def says(plan):\n    plan.add_service("s", {})\n'
ON_THE_MACHINE = [
    ('ServiceConfig(image = "host:/")', 40, "ServiceConfig"),
    ('ServiceConfig("host:/")', 40, "ServiceConfig"),
    ('struct(image = "host:/")', 21, "ServiceConfig"),
]


@pytest.mark.parametrize(("config", "column", "callee"), ON_THE_MACHINE)
def test_what_was_fetched_does_not_use_this_machines_files(
    hub: Hub, interpreted: InterpretedIn, config: str, column: int, callee: str
) -> None:
    text = SERVICE.format(config)
    hub.commit("host/uses", {"kurtosis.yml": "name: github.com/host/uses\n", "m.star": text, "main.star": text})
    main = 'm = import_module("github.com/host/uses/m.star")\ndef run(plan):\n    m.says(plan)\n'
    fetched = text.replace("says", "run")
    hub.commit("host/main", {"kurtosis.yml": "name: github.com/host/main\n", "main.star": fetched})
    for package, file in (({"main.star": main}, "github.com/host/uses/m.star"), ("github.com/host/main", "main.star")):
        with pytest.raises(InterpretationError) as caught:
            interpreted(package)
        assert caught.value.message == (
            f'{callee}: `image` is "host:/", the files of this machine, which a package that was fetched may not use'
        )
        assert str(caught.value.location) == f"{file}:2:{column}"
        assert caught.value.remedy == (
            "check the package out and name its directory, for a dependency under `replace` in `kurtosis.yml`"
        )


def test_what_replaces_it_here_does(interpreted: InterpretedIn, tmp_path: Path) -> None:
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "kurtosis.yml").write_text("name: github.com/host/uses\n")
    (tmp_path / "beside" / "m.star").write_text(SERVICE.format('ServiceConfig("host:/")'))
    files = {
        "kurtosis.yml": "name: github.com/test/package\nreplace:\n  github.com/host/uses: ./beside\n",
        "main.star": 'm = import_module("github.com/host/uses/m.star")\ndef run(plan):\n    m.says(plan)\n',
    }
    (step,) = interpreted(files).plan.instructions
    assert step.arguments["config"].get("image") == "host:/"
