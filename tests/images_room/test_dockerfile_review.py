"""What is told of a build before it begins."""

from __future__ import annotations

import pytest

from pytest_enclave.images.dockerfile.review import Review
from pytest_enclave.images.dockerfile.stages import DockerfileFault
from pytest_enclave.images.dockerfile.syntax import parse
from pytest_enclave.images.faults import ImageFault
from pytest_enclave.plan.image_sources import Build

STAGES = "FROM a AS Prepare\nFROM --platform=linux/amd64 b AS production\nONBUILD RUN x\nFROM c\n"


def review(text: str, target: str = "", **arguments: str) -> Review:
    return Review(parse(text), Build("shop/api", "/c", "api", "Dockerfile", target, arguments, "0"))


@pytest.mark.parametrize("target", ["", "prepare", "Prepare", "PRODUCTION", "0", "2"])
def test_a_stage_goes_by_its_name_in_any_case_or_its_number(target: str):
    review(STAGES, target).refuse()


@pytest.mark.parametrize(
    ("text", "target", "remedy"),
    [
        (STAGES, "prduction", "did you mean `production`?"),
        (STAGES, "test", "there are `prepare`, `production`"),
        ("ARG A\nFROM a AS base\n", "test", "there is only `base`"),
        ("FROM a\n", "test", ""),
        ("", "test", ""),
    ],
)
def test_a_target_that_is_no_stage_is_told_with_those_there_are(text: str, target: str, remedy: str):
    with pytest.raises(ImageFault) as caught:
        review(text, target).refuse()
    assert (caught.value.meaning, caught.value.remedy) == (f"there is no stage `{target}` in Dockerfile", remedy)


@pytest.mark.parametrize(
    "text", ["FRM scratch AS prod\n", "FROM scratch AS prod extra\n", "FROM a\nFROM\n", "# c\nARG A\nRUN x\nFROM a\n"]
)
def test_the_target_is_not_blamed_for_a_from_that_is_wrong(text: str):
    review(text, "prod").refuse()


BUILT = "pytest-enclave-build/api:0"


@pytest.mark.parametrize(
    ("text", "line", "name"),
    [
        (f"FROM {BUILT}\n", 1, BUILT),
        (f"FROM --platform=linux/amd64 {BUILT} AS a\n", 1, BUILT),
        (f"FROM docker.io/{BUILT}\n", 1, f"docker.io/{BUILT}"),
        (f"FROM a\nCOPY --chown=0 --from={BUILT} \\\n  /a /b\n", 2, BUILT),
        (f"ARG BASE={BUILT}\nFROM a\nFROM $BASE\n", 3, BUILT),
        ("ARG TAG=1 GIVEN\nFROM ${GIVEN:-x}:$TAG\n", 2, "pytest-enclave-step:1"),
        ("FROM a\nFROM index.docker.io/library/pytest-enclave-step:1\n", 2,
         "index.docker.io/library/pytest-enclave-step:1"),
    ],
)  # fmt: skip
def test_a_name_that_builds_here_give_is_never_pulled(text: str, line: int, name: str):
    with pytest.raises(DockerfileFault) as caught:
        review(text, GIVEN="pytest-enclave-step").refuse()
    assert caught.value.line == line
    reserved = "pytest-enclave-step" if "step" in name else "pytest-enclave-build/"
    assert caught.value.fault.meaning == (
        f'image "{name}": names that begin with `{reserved}` belong to images that are built here, and cannot be pulled'
    )
    assert caught.value.fault.remedy == "make both images by stages of one Dockerfile"


@pytest.mark.parametrize(
    "text",
    [
        "FROM a AS pytest\nFROM pytest\nCOPY --from=pytest /a /b\n",
        "FROM my/pytest-enclave-build/a\n",
        f"FROM a\nRUN echo --from={BUILT}\nLABEL from={BUILT}\n",
        "FROM $\nFROM ${A\nARG\nCOPY\nFROM\n",
    ],
)
def test_anything_else_is_left_to_whoever_builds(text: str):
    review(text).refuse()


def test_build_arguments_that_no_arg_takes_are_told():
    text = "ARG BASE\nFROM $BASE\nARG VERSION=1 OTHER\nONBUILD ARG ZZ\n"
    arguments = dict.fromkeys(("BASE", "OTHER", "VERISON", "version", "ZZ", "HTTP_PROXY", "no_proxy"), "x")
    assert list(review(text, **arguments).unused_arguments()) == [
        ("VERISON", "did you mean `VERSION`?"),
        ("version", "did you mean `VERSION`?"),
        ("ZZ", "there are `BASE`, `OTHER`, `VERSION`"),
    ]
    assert list(review("FROM a\n", A="1").unused_arguments()) == [("A", "write `ARG A` where it is wanted")]
    assert list(review("FROM a\nARG VERSION\n", A="1").unused_arguments()) == [("A", "there is only `VERSION`")]


@pytest.mark.parametrize("quoted", ['"A=1"', "'A=1'", '"A"', '"A=1 2"', '"A"=1', 'A="1"', "B=1 \"A=$B\" 'C'"])
def test_an_arg_may_be_quoted(quoted: str):
    assert list(review(f"FROM a\nARG {quoted}\n", A="1").unused_arguments()) == []


@pytest.mark.parametrize("quoted", [f'"BASE={BUILT}"', f"'BASE={BUILT}'", f'BASE="{BUILT}"', f'"BASE"={BUILT}'])
def test_the_default_of_a_quoted_arg_counts(quoted: str):
    with pytest.raises(DockerfileFault) as caught:
        review(f"ARG {quoted}\nFROM $BASE\n").refuse()
    assert f'image "{BUILT}"' in caught.value.fault.meaning


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("FROM a AS Build\nFROM b\nCOPY --chown=0 --from=biuld /a /b\n", "build"),
        ("FROM a AS build\nFROM b AS other\nFROM Biuld\n", "build"),
        ("FROM a AS build\nFROM b\nCOPY --from=build /a /b\n", ""),
        ("FROM a AS build\nFROM b\nCOPY --from=0 /a /b\n", ""),
        ("FROM a AS build\nFROM b\nCOPY --from=build:1 /a /b\n", ""),
        ("FROM a AS build\nFROM b\nRUN --from=biuld\n", ""),
        ("FROM a\nFROM b\nFROM biuld AS build\n", ""),
        ("FROM a\nFROM b\nCOPY biuld build\n", ""),
    ],
)
def test_a_stage_may_be_meant_where_an_image_is_named_almost_so(text: str, meant: str):
    assert review(text).meant_stage(3) == meant
