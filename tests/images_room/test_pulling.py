"""Pulling from a registry: permissions, platforms, trouble on the way, and what is told of it."""

from __future__ import annotations

import base64
import json
import os
import platform
import subprocess
import threading
import time
from pathlib import Path

import pytest

from pytest_enclave.engine.protocol import PullPolicy
from pytest_enclave.errors import Problem
from pytest_enclave.images.patience import Patience
from pytest_enclave.plan.events import ImageProgress, Warned, silent
from tests.images_room.builder import ARCHITECTURE, Built, digest_of, entry, folder, gzipped, tar
from tests.images_room.conftest import QUICK
from tests.images_room.fake_registry import fake_registry

DOCKER = "application/vnd.docker"

BASE = tar(folder("./"), entry("base", os.urandom(200_000)))
IMAGE = Built([BASE, tar(entry("top", b"top"))])


def resolve(sources, reference, policy=PullPolicy.MISSING, emit=silent):
    return sources.resolve([reference], policy, emit)[reference]


def problem(sources, reference, policy=PullPolicy.MISSING) -> Problem:
    found = resolve(sources, reference, policy)
    assert isinstance(found, Problem), found
    assert found.subject == reference
    return found


def leftovers(store) -> list[str]:
    root = Path(store.layers.path("sha256:" + 64 * "0")).parents[1]
    return [path.name for path in (*root.glob("layers/*.*"), *root.glob("work/*"), *root.glob("blobs/*"))]


def test_a_missing_image_is_pulled_and_progress_is_told(sources, store, registry):
    reference = registry.push("shop/api:1", IMAGE)
    events = []
    assert resolve(sources(), reference, emit=events.append) == IMAGE.id
    image = store.find(reference)
    assert [sorted(os.listdir(layer)) for layer in image.layers] == [["base"], ["top"]]
    assert events[-1] == ImageProgress(reference, 0, 0, done=True)
    assert events[0].total == sum(len(gzipped(layer)) for layer in IMAGE.layers)
    assert 0 < events[0].current <= events[0].total
    assert leftovers(store) == []


def test_what_is_there_is_not_asked_for_again(sources, registry):
    reference = registry.push("shop/api:1", IMAGE)
    resolve(sources(), reference)
    registry.asked.clear()
    assert resolve(sources(), reference) == IMAGE.id
    assert registry.asked == []


def test_always_asks_and_downloads_only_what_changed(sources, registry):
    reference = registry.push("shop/api:1", IMAGE)
    resolve(sources(), reference)
    newer = Built([BASE, tar(entry("top", b"newer"))])
    registry.push("shop/api:1", newer)
    registry.asked.clear()
    assert resolve(sources(), reference, PullPolicy.ALWAYS) == newer.id
    assert registry.count(digest_of(gzipped(BASE))) == 0
    assert resolve(sources(), reference, PullPolicy.NEVER) == newer.id


def test_always_makes_do_with_the_old_image_where_there_is_no_new_one(sources, registry):
    reference = registry.push("shop/api:1", IMAGE)
    resolve(sources(), reference)
    registry.refuse = (429, "TOOMANYREQUESTS", "slow down")
    events = []
    assert resolve(sources(), reference, PullPolicy.ALWAYS, events.append) == IMAGE.id
    (warning,) = [event.problem for event in events if isinstance(event, Warned)]
    assert "the registry's pull rate limit is reached" in warning.message
    assert warning.message.endswith("the image that the engine already has is used")
    assert warning.severity == "warning"


def test_an_image_that_may_not_be_pulled_is_a_problem_that_names_similar_ones(sources, registry):
    reference = registry.push("shop/api:1", IMAGE)
    resolve(sources(), reference)
    wrong = f"{registry.address}/shop/api:2"
    found = problem(sources(), wrong, PullPolicy.NEVER)
    assert found.message == f'image "{wrong}" is not on the engine, and pulling is off; the engine has {reference}'


def test_several_images_are_pulled_at_once_and_a_shared_layer_once(sources, registry):
    images = {f"shop/{number}:1": Built([BASE, tar(entry(str(number)))]) for number in range(6)}
    references = [registry.push(name, image) for name, image in images.items()]
    found = sources().resolve([*references, *references], PullPolicy.MISSING, silent)
    assert found == {name: image.id for name, image in zip(references, images.values(), strict=True)}
    assert registry.count(digest_of(gzipped(BASE))) == 1


