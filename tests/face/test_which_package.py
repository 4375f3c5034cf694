"""Which package a test gets: marker over option over ini over the nearest `kurtosis.yml` above its file."""

from __future__ import annotations

import pytest

from tests.face.conftest import RunPytest, WritePackage

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


def test_a_remote_locator_is_not_taken_for_a_path(pytester: pytest.Pytester, run: RunPytest) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.enclave("github.com/author/repository")
        def test_it(enclave): ...
        """
    )
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "error*: there is no package at github.com/author/repository",
            "*help: remote packages are not supported yet: clone it and name the directory",
        ]
    )
