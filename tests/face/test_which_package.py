"""Which package a test gets: marker over option over ini over the nearest `kurtosis.yml` above its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.face.conftest import RunPytest, WritePackage
from tests.package.hub import Hub

TELLS_OUTPUT = """
    import pytest

    def test_output(enclave):
        print(f"<{enclave.output}>")
"""


@pytest.fixture
def packages(package: WritePackage) -> None:
    """Packages that return what they are called."""
    for name in ("near", "near/deeper/marked", "by_option", "by_ini", "elsewhere/by_ini"):
        package(name, f'return "{name}"')


def outputs(result: pytest.RunResult) -> list[str]:
    """What the tests printed of their enclaves."""
    return [line[1:-1] for line in result.outlines if line.startswith("<")]


@pytest.mark.usefixtures("packages")
def test_the_nearest_manifest_above_the_test_file_counts(pytester: pytest.Pytester, run: RunPytest) -> None:
    pytester.makepyfile(**{"near/deeper/test_it": TELLS_OUTPUT})
    assert outputs(run("-rP")) == ["near"]


@pytest.mark.usefixtures("packages")
def test_the_ini_counts_more_and_is_relative_to_the_ini_file(
    pytester: pytest.Pytester, run: RunPytest, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(**{"near/deeper/test_it": TELLS_OUTPUT})
    pytester.makeini("[pytest]\nenclave_package = by_ini")
    monkeypatch.chdir(pytester.path / "elsewhere")
    assert outputs(run("-rP", "../near")) == ["by_ini"]


@pytest.mark.usefixtures("packages")
def test_the_option_counts_more_and_is_relative_to_the_working_directory(
    pytester: pytest.Pytester, run: RunPytest, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(**{"near/deeper/test_it": TELLS_OUTPUT})
    pytester.makeini("[pytest]\nenclave_package = by_option")
    monkeypatch.chdir(pytester.path / "elsewhere")
    assert outputs(run("-rP", "../near", "--enclave-package=by_ini")) == ["elsewhere/by_ini"]


@pytest.mark.usefixtures("packages")
def test_the_marker_counts_most_and_is_relative_to_the_test_file(pytester: pytest.Pytester, run: RunPytest) -> None:
    marked = TELLS_OUTPUT.replace("def test", '@pytest.mark.enclave("marked")\n    def test')
    pytester.makepyfile(**{"near/deeper/test_it": marked})
    assert outputs(run("-rP", "--enclave-package=by_option")) == ["near/deeper/marked"]


@pytest.mark.usefixtures("packages")
def test_a_single_script_is_a_package_too(pytester: pytest.Pytester, run: RunPytest) -> None:
    pytester.makepyfile(TELLS_OUTPUT)
    (pytester.path / "alone.star").write_text('def run(plan):\n    return "alone"\n')
    assert outputs(run("-rP", "--enclave-package=alone.star")) == ["alone"]


def test_text_in_the_marker_is_a_package_too(pytester: pytest.Pytester, run: RunPytest) -> None:
    pytester.makepyfile(
        """
        import pytest
        from pytest_enclave.package.package import Source

        @pytest.mark.enclave(Source("def run(plan):\\n    return 'text'"))
        def test_output(enclave):
            assert enclave.output == "text"
        """
    )
    run().assert_outcomes(passed=1)


def test_a_manifest_above_the_root_does_not_count(
    pytester: pytest.Pytester, package: WritePackage, run: RunPytest
) -> None:
    package(".", 'return "above"')
    pytester.makepyfile(**{"project/test_it": TELLS_OUTPUT})
    result = run("project", "--rootdir=project")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["error*: test_it.py::test_output asks for an enclave, and names no package"])


def test_without_any_package_the_test_is_an_error_that_says_what_to_do(
    pytester: pytest.Pytester, run: RunPytest
) -> None:
    pytester.makepyfile(test_it=TELLS_OUTPUT)
    result = run()
    result.assert_outcomes(errors=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "error[[]E100]: test_it.py::test_output asks for an enclave, and names no package",
            "   = help: name one with --enclave-package=PATH or @pytest.mark.enclave(PATH), or put a kurtosis.yml",
            "           above the test",
        ]
    )


def test_a_path_without_a_package_is_an_error_that_names_the_path(pytester: pytest.Pytester, run: RunPytest) -> None:
    pytester.makepyfile(test_it=TELLS_OUTPUT)
    result = run("--enclave-package=nowhere")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"error*: there is no package at {pytester.path}/nowhere"])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """What github.com is during a test."""
    hub = Hub(tmp_path / "hub")
    main = "def run(plan, near = 'near'):\n    return near + ' ' + read_file('./note')\n"
    for note, tags in (("old", ("v1",)), ("new", ())):
        files = {"kurtosis.yml": "name: github.com/far/package\n", "main.star": main, "note": note}
        hub.commit("far/package", files, tags=tags)
    for name in ("GIT_CONFIG_GLOBAL", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, hub.environ[name])
    return hub


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("where", "told"),
    [
        pytest.param("option", "near old", id="row-49-option"),
        pytest.param("ini", "near new", id="row-49-ini"),
        pytest.param("marker", "near old", id="row-49-marker"),
    ],
)
def test_a_locator_names_a_package_of_another_repository(
    pytester: pytest.Pytester, run: RunPytest, where: str, told: str
) -> None:
    test, options = TELLS_OUTPUT, []
    if where == "marker":
        test = test.replace("def test", '@pytest.mark.enclave("github.com/far/package@v1")\n    def test')
    elif where == "ini":
        pytester.makeini("[pytest]\nenclave_package = github.com/far/package")
    else:
        options = ["--enclave-package=github.com/far/package@v1"]
    pytester.makepyfile(test)
    assert outputs(run("-rP", *options)) == [told]


@pytest.mark.usefixtures("hub")
def test_the_factory_and_run_take_locators_too(pytester: pytest.Pytester, run: RunPytest) -> None:
    pytester.makepyfile(
        """
        def test_it(enclave_factory):
            enclave = enclave_factory("github.com/far/package@v1", {"near": "here"})
            assert enclave.output == "here old"
            assert enclave.name.startswith("package")
            assert enclave.run("github.com/far/package").output == "near new"
        """
    )
    run().assert_outcomes(passed=1)


@pytest.mark.usefixtures("hub")
def test_a_locator_that_leads_nowhere_is_an_error_that_names_it(pytester: pytest.Pytester, run: RunPytest) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.enclave("github.com/far/away")
        def test_it(enclave): ...
        """
    )
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["error*: there is no repository `github.com/far/away`: *", "*help: look for `away`*"])


def test_a_locator_with_a_scheme_is_told_to_go_without(pytester: pytest.Pytester, run: RunPytest) -> None:
    pytester.makepyfile(test_it=TELLS_OUTPUT)
    result = run("--enclave-package=https://github.com/far/package")
    result.stdout.fnmatch_lines(["*help: packages of other repositories are named without a scheme:*"])