def test_by_digest(sources, registry):
    registry.push("shop/api:1", IMAGE)
    reference = f"{registry.address}/shop/api@{digest_of(IMAGE.manifest)}"
    assert resolve(sources(), reference) == IMAGE.id
    assert resolve(sources(), f"{registry.address}/shop/api:7@{digest_of(IMAGE.manifest)}") == IMAGE.id


def test_a_manifest_that_is_not_what_its_digest_says(sources, registry):
    digest = "sha256:" + 64 * "0"
    registry.manifests[f"shop/api/{digest}"] = (IMAGE.manifest, IMAGE.manifest_type)
    found = problem(sources(), f"{registry.address}/shop/api@{digest}")
    assert (
        "a document of it is not what its digest sha256:000000000000… says: damaged, or tampered with" in found.message
    )


@pytest.mark.parametrize("compress", [bytes, gzipped, lambda data: zstd(data)], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("family", ["oci", "docker"])
def test_all_formats(sources, registry, compress, family):
    image = Built([BASE], compress=compress)
    if family == "docker":
        image.manifest_type = f"{DOCKER}.distribution.manifest.v2+json"
        image.config_type = f"{DOCKER}.container.image.v1+json"
        image.layer_type = f"{DOCKER}.image.rootfs.diff.tar.gzip"
    assert resolve(sources(), registry.push("shop/api:1", image)) == image.id


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q"], input=data, capture_output=True, check=True).stdout


# Platforms


@pytest.mark.parametrize(
    ("machine", "chosen"),
    [("x86_64", "amd64"), ("aarch64", "arm64/v8"), ("armv7l", "arm/v7"), ("armv6l", "arm/v6"), ("s390x", "s390x")],
)
def test_the_build_for_this_machine_is_chosen(sources, registry, monkeypatch, machine, chosen):
    builds = {
        key: Built([tar(entry("/".join(key)))], architecture=key[0])
        for key in [("arm", "v6"), ("arm", "v7"), ("amd64", "v3"), ("amd64",), ("arm64", "v8"), ("s390x",)]
    }
    reference = registry.push_index("shop/api:1", builds)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert resolve(sources(), reference) == builds[tuple(chosen.split("/"))].id


def test_no_build_for_this_machine(sources, registry):
    reference = registry.push_index("shop/api:1", {("mips", "softfloat"): Built([BASE], architecture="mips")})
    found = problem(sources(), reference)
    told = f"there is no build of it for this engine's platform (linux/{ARCHITECTURE}); there is linux/mips/softfloat"
    assert found.message == f'image "{reference}": {told}'
    assert found.remedy == "choose another tag or image that is built for it"


def test_a_single_build_for_another_machine(sources, registry):
    found = problem(sources(), registry.push("shop/api:1", Built([BASE], architecture="mips")))
    assert "there is no build of it for this engine's platform" in found.message


# Permission


def login(tmp_path: Path, config: object) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))


