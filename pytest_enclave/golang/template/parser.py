"""Tokens → nodes: the statements. (The expressions inside `{{ }}` are read by `expressions`.)

Theory of operation: blocks nest, and a stack of open blocks keeps track of them, not Python's own stack, so depth
costs nothing. A statement is appended to the innermost open block; `{{else}}` turns to its second list; `{{end}}`
closes it, and with it every `if` that an `else if` opened implicitly. `define` and `block` begin a template of
their own, with its own variables; `block` also leaves a call where it stands.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_enclave.golang.template import nodes
from pytest_enclave.golang.template.expressions import ExpressionReader
from pytest_enclave.golang.template.lexer import Kind, Token
from pytest_enclave.golang.template.names import Names
from pytest_enclave.golang.template.quoting import quote, unquote
from pytest_enclave.golang.template.stream import TokenStream

__all__ = ["Body", "parse"]

Body = tuple[nodes.Statement, ...]
"""The statements of one template or block."""

_CONTROL: dict[Kind, type[nodes.If | nodes.With | nodes.Range]] = {
    Kind.IF: nodes.If,
    Kind.WITH: nodes.With,
    Kind.RANGE: nodes.Range,
}


def parse(source: str, name: str) -> dict[str, Body]:
    """Every template that `source` defines, by name; the text outside of definitions is `name`.

    Raises `TemplateSyntaxError` with Go's text and line.
    """
    return _Parser(source, name).templates()


@dataclass(slots=True)
class _Block:
    """A block that has been opened: `kind` is IF, WITH, RANGE, DEFINE or BLOCK.

    `outer_names`, at the height `outer_mark`, are the variables that exist again behind its end.
    """

    kind: Kind
    offset: int
    outer_names: Names
    outer_mark: int
    name: str = ""
    pipeline: nodes.Pipeline | None = None
    body: list[nodes.Statement] = field(default_factory=list)
    otherwise: list[nodes.Statement] | None = None
    closes_outer: bool = False


class _Parser:
    def __init__(self, source: str, name: str) -> None:
        self._stream = TokenStream(source, name)
        self._expressions = ExpressionReader(self._stream)
        self._main = _Block(Kind.DEFINE, 0, self._expressions.variables, 1, name)
        self._open: list[_Block] = []
        self._templates: dict[str, Body] = {}

    def templates(self) -> dict[str, Body]:
        stream = self._stream
        while (token := stream.next_solid()).kind is not Kind.END_OF_TEXT:
            if token.kind is Kind.TEXT:
                self._append(nodes.Text(token.offset, token.text))
            elif token.kind is Kind.OPEN:
                self._action(token)
            else:
                raise stream.unexpected(token, "input")
        if self._open:
            raise stream.error("unexpected EOF")
        self._add(self._main)
        return self._templates

    def _action(self, opening: Token) -> None:
        stream = self._stream
        token = stream.next_solid()
        if token.kind is Kind.DEFINE and not self._open:
            self._define()
            return
        stream.action_offset = opening.offset
        if token.kind in _CONTROL:
            self._control(token)
            return
        if token.kind is Kind.BLOCK:
            self._block()
            return
        if token.kind is Kind.END:
            stream.expect(Kind.CLOSE, "end")
            stream.action_offset = None
            self._end()
        elif token.kind is Kind.ELSE:
            self._else()
        elif token.kind in (Kind.BREAK, Kind.CONTINUE):
            self._leave(token)
        elif token.kind is Kind.TEMPLATE:
            self._call()
        else:
            stream.back(token)
            pipeline = self._expressions.pipeline("command", Kind.CLOSE)
            self._append(nodes.Action(token.offset, pipeline))
        stream.action_offset = None

    def _control(self, token: Token, closes_outer: bool = False) -> None:
        names = self._expressions.variables
        mark = names.mark()
        pipeline = self._expressions.pipeline(token.text, Kind.CLOSE)
        self._open.append(_Block(token.kind, token.offset, names, mark, "", pipeline, closes_outer=closes_outer))

    def _define(self) -> None:
        token = self._stream.expect(Kind.STRING, "define clause")
        name = self._unquoted(token)
        self._stream.expect(Kind.CLOSE, "define clause")
        self._open_template(Kind.DEFINE, token, name)

    def _block(self) -> None:
        token = self._stream.next_solid()
        name = self._template_name(token, "block clause")
        pipeline = self._expressions.pipeline("block clause", Kind.CLOSE)
        self._open_template(Kind.BLOCK, token, name, pipeline)

    def _open_template(self, kind: Kind, token: Token, name: str, pipeline: nodes.Pipeline | None = None) -> None:
        names = self._expressions.variables
        self._open.append(_Block(kind, token.offset, names, names.mark(), name, pipeline))
        self._expressions.variables = Names()

    def _else(self) -> None:
        stream = self._stream
        following = stream.peek_solid()
        chained = following.kind in (Kind.IF, Kind.WITH)
        if not chained:
            stream.expect(Kind.CLOSE, "else")
        if not self._open:
            raise stream.error("unexpected {{else}}")
        block = self._open[-1]
        if block.kind in (Kind.DEFINE, Kind.BLOCK):
            raise stream.error(f"unexpected {{{{else}}}} in {block.kind.value} clause")
        if block.otherwise is not None:
            raise stream.error("expected end; found {{else}}")
        block.otherwise = []
        if chained and following.kind is block.kind:
            stream.action_offset = None
            self._control(stream.next_solid(), closes_outer=True)

    def _end(self) -> None:
        if not self._open:
            raise self._stream.error("unexpected {{end}}")
        while True:
            block = self._open.pop()
            self._expressions.variables = block.outer_names
            block.outer_names.drop_to(block.outer_mark)
            self._close(block)
            if not block.closes_outer:
                return

    def _close(self, block: _Block) -> None:
        if block.kind in (Kind.DEFINE, Kind.BLOCK):
            self._add(block)
            if block.kind is Kind.BLOCK:
                self._append(nodes.TemplateCall(block.offset, block.name, block.pipeline))
            return
        assert block.pipeline is not None
        statement = _CONTROL[block.kind]
        self._append(statement(block.offset, block.pipeline, tuple(block.body), tuple(block.otherwise or ())))

    def _leave(self, token: Token) -> None:
        name = f"{{{{{token.text}}}}}"
        closing = self._stream.next_solid()
        if closing.kind is not Kind.CLOSE:
            raise self._stream.unexpected(closing, name)
        if not self._in_range():
            raise self._stream.error(f"{name} outside {{{{range}}}}")
        self._append(nodes.Break(token.offset) if token.kind is Kind.BREAK else nodes.Continue(token.offset))

    def _in_range(self) -> bool:
        for block in reversed(self._open):
            if block.kind is Kind.RANGE and block.otherwise is None:
                return True
            if block.kind in (Kind.DEFINE, Kind.BLOCK):
                return False
        return False

    def _call(self) -> None:
        token = self._stream.next_solid()
        name = self._template_name(token, "template clause")
        following = self._stream.next_solid()
        pipeline = None
        if following.kind is not Kind.CLOSE:
            self._stream.back(following)
            pipeline = self._expressions.pipeline("template clause", Kind.CLOSE)
        self._append(nodes.TemplateCall(token.offset, name, pipeline))

    def _template_name(self, token: Token, context: str) -> str:
        if token.kind is not Kind.STRING:
            raise self._stream.unexpected(token, context)
        return self._unquoted(token)

    def _unquoted(self, token: Token) -> str:
        try:
            return unquote(token.text)
        except ValueError as error:
            raise self._stream.error(str(error)) from None

    def _append(self, statement: nodes.Statement) -> None:
        block = self._open[-1] if self._open else self._main
        (block.body if block.otherwise is None else block.otherwise).append(statement)

    def _add(self, block: _Block) -> None:
        """Two templates may share a name only if one of them is blank; the other one counts."""
        known = self._templates.get(block.name)
        if known is None or _is_blank(known):
            self._templates[block.name] = tuple(block.body)
        elif not _is_blank(block.body):
            raise self._stream.error(f"template: multiple definition of template {quote(block.name)}")


def _is_blank(body: Body | list[nodes.Statement]) -> bool:
    return all(isinstance(statement, nodes.Text) and not statement.text.strip() for statement in body)
