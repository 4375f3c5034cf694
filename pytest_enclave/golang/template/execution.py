"""Running the statements of a template.

Theory of operation: each list of statements is a generator that yields the lists nested in it, and one loop
(`_run`) drives them from a stack of its own. So templates may call each other as deep as Go lets them without
touching Python's stack. What a nested list returns (`_Leave`) tells the statement around it whether a `break` or
`continue` is on its way to the enclosing `range`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from enum import Enum

from pytest_enclave.golang.template import nodes
from pytest_enclave.golang.template.budget import Budget
from pytest_enclave.golang.template.evaluation import evaluate
from pytest_enclave.golang.template.formatting import sprint
from pytest_enclave.golang.template.parser import Body
from pytest_enclave.golang.template.quoting import quote
from pytest_enclave.golang.template.scope import Scope
from pytest_enclave.golang.template.values import NOTHING, Slice, boxed, is_true

__all__ = ["Execution"]

MAX_DEPTH = 100_000
"""Template calls inside template calls, as in Go."""


class _Leave(Enum):
    BREAK = "break"
    CONTINUE = "continue"


Steps = Generator["Steps", "_Leave | None", "_Leave | None"]


class Execution:
    """One rendering. `output` grows while it runs and holds what was written when it stops early."""

    def __init__(self, templates: Mapping[str, Body], budget: Budget) -> None:
        self.output: list[str] = []
        self._templates = templates
        self._budget = budget

    def run(self, name: str, data: object) -> None:
        """Execute the template `name` with `data` as dot. Raises `Refusal` or `BudgetError`."""
        scope = Scope(name, data, self._budget)
        stack = [self._list(scope, data, self._templates[name])]
        leave: _Leave | None = None
        while stack:
            nested, leave = _advance(stack[-1], leave)
            if nested is None:
                stack.pop()
            else:
                stack.append(nested)

    def _write(self, text: str) -> None:
        self._budget.produce(len(text))
        self.output.append(text)

    def _list(self, scope: Scope, dot: object, body: Body) -> Steps:
        for statement in body:
            scope.at(statement)
            if isinstance(statement, nodes.Text):
                self._write(statement.text)
            elif isinstance(statement, nodes.Action):
                self._action(scope, dot, statement)
            elif isinstance(statement, nodes.TemplateCall):
                yield self._call(scope, dot, statement)
            elif isinstance(statement, nodes.Break):
                return _Leave.BREAK
            elif isinstance(statement, nodes.Continue):
                return _Leave.CONTINUE
            else:
                mark = scope.mark()
                leave = yield self._block(scope, dot, statement)
                scope.drop_to(mark)
                if leave is not None:
                    return leave
        return None

    def _action(self, scope: Scope, dot: object, action: nodes.Action) -> None:
        value = evaluate(scope, dot, action.pipeline)
        if not action.pipeline.variables:
            self._write("<no value>" if value is NOTHING else sprint([value], self._budget))

    def _block(self, scope: Scope, dot: object, statement: nodes.If | nodes.With | nodes.Range) -> Steps:
        if isinstance(statement, nodes.Range):
            return self._range(scope, dot, statement)
        return self._branch(scope, dot, statement)

    def _branch(self, scope: Scope, dot: object, statement: nodes.If | nodes.With) -> Steps:
        value = evaluate(scope, dot, statement.pipeline)
        if not is_true(value):
            return (yield self._list(scope, dot, statement.otherwise))
        inner = value if isinstance(statement, nodes.With) else dot
        return (yield self._list(scope, inner, statement.body))

    def _range(self, scope: Scope, dot: object, statement: nodes.Range) -> Steps:
        value = evaluate(scope, dot, statement.pipeline)
        mark = scope.mark()
        empty = True
        for key, element in self._elements(scope, value, len(statement.pipeline.variables)):
            empty = False
            scope.budget.step()
            _set_loop_variables(scope, statement.pipeline, key, element)
            leave = yield self._list(scope, element, statement.body)
            scope.drop_to(mark)
            if leave is _Leave.BREAK:
                return None
        if not empty:
            return None
        return (yield self._list(scope, dot, statement.otherwise))

    def _elements(self, scope: Scope, value: object, variables: int) -> Iterator[tuple[object, object]]:
        """Keys and elements of what can be gone through; an integer n counts from 0 to n-1."""
        if isinstance(value, Slice):
            return enumerate(value)
        if isinstance(value, dict):
            return ((key, boxed(value[key])) for key in sorted(value))
        if isinstance(value, int) and not isinstance(value, bool):
            if variables > 1:
                raise scope.refuse(f"can't use {value} to iterate over more than one variable")
            return ((NOTHING, type(value)(number)) for number in range(value))
        if value is NOTHING:
            return iter(())
        raise scope.refuse(f"range can't iterate over {sprint([value], self._budget)}")

    def _call(self, scope: Scope, dot: object, call: nodes.TemplateCall) -> Steps:
        body = self._templates.get(call.name)
        if body is None:
            raise scope.refuse(f"template {quote(call.name)} not defined")
        if scope.depth == MAX_DEPTH:
            raise scope.refuse(f"exceeded maximum template depth ({MAX_DEPTH})")
        argument = evaluate(scope, dot, call.pipeline)
        inner = Scope(call.name, argument, self._budget, scope.depth + 1)
        yield self._list(inner, argument, body)
        return None


def _set_loop_variables(scope: Scope, pipeline: nodes.Pipeline, key: object, element: object) -> None:
    names = [variable.name for variable in pipeline.variables]
    if not names:
        return
    if pipeline.assigns:
        for name, value in zip(names, (key, element) if len(names) > 1 else (element,), strict=True):
            scope.assign(name, value)
        return
    scope.set_from_top(1, element)
    if len(names) > 1:
        scope.set_from_top(2, key)


def _advance(steps: Steps, leave: _Leave | None) -> tuple[Steps | None, _Leave | None]:
    """Let a list of statements go on: the list nested in it that is next, or None and how it ended."""
    try:
        return steps.send(leave), None
    except StopIteration as end:
        return None, end.value
