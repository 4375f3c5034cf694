"""The template: parse once, render many times."""

from __future__ import annotations

import msgspec

from pytest_enclave.golang import json_text
from pytest_enclave.golang.template.budget import Budget, BudgetError
from pytest_enclave.golang.template.errors import TemplateExecutionError
from pytest_enclave.golang.template.execution import Execution
from pytest_enclave.golang.template.parser import Body, parse
from pytest_enclave.golang.template.quoting import quote
from pytest_enclave.golang.template.scope import Refusal, Scope
from pytest_enclave.golang.template.values import Number, boxed, encode_bytes, unboxed

__all__ = ["Template"]


class Template(msgspec.Struct, frozen=True):
    """A parsed template. Immutable; may be rendered by several threads at once."""

    name: str
    source: str
    bodies: dict[str, Body]

    @classmethod
    def parse(cls, text: str, name: str = "template") -> Template:
        """Parse `text`; `name` appears in messages. Raises `TemplateSyntaxError` with Go's text and the line."""
        return cls(name, text, parse(text, name))

    def render(self, data_json: str) -> str:
        """The output for data given as JSON text (any JSON value), numbers as they are written in it.

        Bytes that are not UTF-8 (a character cut by `slice`) are lone surrogates: write the result with
        `errors="surrogateescape"`. Raises `TemplateExecutionError` with Go's text and the output so far, also
        for data that is not JSON and for a template that takes too many steps or makes too much text.
        """
        try:
            data = unboxed(boxed(json_text.loads(data_json, Number)))
        except json_text.JsonError as error:
            raise TemplateExecutionError(str(error)) from error
        execution = Execution(self.bodies, Budget())
        try:
            execution.run(self.name, data)
        except Refusal as refusal:
            message = f"{self._place(refusal.scope)}: {refusal}"
        except BudgetError as error:
            message = f"template: {self.name}: {error}"
        except RecursionError:
            message = f"template: {self.name}: the data is nested too deeply"
        else:
            return "".join(execution.output)
        raise TemplateExecutionError(message, "".join(execution.output))

    def _place(self, scope: Scope) -> str:
        """Line, column (in bytes, from 0) and text of the node that failed, in Go's form."""
        node = scope.node
        assert node is not None
        before = self.source[: node.offset]
        line = 1 + before.count("\n")
        column = len(encode_bytes(before[before.rfind("\n") + 1 :]))
        return f"template: {self.name}:{line}:{column}: executing {quote(scope.name)} at <{node}>"
