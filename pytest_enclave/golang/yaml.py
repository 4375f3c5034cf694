"""Package arguments and kurtosis.yml, read as Kurtosis reads them.

Arguments are JSON if they are valid JSON, else YAML turned into JSON (Go's ghodss/yaml on go-yaml v2). Going through
JSON shows: keys become text, the key `y` becomes `"true"`, `1e3` arrives as the integer 1000, NaN is refused.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pytest_enclave.golang import json_text
from pytest_enclave.golang.floats import format_float
from pytest_enclave.golang.yaml_nodes import PLAIN, YamlError, first_node, second_document
from pytest_enclave.golang.yaml_scalars import scalar
from pytest_enclave.golang.yaml_strict import Position, Problem, StrictDocument, StrictYamlError, load_strict

if TYPE_CHECKING:
    import yaml

__all__ = [
    "Position", "Problem", "StrictDocument", "StrictYamlError", "YamlError", "args_json", "load_strict", "loads_args",
    "second_document",
]  # fmt: skip

MAX_ALIASED_NODES = 100_000
"""How many nodes aliases may add to a document ("billion laughs")."""


def loads_args(text: str) -> object:
    """The value of an argument text: None, bool, int, float, str, list, or dict with string keys.

    A number with a point or exponent in the JSON is a float, any other an int. Raises `YamlError`, also for a key
    that is there twice, of which Kurtosis takes the last without a word.
    """
    try:
        return json_text.loads(args_json(text, repeated_keys=False), _number)
    except json_text.JsonError as error:
        raise YamlError(str(error)) from error


def args_json(text: str, *, repeated_keys: bool = True) -> str:
    """The JSON text for an argument text; a valid JSON text comes back unchanged. Raises `YamlError`.

    Of a key that is there twice in YAML the last one counts, unless `repeated_keys` says that this is an error.
    """
    try:
        json_text.loads(text, str)
        return text
    except json_text.JsonError:
        pass
    node = first_node(text)
    value = None if node is None else _Builder(repeated_keys).build(node)
    try:
        return json_text.dumps(value)
    except json_text.JsonError as error:
        raise YamlError(str(error)) from error


def _number(text: str) -> int | float:
    if set(text) & set(".eE"):
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise json_text.JsonError(f"floating-point number too large: {text}")
        return value
    if len(text) > 4000:
        raise json_text.JsonError("integer of more than 4000 digits")
    return int(text)


class _Builder:
    """Nodes → plain values, counting what aliases repeat."""

    def __init__(self, repeated_keys: bool) -> None:
        self._repeated_keys = repeated_keys
        self._seen: set[int] = set()
        self._open: set[int] = set()
        self._aliased = 0

    def build(self, node: yaml.Node, inside_alias: bool = False) -> object:
        import yaml

        if isinstance(node, yaml.ScalarNode):
            self._count(inside_alias)
            return scalar(node.tag, node.value)
        if id(node) in self._open:
            raise YamlError("yaml: anchor value contains itself")
        inside_alias = inside_alias or id(node) in self._seen
        self._count(inside_alias)
        self._seen.add(id(node))
        self._open.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            value: object = [self.build(item, inside_alias) for item in node.value]
        else:
            value = self._mapping(node, inside_alias)
        self._open.discard(id(node))
        return value

    def _count(self, inside_alias: bool) -> None:
        self._aliased += inside_alias
        if self._aliased > MAX_ALIASED_NODES:
            raise YamlError("yaml: document contains excessive aliasing")

    def _mapping(self, node: yaml.Node, inside_alias: bool) -> dict[str, object]:
        result: dict[str, object] = {}
        own: set[str] = set()
        for key, content in node.value:
            if _is_merge(key):
                self._merge(result, content, inside_alias)
            else:
                name = _key(self.build(key, inside_alias))
                if name in own and not self._repeated_keys:
                    raise YamlError(f"yaml: line {key.start_mark.line + 1}: the key `{name}` is there twice")
                own.add(name)
                result[name] = self.build(content, inside_alias)
        return result

    def _merge(self, result: dict[str, object], node: yaml.Node, inside_alias: bool) -> None:
        """`<<`: the keys of a mapping, or of several, of which the first to name a key wins."""
        import yaml

        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in reversed(sources):
            value = self.build(source, inside_alias)
            if not isinstance(value, dict):
                raise YamlError("yaml: map merge requires map or sequence of maps as the value")
            result.update(value)


def _is_merge(key: yaml.Node) -> bool:
    return bool(key.value == "<<" and key.tag in (PLAIN, "tag:yaml.org,2002:merge"))


def _key(key: object) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, int):
        return str(key)
    if isinstance(key, float):
        return _float_key(key)
    if isinstance(key, (list, dict)):
        raise YamlError("yaml: invalid map key: a list or map")
    raise YamlError("Unsupported map key of type: %!s(<nil>), key: <nil>")


def _float_key(key: float) -> str:
    """Go writes a key with the fewest digits that a 32-bit float needs."""
    try:
        single: float = struct.unpack("f", struct.pack("f", key))[0]
    except OverflowError:
        return ".inf" if key > 0 else "-.inf"
    for digits in range(1, 10):
        text = f"{single:.{digits}g}"
        if struct.pack("f", float(text)) == struct.pack("f", single):
            return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(text, format_float(float(text), "g"))
    return ".nan"
