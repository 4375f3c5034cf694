"""What an image is called on engines, and what else is needed to have it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from pytest_enclave.plan.canonical import identity_text
from pytest_enclave.plan.image_sources import (
    ANY_IMAGE,
    Build,
    Flake,
    Login,
    image_name,
    image_source,
    image_title,
    reserved_name,
    wrong_image_spec,
)
from pytest_enclave.plan.service import ServiceConfig
from pytest_enclave.plan.values import Struct, to_canonical, to_repr, written

BUILD = Build("Shop/API:1.2", "/p/images/api", "images/api", "Dockerfile", "", {"A": "1"}, "f" * 64)

BUILT_HERE = "so begin names of images that are built here from a Dockerfile"


def spec(image: str, **fields: str) -> Struct:
    return Struct("ImageSpec", {"image": image, **fields})


def build_spec(**fields: Any) -> Struct:
    context = {"directory": "/p/images/api", "place": "images/api", "digest": "f" * 64}
    given = {"image_name": "Shop/API:1.2", "build_context_dir": "./images/api", "build_args": {"A": "1"}}
    return Struct("ImageBuildSpec", {**given, ".context": context, **fields})


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("redis:7", "redis:7"),
        (spec("redis:7"), "redis:7"),
        (spec("shop/api:1", registry="registry.example:5000"), "registry.example:5000/shop/api:1"),
        (spec("shop/api:1", registry="https://registry.example/v2/"), "registry.example/shop/api:1"),
        (spec("registry.example/shop/api:1", registry="http://registry.example"), "registry.example/shop/api:1"),
        (spec("shop/api:1", registry="docker.io"), "shop/api:1"),
        (spec("shop/api:1", registry="https://index.docker.io/v1/"), "shop/api:1"),
        (Struct("NixBuildSpec", {"image_name": "api:nix", "flake_location_dir": "."}), "api:nix"),
        (build_spec(), BUILD.name),
    ],
)
def test_every_image_has_one_name_on_engines(image: Any, name: str):
    assert image_name(image) == name


def test_a_built_image_is_told_by_the_name_that_the_package_gives_it():
    assert image_title(build_spec()) == "Shop/API:1.2"
    assert image_title(spec("shop/api:1", registry="registry.example")) == "registry.example/shop/api:1"
    assert image_title("redis:7") == "redis:7"


def test_credentials_are_those_of_the_registry_that_the_image_is_in():
    told = {"username": "ann", "password": "s3cret"}
    assert image_source(spec("shop/api", **told)) == Login("docker.io", "ann", "s3cret")
    assert image_source(spec("shop/api", registry="r.example", **told)) == Login("r.example", "ann", "s3cret")
    assert image_source(spec("localhost/api", **told)) == Login("localhost", "ann", "s3cret")
    assert image_source(spec("shop/api")) is None
    assert image_source("redis:7") is None
    assert "s3cret" not in repr(image_source(spec("shop/api", **told)))


@pytest.mark.parametrize(
    ("fields", "findings"),
    [
        ({"image": "a", "username": "ann"}, {"username": "is of no use without `password`"}),
        ({"image": "a", "password": "s3cret"}, {"password": "is of no use without `username`"}),
        (
            {"image": "one.example/a", "registry": "https://two.example/"},
            {"registry": "is `two.example`, but `image` names the registry `one.example`"},
        ),
        (
            {"image": "docker-archive:a.tar"},
            {"image": "is a file, and an ImageSpec is about an image of a registry: write the name itself"},
        ),
        (
            {"image": "pytest-enclave-build/a:1"},
            {"image": "must not begin with `pytest-enclave-build/`: " + BUILT_HERE},
        ),
        (
            {"image": "library/pytest-enclave-step:1", "registry": "https://index.docker.io/v1/"},
            {"image": "must not begin with `pytest-enclave-step`: " + BUILT_HERE},
        ),
        ({"image": "pytest-enclave-build/a:1", "registry": "one.example"}, {}),
        ({"image": "one.example/a", "registry": "one.example/team"}, {}),
        ({"image": "a", "registry": "one.example", "username": "ann", "password": "s3cret"}, {}),
    ],
)
def test_what_does_not_fit_together_is_told(fields: dict[str, str], findings: dict[str, str]):
    assert wrong_image_spec(fields) == findings


def test_a_build_is_what_the_spec_says():
    assert image_source(build_spec()) == BUILD
    found = image_source(build_spec(build_file="./docker/../Api.dockerfile", target_stage="run", build_args={}))
    assert found == replace(BUILD, build_file="Api.dockerfile", target="run", arguments={})


def test_a_flake_is_what_nix_would_build():
    assert image_source(Struct("NixBuildSpec", {"image_name": "a", "flake_location_dir": "./f"})) == Flake("./f")


def test_the_name_of_a_built_image_is_its_own():
    assert BUILD.name == f"pytest-enclave-build/shop-api-1-2:{BUILD.key}"
    assert len(BUILD.key) == 32
    assert replace(BUILD, title="///").name == f"pytest-enclave-build/image:{BUILD.key}"
    assert len(replace(BUILD, title="a" * 500).name) < 200


def test_whatever_goes_into_an_image_is_in_its_key():
    others = [
        replace(BUILD, digest="e" * 64),
        replace(BUILD, build_file="Other"),
        replace(BUILD, target="run"),
        replace(BUILD, arguments={"A": "2"}),
        replace(BUILD, arguments={"A": "1", "B": ""}),
        replace(BUILD, arguments={}, target="A=1"),
    ]
    assert len({BUILD.key, *(other.key for other in others)}) == len(others) + 1


def test_where_the_context_lies_and_what_it_is_called_are_not_in_its_key():
    assert replace(BUILD, directory="/elsewhere", place=".", title="other").key == BUILD.key
    assert replace(BUILD, arguments={"A": "1", "B": "2"}).key == replace(BUILD, arguments={"B": "2", "A": "1"}).key


def test_a_service_has_the_name_and_the_source():
    config = ServiceConfig.of(Struct("ServiceConfig", {"image": build_spec()}))
    assert (config.image, config.image_source) == (BUILD.name, BUILD)
    plain = ServiceConfig.of(Struct("ServiceConfig", {"image": "redis:7"}))
    assert (plain.image, plain.image_source) == ("redis:7", None)


@pytest.mark.parametrize("image", ["redis:7", spec("a"), build_spec()])
def test_an_image_may_be_a_name_or_a_spec(image: Any):
    assert list(ANY_IMAGE(image)) == []


RESERVED = [
    ("pytest-enclave-build/shop:1", "pytest-enclave-build/"),
    ("docker.io/pytest-enclave-build/shop:1", "pytest-enclave-build/"),
    ("registry-1.docker.io/library/pytest-enclave-build/shop:1", "pytest-enclave-build/"),
    ("pytest-enclave-step:1", "pytest-enclave-step"),
    ("index.docker.io/library/pytest-enclave-step@sha256:1", "pytest-enclave-step"),
]


@pytest.mark.parametrize(("image", "prefix"), RESERVED)
def test_no_package_calls_an_image_as_builds_do(image: str, prefix: str):
    assert reserved_name(image) == prefix
    assert list(ANY_IMAGE(image)) == [("", f"must not begin with `{prefix}`: {BUILT_HERE}")]
    assert not ANY_IMAGE.accepts(image)


@pytest.mark.parametrize("image", ["pytest-enclave-build", "a/pytest-enclave-step", "r.example/pytest-enclave-build/a"])
def test_names_that_are_only_similar_are_free(image: str):
    assert reserved_name(image) == ""
    assert ANY_IMAGE.accepts(image)


@pytest.mark.parametrize("image", ["", 7, None, Struct("PortSpec", {"number": 1})])
def test_nothing_else_is_an_image(image: Any):
    ((_, reason),) = ANY_IMAGE(image)
    assert reason.startswith("must be the name of an image, or one of ImageSpec, ImageBuildSpec, NixBuildSpec, not ")


def test_what_interpretation_added_is_not_shown():
    shown = 'ImageBuildSpec(image_name = "a", build_context_dir = ".")'
    value = Struct("ImageBuildSpec", {"image_name": "a", "build_context_dir": ".", ".context": {"digest": "f"}})
    assert to_repr(value) == shown
    assert to_canonical(value) == shown.replace(" = ", "=")
    assert list(written(value)) == ["image_name", "build_context_dir"]


def test_fields_of_plain_structs_are_all_shown():
    value = Struct("struct", {".a": 1, "": 2})
    assert written(value) == {".a": 1, "": 2}
    assert to_canonical(value) == "struct(=2, .a=1)"


def test_credentials_are_no_part_of_what_an_instruction_is():
    with_login = spec("shop/api", registry="r.example", username="ann", password="s3cret")
    assert identity_text(with_login, {}) == 'ImageSpec(image="shop/api", registry="r.example")'
