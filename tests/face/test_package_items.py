"""A package named on the command line is a test item: its run."""

from __future__ import annotations

import pytest

from tests.face.conftest import RunPytest, WritePackage


@pytest.fixture
def shop(pytester: pytest.Pytester, package: WritePackage) -> None:
    """A package with a test and another script."""
    root = package("shop", 'plan.print("n is {}".format(n))', parameters="n = 0")
    (root / "other.star").write_text('def run(plan):\n    plan.print("other")\n')
    (root / "test_shop.py").write_text("def test_it(enclave): ...\n")


@pytest.mark.usefixtures("shop")
def test_a_directory_is_its_packages_run_and_its_tests(run: RunPytest) -> None:
    result = run("shop", "-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["shop/kurtosis.yml::run PASSED*", "shop/test_shop.py::test_it PASSED*"])
    assert "enclave: 2 instructions, 1 executed, 1 reused" in result.outlines


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("argument", ["shop/other.star", "shop/other.star::run"])
def test_a_script_is_its_run(run: RunPytest, argument: str) -> None:
    result = run(argument, "-v", "-rP")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["shop/other.star::run PASSED*", "*other"])


@pytest.mark.usefixtures("shop")
def test_the_manifest_can_be_named_itself(run: RunPytest) -> None:
    run("shop/kurtosis.yml::run").assert_outcomes(passed=1)


@pytest.mark.usefixtures("shop")
def test_options_hold_for_it(run: RunPytest) -> None:
    result = run("shop/main.star", '--enclave-args={"n": 4}', "-rP")
    result.stdout.fnmatch_lines(["*n is 4"])


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("arguments", [(), (".",)])
def test_a_package_that_a_parent_directory_leads_to_is_not_an_item(run: RunPytest, arguments: tuple[str, ...]) -> None:
    result = run(*arguments, "-v")
    result.assert_outcomes(passed=1)
    assert "kurtosis.yml" not in result.stdout.str()


@pytest.mark.usefixtures("shop")
def test_it_is_selected_by_keyword(run: RunPytest) -> None:
    run("shop", "-k", "kurtosis").assert_outcomes(passed=1, deselected=1)
    run("shop", "-k", "not kurtosis").assert_outcomes(passed=1, deselected=1)


@pytest.mark.usefixtures("shop")
def test_collecting_shows_it_and_starts_nothing(run: RunPytest) -> None:
    result = run("shop", "shop/other.star", "--collect-only")
    result.stdout.fnmatch_lines(
        ["*<PackageFile kurtosis.yml>", "*<PackageItem run>", "*<PackageFile other.star>", "*<PackageItem run>"]
    )
    assert not [line for line in result.outlines if line.startswith("enclave: ") and "instruction" in line]


@pytest.mark.usefixtures("shop")
def test_a_setup_plan_starts_nothing(run: RunPytest) -> None:
    result = run("shop", "--setup-plan")
    assert not [line for line in result.outlines if "instruction" in line]


@pytest.mark.parametrize(
    ("body", "outcome"),
    [('plan.verify(value = "a", assertion = "==", target_value = "b")', "failed"), ("plan.print(nothing)", "errors")],
)
def test_its_run_fails_as_a_tests_would(package: WritePackage, run: RunPytest, body: str, outcome: str) -> None:
    package("broken", body)
    result = run("broken")
    result.assert_outcomes(**{outcome: 1})
    result.stdout.fnmatch_lines(["*_ *broken: run _*", "error*"])
