"""An image as the engine sees it: directories to stack, and what its makers want of whoever runs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from pytest_enclave.images.faults import ImageFault

MOST_LAYERS = 128
"""Layers of an image; Docker makes no more than 127, and more do not fit into one mount."""


class ImageConfig(msgspec.Struct, frozen=True):
    """The configuration of an image, in the words of its format. What it does not say is empty."""

    user: str = ""
    working_dir: str = ""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    architecture: str = ""


class StoredImage(msgspec.Struct, frozen=True):
    """An image whose layers are there. `digest` is its ID, `layers` are directories from the bottom to the top."""

    digest: str
    layers: tuple[str, ...]
    config: ImageConfig


def parse_document(data: bytes, what: str) -> dict[str, Any]:
    """A JSON object. Raises ImageFault."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise ImageFault(f"{what} is not JSON") from None
    if not isinstance(document, dict):
        raise ImageFault(f"{what} is not a JSON object")
    return document


def parse_config(document: object) -> tuple[ImageConfig, tuple[str, ...]]:
    """The configuration, and the digests of the unpacked layers from the bottom. Raises ImageFault."""
    whole = _mapping(document, "the whole")
    inner = _mapping(whole.get("config"), "config")
    if (system := _text(whole, "os")) not in ("", "linux"):
        raise ImageFault(f"it is made for {system}", "images of services are Linux images")
    config = ImageConfig(
        user=_text(inner, "User"),
        working_dir=_text(inner, "WorkingDir"),
        env=_texts(inner, "Env"),
        entrypoint=_texts(inner, "Entrypoint"),
        cmd=_texts(inner, "Cmd"),
        volumes=tuple(_mapping(inner.get("Volumes"), "Volumes")),
        stop_signal=_text(inner, "StopSignal"),
        labels={key: str(value) for key, value in _mapping(inner.get("Labels"), "Labels").items()},
        architecture=_text(whole, "architecture"),
    )
    layers = _texts(_mapping(whole.get("rootfs"), "rootfs"), "diff_ids")
    if len(layers) > MOST_LAYERS:
        raise ImageFault(f"it has {len(layers)} layers; {MOST_LAYERS} are the limit", "make it of fewer layers")
    return config, layers


def _mapping(value: object, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _malformed(what)
    return value


def _text(document: dict[str, Any], key: str) -> str:
    value = document.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _malformed(key)
    return value


def _texts(document: dict[str, Any], key: str) -> tuple[str, ...]:
    value = document.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _malformed(key)
    return tuple(value)


def _malformed(what: str) -> ImageFault:
    return ImageFault(f"its configuration is malformed: {what} is not what the format says")