def password(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def test_a_token_for_everybody(sources, registry):
    registry.tokens = True
    reference = registry.push("shop/api:1", IMAGE)
    assert resolve(sources(), reference) == IMAGE.id
    assert registry.count("/token") == 1
    assert "scope=repository%3Ax%3Apull" in next(path for _, path, _ in registry.asked if "/token" in path)


@pytest.mark.parametrize("tokens", [True, False], ids=["bearer", "basic"])
def test_credentials_of_docker_login(sources, registry, tmp_path, tokens):
    registry.tokens, registry.password = tokens, "secret:with:colons"
    login(tmp_path, {"auths": {f"https://{registry.address}/v1/": password("me:secret:with:colons")}})
    assert resolve(sources(), registry.push("shop/api:1", IMAGE)) == IMAGE.id


@pytest.mark.parametrize("tokens", [True, False], ids=["bearer", "basic"])
def test_refused_credentials(sources, registry, tmp_path, tokens):
    registry.tokens, registry.password = tokens, "secret"
    login(tmp_path, {"auths": {registry.address: password("me:guess")}})
    found = problem(sources(), registry.push("shop/api:1", IMAGE))
    assert "its registry wants other credentials" in found.message
    assert found.remedy == "`docker login` to the image's registry"


def test_no_credentials_for_a_private_image(sources, registry):
    registry.tokens, registry.password = True, "secret"
    found = problem(sources(), registry.push("shop/api:1", IMAGE))
    assert "its registry has no such image, or does not let you see it" in found.message
    registry.tokens = False
    assert "its registry wants other credentials" in problem(sources(), f"{registry.address}/shop/api:1").message


def test_an_identity_token(sources, registry, tmp_path):
    registry.tokens, registry.refresh_token = True, "refresh"
    login(tmp_path, {"auths": {registry.address: {"identitytoken": "refresh"}}})
    assert resolve(sources(), registry.push("shop/api:1", IMAGE)) == IMAGE.id
    (form,) = [fields for method, _, fields in registry.asked if method == "POST"]
    assert form["service"] == "fake"


@pytest.mark.parametrize("key", ["credHelpers", "credsStore"])
def test_a_helper_program(sources, registry, tmp_path, monkeypatch, key):
    registry.password = "secret"
    program = tmp_path / "docker-credential-mine"
    program.write_text(f'#!/bin/sh\ncat > {tmp_path}/asked\necho \'{{"Username": "me", "Secret": "secret"}}\'\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    login(tmp_path, {key: "mine" if key == "credsStore" else {registry.address: "mine"}})
    assert resolve(sources(), registry.push("shop/api:1", IMAGE)) == IMAGE.id
    assert (tmp_path / "asked").read_text() == registry.address


def test_a_missing_helper_program_does_not_matter_for_a_public_image(sources, registry, tmp_path):
    login(tmp_path, {"credsStore": "nowhere-to-be-found"})
    assert resolve(sources(), registry.push("shop/api:1", IMAGE)) == IMAGE.id


def test_a_broken_configuration_is_told(sources, registry, tmp_path):
    login(tmp_path, "{")
    found = problem(sources(), registry.push("shop/api:1", IMAGE))
    assert f"{tmp_path}/docker/config.json is not JSON" in found.message


def test_credentials_do_not_follow_to_another_host(sources, registry, tmp_path):
    registry.password = "secret"
    login(tmp_path, {"auths": {registry.address: password("me:secret")}})
    with fake_registry() as storage:
        storage.blobs.update(IMAGE.blobs)
        reference = registry.push("shop/api:1", IMAGE)
        registry.storage = f"http://{storage.address}"
        assert resolve(sources(), reference) == IMAGE.id
        assert storage.asked
        assert all("Authorization" not in headers for _, _, headers in storage.asked)


# Refusals


@pytest.mark.parametrize(
    ("refusal", "told", "remedy"),
    [
        ((404, "MANIFEST_UNKNOWN", "manifest unknown"), "its registry has no such image or tag", "is the tag right?"),
        ((404, "NAME_UNKNOWN", "name unknown"), "its registry has no such image or tag", "is the tag right?"),
        (
            (403, "DENIED", "requested access to the resource is denied"),
            "its registry has no such image, or does not let you see it",
            "is the name right? If it is private: `docker login`",
        ),
        (
            (429, "TOOMANYREQUESTS", "You have reached your pull rate limit"),
            "the registry's pull rate limit is reached",
            "`docker login` has a higher one; a mirror has none",
        ),
        (
            (503, "UNAVAILABLE", "come back later"),
            "its registry cannot be reached (127.0.0.1:PORT: 503 come back later)",
            "is the network there? Offline, only images that the engine already has can be used",
        ),
        ((418, "TEAPOT", "short and stout"), "it cannot be pulled: 127.0.0.1:PORT answers 418 short and stout", ""),
    ],
)
def test_refusals_are_told_apart(sources, registry, refusal, told, remedy):
    registry.refuse = refusal
    reference = registry.push("shop/api:1", IMAGE)
    found = problem(sources(), reference)
    assert found.message == f'image "{reference}": {told.replace("127.0.0.1:PORT", registry.address)}'
    assert found.remedy == remedy


def test_a_registry_that_is_not_there_is_told_at_once(sources):
    begun = time.monotonic()
    found = problem(sources(), "127.0.0.1:1/shop/api:1")
    assert "its registry cannot be reached (127.0.0.1:1: connection refused)" in found.message
    found = problem(sources(), "registry.invalid/shop/api:1")
    assert "its registry cannot be reached (registry.invalid: no such host)" in found.message
    assert time.monotonic() - begun < 3


def test_plain_text_is_spoken_to_this_machine_only(sources, registry, monkeypatch):
    found = problem(sources(), f"{registry.address.replace('127.0.0.1', 'localhost.localdomain')}/shop/api:1")
    assert "its registry" in found.message
    assert registry.asked == []
    named = registry.push("shop/api:1", IMAGE).replace("127.0.0.1", "localhost")
    assert resolve(sources(), named) == IMAGE.id


def test_a_server_that_does_not_speak_tls_is_told(sources, registry, monkeypatch):
    monkeypatch.setattr("pytest_enclave.images.registry.is_loopback", lambda host: False)
    found = problem(sources(), registry.push("shop/api:1", IMAGE))
    assert f"its registry is not trusted ({registry.address}: " in found.message
    assert "SSL_CERT_FILE" in found.remedy


@pytest.mark.parametrize("reference", ["SHOP", "shop/", "a b", "-", "shop@sha256:12", "shop:", "x" * 300, "[::1/x"])
def test_what_is_no_name(sources, reference):
    found = problem(sources(), reference)
    assert found.message.startswith(f'image "{reference}": that is not the name of an image')


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"layer_type": f"{DOCKER}.image.rootfs.foreign.diff.tar.gzip"}, "may not be distributed"),
        ({"layer_type": "application/vnd.oci.image.layer.nondistributable.v1.tar"}, "may not be distributed"),
        ({"layer_type": "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"}, "a layer of it is encrypted"),
        ({"config_type": "application/vnd.cncf.helm.config.v1+json"}, "no image of a container, but application/vnd.c"),
    ],
)
def test_what_cannot_be_run(sources, registry, change, told):
    assert told in problem(sources(), registry.push("shop/api:1", Built([BASE], **change))).message


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        (b'{"schemaVersion": 1, "fsLayers": []}', "its manifest is of a format that was given up in 2017"),
        (b"<html>", "its manifest is not JSON"),
        (b"[]", "its manifest is not a JSON object"),
        (b"{}", "its manifest is malformed"),
        (b'{"config": {"digest": "sha256:1", "size": 1}}', "an entry has no valid digest"),
        (b'{"manifests": {}}', "its manifest is malformed"),
        (b'{"manifests": [1]}', "its manifest is malformed: an entry is not an object"),
        (b" " * (5 << 20), "answers with more than 4 MiB, which is the limit"),
    ],
)
def test_malformed_manifests(sources, registry, manifest, told):
    registry.manifests["shop/api/1"] = (manifest, "application/json")
    assert told in problem(sources(), f"{registry.address}/shop/api:1").message


