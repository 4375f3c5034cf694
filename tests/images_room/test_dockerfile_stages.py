"""Stages of Dockerfiles, and what their instructions make of an image's configuration."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_enclave.images.dockerfile.configuration import Configuration
from pytest_enclave.images.dockerfile.stages import DockerfileFault, Stages, Step, stages_of
from pytest_enclave.images.dockerfile.syntax import parse
from pytest_enclave.images.faults import ImageFault

BASE = {
    "architecture": "arm64",
    "variant": "v8",
    "history": ["of no use"],
    "config": {"Env": ["PATH=/bin", "A=1"], "Cmd": ["serve"], "User": "7", "Labels": {"x": "y"}, "OnBuild": None},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:1"]},
}


def read(text: str) -> Stages:
    return stages_of(parse(text))


def configured(text: str, base: Any = None, given: Any = None, known: Any = None) -> Configuration:
    (stage,) = read(f"FROM base\n{text}").stages
    found = Configuration(base and json.dumps(base).encode(), given or {}, known or {}, "\\")
    for step in stage.steps:
        found.apply(step)
    return found


def test_stages_have_a_base_a_name_and_their_steps():
    found = read(
        "ARG V=1\nFROM a:$V AS One\nRUN x\nFROM --platform=linux/amd64 one\nCOPY --from=one --chown=a:b /x y\n"
    )
    assert [(stage.base, stage.name, stage.platform) for stage in found.stages] == [
        ("a:$V", "one", ""),
        ("one", "", "linux/amd64"),
    ]
    assert found.arguments == (Step(1, "ARG", "V=1"),)
    assert found.stages[1].steps == (Step(5, "COPY", "/x y", {"from": "one", "chown": "a:b"}),)
    assert str(found.stages[1].steps[0]) == "COPY --from=one --chown=a:b /x y"


def test_stages_are_found_by_name_or_number():
    found = read("FROM a AS x\nFROM b\nFROM c AS x\n")
    assert [found.find(name) for name in ("X", "1", "3", "a", "")] == [2, 1, None, None, None]


def test_lists_are_told_from_text():
    steps = read('FROM a\nCMD ["x", "y z"]\nCMD [ x ]\nCOPY ["a b", "c"]\n').stages[0].steps
    assert [step.argv for step in steps] == [("x", "y z"), None, ("a b", "c")]


@pytest.mark.parametrize(
    ("text", "line", "meaning"),
    [
        ("", 1, "there is no `FROM` in it"),
        ("\nRUN x\nFROM a", 2, "no stage begins before it"),
        ("FROM a\n\nONBUILD RUN x", 3, "`ONBUILD` is not supported"),
        ("FROM a\nRUNN x", 2, "unknown instruction: RUNN"),
        ("FROM a\nRUN --network=none x", 2, "`RUN --network` is not supported"),
        ("FROM a\nADD --checksum=x y /", 2, "`ADD --checksum` is not supported"),
        ("FROM a\nCOPY <<A /x\nA", 2, "`COPY <<` is not supported"),
        ("FROM a\nENV", 2, "`ENV` needs an argument"),
        ("FROM a AS", 1, "`FROM a AS` is not understood"),
    ],
)
def test_what_is_not_known_is_told_with_its_line(text: str, line: int, meaning: str):
    with pytest.raises(DockerfileFault) as caught:
        read(text)
    assert (caught.value.line, caught.value.fault.meaning) == (line, meaning)


def test_an_image_begins_as_its_base_is():
    document = json.loads(configured("", BASE).document)
    assert document["config"] == {"Env": ["PATH=/bin", "A=1"], "Cmd": ["serve"], "User": "7", "Labels": {"x": "y"}}
    assert (document["architecture"], document["variant"], document["os"]) == ("arm64", "v8", "linux")
    assert document["rootfs"] == {"type": "layers", "diff_ids": ["sha256:1"]}
    assert "history" not in document


def test_variables_are_those_before_the_instruction():
    found = configured('ENV A=2 B=$A\nENV C="$A $B"\nENV D the rest of $A\nENV E=a\\ b', BASE)
    assert found.environment == {"PATH": "/bin", "A": "2", "B": "1", "C": "2 1", "D": "the rest of 2", "E": "a b"}


def test_arguments_are_known_from_where_they_stand():
    given = {"GIVEN": "g", "http_proxy": "p", "STRANGE": "s"}
    found = configured(
        "ARG GIVEN=default\nARG PLAIN=1 MORE=2\nARG NOTHING\nARG BEFORE\nENV MORE=env", BASE, given, {"BEFORE": "b"}
    )
    assert found.arguments == {"http_proxy": "p", "GIVEN": "g", "PLAIN": "1", "BEFORE": "b"}
    assert found.variables["MORE"] == "env"


@pytest.mark.parametrize(
    ("text", "entrypoint", "cmd"),
    [
        ("CMD x y", None, ["/bin/sh", "-c", "x y"]),
        ('CMD ["x"]', None, ["x"]),
        ('ENTRYPOINT ["e"]', ["e"], None),
        ('CMD ["x"]\nENTRYPOINT ["e"]', ["e"], ["x"]),
        ('ENTRYPOINT ["e"]\nCMD ["x"]', ["e"], ["x"]),
        ("ENTRYPOINT []\nCMD []", None, None),
        ('SHELL ["sh", "-e"]\nENTRYPOINT e', ["sh", "-e", "e"], None),
        ("", None, ["serve"]),
    ],
)
def test_commands(text: str, entrypoint: list[str] | None, cmd: list[str] | None):
    inner = json.loads(configured(text, BASE).document)["config"]
    assert (inner.get("Entrypoint"), inner.get("Cmd")) == (entrypoint, cmd)


def test_directories_are_relative_to_the_one_before():
    found = configured("WORKDIR /a\nENV D=x\nWORKDIR $D/y\nWORKDIR ..")
    assert found.directory == "/a/x"
    assert [found.path(word) for word in ("b", "b/", "/c", "/c/", ".", "./", "/")] == [
        *("/a/x/b", "/a/x/b/", "/c", "/c/", "/a/x", "/a/x/", "/"),
    ]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("ENV A", "`ENV A`: there is no value"),
        ("ENV A=1 B", "`ENV A=1 B`: `B` has no value"),
        ("USER", None),
        ("USER a b", "`USER` takes one argument"),
        ("LABEL a=${B:?is wanted}", "`LABEL"),
    ],
)
def test_what_cannot_be_applied_is_told(text: str, meaning: str | None):
    with pytest.raises((ImageFault, DockerfileFault)) as caught:
        configured(text)
    if meaning and not meaning.startswith("`LABEL"):
        assert str(caught.value) == meaning


@pytest.mark.parametrize("name", ["²", "٣", "9" * 5000, "-0", "1"])
def test_only_digits_are_the_number_of_a_stage(name: str):
    assert stages_of(parse("FROM a\n")).find(name) is None
    assert stages_of(parse("FROM a\n")).find("0") == 0


def test_a_list_without_a_command_is_refused():
    with pytest.raises(DockerfileFault) as caught:
        stages_of(parse("FROM a\n\nRUN []\n"))
    assert (caught.value.line, caught.value.fault.meaning) == (3, "`RUN []` names no command")
    assert caught.value.fault.remedy == 'write `RUN ["program", "argument"]`'
    assert stages_of(parse("FROM a\nCMD []\n")).stages[0].steps[0].argv == ()
