"""What is a secret, and how it is masked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_enclave.plan.futures import Future
from pytest_enclave.plan.instruction import Plan
from pytest_enclave.plan.record import Origin, Outcome, Step
from pytest_enclave.plan.values import Struct, Value, to_repr
from pytest_enclave.report.masking import MASK, Secrets, is_secret_name, shown_arguments
from pytest_enclave.source import Location
from tests.report.samples import REQUEST, call, request

HERE = Location("main.star", 1, 1)


def service(name: str, image: str, **env_vars: str) -> Value:
    config = Struct("ServiceConfig", {"image": image, "env_vars": env_vars})
    return call("add_service", HERE, name=name, config=config)


@pytest.mark.parametrize(
    "name",
    [
        "API_KEY",
        "KEY",
        "apikey",
        "PGPASSWORD",
        "POSTGRES_PASSWORD",
        "accessToken",
        "AWS_SECRET_ACCESS_KEY",
        "GH_TOKENS",
        "extract.token",
        "credentials",
        "MYSQL_ROOT_PASSWD",
        "SSH_KEYS",
        "my-secret",
    ],
)
def test_secret_names(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["KEYBOARD", "MONKEY", "KEYSPACE", "TOKENIZER", "SECRETARY", "USER", "PASSAGE", ""])
def test_ordinary_names(name: str) -> None:
    assert not is_secret_name(name)


def test_secrets_of_a_plan_are_those_of_its_services_and_tasks() -> None:
    batch = {"cache": Struct("ServiceConfig", {"image": "redis", "env_vars": {"REDIS_PASSWORD": "tell-nobody"}})}
    plan = Plan(
        (
            service("db", "postgres:16", POSTGRES_PASSWORD="correct-horse", POSTGRES_USER="application"),
            call("add_services", HERE, configs=batch),
            call("run_sh", HERE, run="x", env_vars={"TOKEN": "a1b2c3d4e5"}),
        )
    )
    assert Secrets.of_plan(plan).texts == {"correct-horse", "tell-nobody", "a1b2c3d4e5"}


@pytest.mark.parametrize("value", ["", "abc", "true", "None", "postgres", "docker.io/library/postgres:16", "db-main"])
def test_values_that_are_nobodys_secret(value: str) -> None:
    plan = Plan((service("db-main", "docker.io/library/postgres:16", POSTGRES_PASSWORD=value),))
    assert Secrets.of_plan(plan).texts == frozenset()


def test_short_secrets_are_masked_as_whole_words_only() -> None:
    secrets = Secrets(frozenset({"pass"}))
    assert secrets.mask("password=pass, pass; bypass pass_x") == f"password={MASK}, {MASK}; bypass {MASK}_x"


def test_long_secrets_are_masked_wherever_they_occur() -> None:
    assert Secrets(frozenset({"hunter2222"})).mask("xhunter2222y") == f"x{MASK}y"


def test_the_longer_of_two_secrets_is_masked_whole() -> None:
    assert Secrets(frozenset({"longsecret", "longsecretindeed"})).mask("longsecretindeed") == MASK


def test_a_secret_of_several_lines_is_masked_line_by_line() -> None:
    secrets = Secrets(frozenset({"BEGIN PRIVATE\nabcdefgh\nEND PRIVATE"}))
    assert secrets.mask("line abcdefgh here") == f"line {MASK} here"


def test_nothing_to_hide_changes_nothing() -> None:
    assert Secrets().mask("any text") == "any text"
    assert Secrets() | Secrets(frozenset({"secret-1"})) == Secrets(frozenset({"secret-1"}))


def test_a_secret_known_only_after_execution_is_masked_once_it_is_known() -> None:
    reference = str(Future(REQUEST, "extract.session"))
    plan = Plan((service("api", "api:1", SESSION_TOKEN=f"prefix-of-it:{reference}"),))
    secrets = Secrets.of_plan(plan)
    assert secrets.mask("prefix-of-it:abcdefgh") == f"{MASK}abcdefgh"
    step = Step(request(), Outcome.EXECUTED, 0.1)
    known = secrets.with_origins([Origin("extract.session", "abcdefgh", step), Origin("code", "public-value", step)])
    assert known.mask("abcdefgh public-value") == f"{MASK} public-value"


def test_secrets_in_sources_are_found_by_their_names_in_capitals() -> None:
    source = """image = "postgres:16", env_vars = {"DB_PASSWORD": 'opensesame', "POSTGRES_PASSWORD": "postgres",
    "key": ".items", "USER": "somebody"}"""
    assert Secrets.of_sources({"main.star": source}).texts == {"opensesame"}


@given(secret=st.text(min_size=8, max_size=30).filter(lambda text: len(text.strip()) >= 8), around=st.text(max_size=20))
def test_a_secret_is_masked_in_every_form_it_is_written_in(secret: str, around: str) -> None:
    secrets = Secrets.of_plan(Plan((call("run_sh", HERE, env_vars={"API_TOKEN": secret}),)))
    if secret in secrets.texts:
        for text in (around + secret + around, to_repr({"x": secret}), to_repr(json.dumps(secret, ensure_ascii=False))):
            assert secret not in secrets.mask(text) or secret in MASK


def with_image(image: Struct, name: str = "api") -> Plan:
    config = Struct("ServiceConfig", {"image": image})
    return Plan((call("add_service", HERE, name=name, config=config),))


def test_the_password_of_an_image_spec_is_a_secret() -> None:
    fields = {"image": "r.example/shop/api:1", "registry": "r.example", "username": "annabel", "password": "hunter22"}
    image = Struct("ImageSpec", fields)
    secrets = Secrets.of_plan(with_image(image))
    assert secrets.mask(to_repr(image)) == (
        'ImageSpec(image = "r.example/shop/api:1", registry = "r.example", username = "annabel", password = "••••")'
    )
    task = call("run_sh", HERE, run="true", image=image)
    assert Secrets.of_instructions([task]).mask("hunter22") == MASK


def test_build_arguments_are_masked_as_environment_variables_are() -> None:
    arguments = {"NPM_TOKEN": "hunter22", "VERSION": "1.22.333"}
    image = Struct("ImageBuildSpec", {"image_name": "shop/api", "build_args": arguments})
    assert Secrets.of_plan(with_image(image)).texts == {"hunter22"}


def test_the_name_of_a_built_image_is_a_noun_of_reports() -> None:
    image = Struct("ImageBuildSpec", {"image_name": "shop/frontend", "build_args": {"DB_PASSWORD": "frontend"}})
    assert Secrets.of_plan(with_image(image)).texts == frozenset()


def test_a_password_in_a_source_that_yields_no_plan_is_masked() -> None:
    source = 'ImageSpec(image = "shop/api", username = "annabel", password = "hunter22", registry = 7)'
    assert Secrets.of_sources({"main.star": source}).mask(source) == source.replace("hunter22", MASK)


@pytest.mark.parametrize(
    ("user", "secrets"),
    [
        ("me:hunter22", {"hunter22"}),
        ("me:p%40ss%2Fw0rd", {"p%40ss%2Fw0rd", "p@ss/w0rd"}),
        ("me:hun@ter22", {"hun@ter22"}),
        ("ghp_0123456789", {"ghp_0123456789"}),
        ("ghp_0123456789:", {"ghp_0123456789"}),
        ("ghp_0123456789:x-oauth-basic", {"ghp_0123456789"}),
        ("x-access-token:ghp_0123456789", {"ghp_0123456789"}),
        ("glpat%2d0123456789", {"glpat%2d0123456789", "glpat-0123456789"}),
        ("git", set()),
    ],
)
def test_the_secret_in_a_url_is_its_password_or_a_name_without_one(user: str, secrets: set[str]) -> None:
    upload = call("upload_files", HERE, src=f"HTTPS://{user}@host.example/x@y.tar")
    assert Secrets.of_instructions([upload]).texts == secrets
    source = f'plan.upload_files("https://{user}@host.example/x@y.tar")'
    assert Secrets.of_sources({"main.star": source}).texts == secrets


@pytest.mark.parametrize(
    "src",
    ["https://host.example/someone@else", "https://host.example?to=someone@else", "https://host.example:8443/x",
     "git@github.com:someone/shop", "ssh://someone@host.example/x", "./somewhere@else"],
)  # fmt: skip
def test_other_names_before_an_at_sign_are_none(src: str) -> None:
    assert Secrets.of_instructions([call("upload_files", HERE, src=src)]).texts == frozenset()
    assert Secrets.of_sources({"main.star": f'plan.upload_files("{src}")'}).texts == frozenset()


def test_names_of_other_kinds_of_urls_and_templates_of_urls_in_sources_stay_readable() -> None:
    source = """"postgres://postgres@db/x", "https://{password}@host".format(password = 1), see https://x.y "a@b" """
    assert Secrets.of_sources({"main.star": source}).mask(source) == source


@pytest.mark.parametrize("shown", ["tok%2den%3D0123", "tok-en=0123", "tok-en%3D0123"])
def test_a_token_in_a_url_is_masked_encoded_and_decoded(shown: str) -> None:
    upload = call("upload_files", HERE, src="https://tok%2den%3D0123@host.example/x")
    assert Secrets.of_instructions([upload]).mask(f"with {shown}.") == f"with {MASK}."


def test_arguments_are_shown_without_what_their_names_or_urls_tell_to_be_secret() -> None:
    given = {
        "replicas": 3,
        "password": "correct-horse",
        "nested": [{"apiToken": "t0ken", "tokens": ["a", "b"], "key": ""}],
        "db": "postgres://shop:hunter2@db/shop",
        "git": "https://ghp_0123456789@github.com/a/b",
    }
    assert json.loads(shown_arguments(json.dumps(given))) == {
        "replicas": 3,
        "password": "••••",
        "nested": [{"apiToken": "••••", "tokens": "••••", "key": ""}],
        "db": "postgres://shop:••••@db/shop",
        "git": "https://••••@github.com/a/b",
    }