def test_an_index_that_refers_to_itself_is_given_up(sources, registry):
    kind = "application/vnd.oci.image.index.v1+json"
    inner = IMAGE.manifest
    for _ in range(5):
        told = {"mediaType": kind, "digest": digest_of(inner), "size": len(inner)}
        platform_told = {"os": "linux", "architecture": ARCHITECTURE}
        inner = json.dumps({"mediaType": kind, "manifests": [{**told, "platform": platform_told}]}).encode()
        registry.manifests[f"shop/api/{digest_of(inner)}"] = (inner, kind)
    registry.manifests["shop/api/1"] = (inner, kind)
    assert "its indexes are nested too deep" in problem(sources(), f"{registry.address}/shop/api:1").message


# Trouble on the way


def test_passing_trouble_is_waited_for(sources, registry):
    reference = registry.push("shop/api:1", IMAGE)
    registry.trouble = [(503, {}), (429, {"Retry-After": "0"}), (502, {})]
    assert resolve(sources(), reference) == IMAGE.id
    assert registry.trouble == []


def test_a_broken_download_goes_on_where_it_broke(sources, registry):
    reference = registry.push("shop/api:1", Built([BASE]))
    registry.break_after = 90_000
    assert resolve(sources(), reference) == Built([BASE]).id
    blob = digest_of(gzipped(BASE))
    asked = [headers.get("Range", "") for _, path, headers in registry.asked if blob in path]
    assert asked == ["", "bytes=90000-", "bytes=180000-"]


