"""Records as JSON text and back, every value with its Starlark type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pytest_enclave.plan.footprint import Footprint, Replay
from pytest_enclave.plan.record import Record
from pytest_enclave.plan.values import Struct, Value
from pytest_enclave.source import Location

_TUPLE, _STRUCT, _DICT = "$tuple", "$struct", "$dict"
_TAGS = (_TUPLE, _STRUCT, _DICT)


def encode(record: Record) -> str:
    """The record as one line of JSON."""
    footprint = record.footprint
    body = {
        "name": record.name,
        "text": record.text,
        "key": record.key,
        "resolved": record.resolved,
        "producer": record.producer,
        "location": [record.location.file, record.location.line, record.location.column],
        "footprint": {
            "replay": footprint.replay.name,
            "services": dict(footprint.services),
            "artifacts": sorted(footprint.artifacts),
            "mounts": {name: sorted(artifacts) for name, artifacts in footprint.mounts.items()},
            "acts_on": sorted(footprint.acts_on),
            "uses": sorted(footprint.uses),
            "reads": sorted(footprint.reads),
            "images": sorted(footprint.images),
        },
        "values": {producer: _pack(dict(fields)) for producer, fields in record.values.items()},
        "contents": dict(record.contents),
        "services": {name: _pack(config) for name, config in record.services.items()},
        "images": dict(record.images),
        "message": record.message,
        "stale": record.stale,
    }
    return json.dumps(body, ensure_ascii=True)


def decode(text: str) -> Record:
    """The record that `encode` wrote. Raises ValueError where the text is no such record."""
    try:
        body = json.loads(text)
        plain = ("name", "text", "key", "resolved", "producer", "contents", "images", "message", "stale")
        return Record(
            **{name: body[name] for name in plain},
            location=Location(*body["location"]),
            footprint=_footprint(body["footprint"]),
            values={producer: _unpack(fields) for producer, fields in body["values"].items()},
            services={name: _unpack(config) for name, config in body["services"].items()},
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a record of an executed instruction: {error}") from error


def _footprint(body: Mapping[str, Any]) -> Footprint:
    return Footprint(
        replay=Replay[body["replay"]],
        services=body["services"],
        mounts={name: frozenset(artifacts) for name, artifacts in body["mounts"].items()},
        artifacts=frozenset(body["artifacts"]),
        acts_on=frozenset(body["acts_on"]),
        uses=frozenset(body["uses"]),
        reads=frozenset(body["reads"]),
        images=frozenset(body["images"]),
    )


def _pack(value: Value) -> Any:
    """A value as JSON; what JSON has no word for goes under a key that begins with `$`."""
    if isinstance(value, Struct):
        return {_STRUCT: value.kind, "fields": {name: _pack(item) for name, item in value.fields.items()}}
    if isinstance(value, tuple):
        return {_TUPLE: [_pack(item) for item in value]}
    if isinstance(value, list):
        return [_pack(item) for item in value]
    if isinstance(value, dict):
        packed = [[_pack(key), _pack(item)] for key, item in value.items()]
        ordinary = all(isinstance(key, str) and key not in _TAGS for key in value)
        return {key: item for key, item in packed} if ordinary else {_DICT: packed}  # noqa: C416
    return value


def _unpack(value: Any) -> Value:
    if isinstance(value, list):
        return [_unpack(item) for item in value]
    if not isinstance(value, dict):
        return value
    if _STRUCT in value:
        return Struct(value[_STRUCT], {name: _unpack(item) for name, item in value["fields"].items()})
    if _TUPLE in value:
        return tuple(_unpack(item) for item in value[_TUPLE])
    if _DICT in value:
        return {_unpack(key): _unpack(item) for key, item in value[_DICT]}
    return {key: _unpack(item) for key, item in value.items()}
