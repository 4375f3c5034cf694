"""YAML text → PyYAML's nodes, safely and with Go's error texts.

The parser is libyaml where PyYAML was built with it (go-yaml is a port of it, so even the messages agree), else
PyYAML's own. What a plain word means is left open: such a node has the tag `PLAIN`. Only the first document counts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml

__all__ = ["PLAIN", "YamlError", "first_node", "second_document"]

PLAIN = "plain"
"""The tag of a scalar that stands there without quotes or a tag of its own."""

MAX_DEPTH = 200
"""How deep collections may nest; the composer and we walk them on Python's stack."""


class YamlError(ValueError):
    """The text is not YAML, or has no JSON form. `str(error)` is Go's own message where Go has one."""


def first_node(text: str) -> yaml.Node | None:
    """The root of the first document, None for a text without any. Raises `YamlError`."""
    import yaml

    _check_depth(text)
    loader = _loader_class()(text)
    try:
        return loader.get_node() if loader.check_node() else None
    except yaml.composer.ComposerError as error:
        raise YamlError(f"yaml: {_composer_problem(error, text)}") from error
    except yaml.MarkedYAMLError as error:
        raise YamlError(f"yaml: {_place(error)}{error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise YamlError(f"yaml: {error}") from error
    finally:
        loader.dispose()


def second_document(text: str) -> int | None:
    """The line, from 1, on which a second document begins; None where there is none. What is no YAML has none."""
    if "\n---" not in text and "\n..." not in text:
        return None
    import yaml

    begun = 0
    try:
        event: Any
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            begun += isinstance(event, yaml.DocumentStartEvent)
            if begun == 2:
                return int(event.start_mark.line) + 1
    except yaml.YAMLError:
        pass
    return None


def _loader_class() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class UnresolvedLoader(base):  # type: ignore[misc]
        def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
            if kind is yaml.ScalarNode:
                return PLAIN if implicit[0] else "tag:yaml.org,2002:str"
            return super().resolve(kind, value, implicit)

    return UnresolvedLoader


def _place(error: yaml.MarkedYAMLError) -> str:
    """Go names the line where the construct began, if that is not the first line, else where the parser was."""
    import yaml

    for mark in (error.context_mark, error.problem_mark):
        if mark is not None and mark.line:
            line = mark.line + isinstance(error, yaml.scanner.ScannerError)
            return f"line {line}: "
    return ""


def _composer_problem(error: yaml.MarkedYAMLError, text: str) -> str:
    problem, mark = str(error.problem), error.problem_mark
    if "undefined alias" not in problem or mark is None:
        return problem
    name = re.match(r"\*([\w-]*)", text[mark.index :])
    return f"unknown anchor '{name[1] if name else ''}' referenced"


def _check_depth(text: str) -> None:
    """Refuse what would be too deep to compose; the events of a suspicious text are counted without recursion."""
    if sum(map(text.count, "[{-?:")) <= MAX_DEPTH:
        return
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise YamlError(f"yaml: nested deeper than {MAX_DEPTH}")
            if isinstance(event, yaml.DocumentEndEvent):
                return
    except yaml.YAMLError:
        return  # the real pass reports it