def test_a_registry_without_ranges_begins_anew(sources, registry):
    reference = registry.push("shop/api:1", Built([BASE]))
    registry.ranges, registry.break_after = False, 90_000
    source = sources()
    threading.Timer(0.03, lambda: setattr(registry, "break_after", 0)).start()
    assert resolve(sources(patience=Patience(5, 10, 0.02, 0.05)), reference) == source.store.find(reference).digest


def test_the_next_pull_goes_on_where_the_last_one_was_given_up(sources, registry):
    reference = registry.push("shop/api:1", Built([BASE]))
    registry.break_after = 90_000
    once = Patience(stall=5, tries=1, pause=0.01, longest=0.01)
    assert "its registry cannot be reached" in problem(sources(patience=once), reference).message
    registry.break_after = 0
    registry.asked.clear()
    assert resolve(sources(), reference) == Built([BASE]).id
    (asked,) = [h.get("Range") for _, path, h in registry.asked if digest_of(gzipped(BASE)) in path]
    assert asked == "bytes=90000-"


def test_a_spoiled_beginning_is_thrown_away(sources, registry, store):
    reference = registry.push("shop/api:1", Built([BASE]))
    store.prepare()
    packed = digest_of(gzipped(BASE))
    store.layers.blob(digest_of(BASE), packed).write_bytes(b"x" * 1000)
    assert resolve(sources(), reference) == Built([BASE]).id
    assert registry.count(packed) == 2


def test_a_spoiled_blob_is_told(sources, registry, store):
    reference = registry.push("shop/api:1", Built([BASE]))
    packed = gzipped(BASE)
    registry.blobs[digest_of(packed)] = packed[:-1] + b"x"
    assert "is not what its digest says: damaged, or tampered with" in problem(sources(), reference).message
    registry.blobs[digest_of(packed)] = packed + b"x"
    assert f"is longer than the {len(packed)} bytes it should have" in problem(sources(), reference).message
    assert store.find(reference) is None


def test_a_pull_that_stands_still_is_given_up(sources, registry):
    registry.stall, registry.break_after = True, 50_000
    reference = registry.push("shop/api:1", Built([BASE]))
    begun = time.monotonic()
    found = problem(sources(patience=Patience(stall=0.3)), reference)
    assert f"({registry.address}: the pull stands still for 0.3s)" in found.message
    assert time.monotonic() - begun < 5


def test_an_interrupt_ends_a_pull(sources, registry, monkeypatch):
    registry.stall, registry.break_after = True, 50_000
    reference = registry.push("shop/api:1", Built([BASE]))

    def interrupt(event) -> None:
        raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        sources(patience=QUICK).resolve([reference], PullPolicy.MISSING, interrupt)
    assert time.monotonic() - begun < 2


# Mirrors


def test_a_mirror_is_asked_first_for_names_without_a_registry(sources, registry, store):
    registry.push("hub/nginx:1", IMAGE)
    assert resolve(sources(mirror=f"{registry.address}/hub/"), "nginx:1") == IMAGE.id
    assert store.find("docker.io/library/nginx:1").digest == IMAGE.id


def test_a_mirror_is_not_asked_for_other_names(sources, registry):
    reference = registry.push("shop/api:1", IMAGE)
    assert resolve(sources(mirror="127.0.0.1:1"), reference) == IMAGE.id


def test_what_the_mirror_does_not_have_is_asked_for_where_it_is(sources, registry, monkeypatch):
    monkeypatch.setattr("pytest_enclave.images.registry.DEFAULT_HOST", registry.address)
    registry.push("library/nginx:1", IMAGE)
    assert resolve(sources(mirror=f"{registry.address}/hub"), "nginx:1") == IMAGE.id
    assert registry.count("/hub/nginx/") == 1
