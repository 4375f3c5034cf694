"""Tokens → nodes: the expressions.

    pipeline  =  [ variables (":=" | "=") ] command { "|" command }
    command   =  operand { space operand }
    operand   =  term { .field }
    term      =  literal | variable | .field | . | function | "(" pipeline ")"

Which variables exist is known while reading, so an unknown one is a syntax error; so is an unknown function.
"""

from __future__ import annotations

from pytest_enclave.golang.template import nodes
from pytest_enclave.golang.template.errors import TemplateSyntaxError
from pytest_enclave.golang.template.functions import FUNCTION_NAMES
from pytest_enclave.golang.template.lexer import Kind, Token
from pytest_enclave.golang.template.names import Names
from pytest_enclave.golang.template.numerals import parse_complex, parse_number
from pytest_enclave.golang.template.quoting import quote, unquote, unquote_character
from pytest_enclave.golang.template.stream import TokenStream

__all__ = ["ExpressionReader"]

MAX_PARENTHESES = 60
"""How deep parentheses may nest: reading and evaluating them uses Python's stack."""

_STARTS_COMMAND = {
    Kind.TRUTH, Kind.CHARACTER, Kind.COMPLEX, Kind.DOT, Kind.FIELD, Kind.IDENTIFIER, Kind.NUMBER, Kind.NIL,
    Kind.STRING, Kind.VARIABLE, Kind.LEFT,
}  # fmt: skip
_NEVER_EXECUTABLE = (nodes.Truth, nodes.Dot, nodes.Nil, nodes.NumberLiteral, nodes.StringLiteral)


class ExpressionReader:
    """Reads expressions from a stream. `variables` are the names in scope; the owner of scopes restores them."""

    def __init__(self, stream: TokenStream) -> None:
        self.variables = Names()
        self._stream = stream
        self._depth = 0

    def pipeline(self, context: str, end: Kind) -> nodes.Pipeline:
        """A pipeline up to and including the `end` token. `context` names the statement for messages."""
        stream = self._stream
        offset = stream.peek_solid().offset
        variables, assigns = self._declarations(context)
        commands: list[nodes.Command] = []
        while (token := stream.next_solid()).kind is not end:
            if token.kind not in _STARTS_COMMAND:
                raise stream.unexpected(token, context)
            stream.back(token)
            commands.append(self._command())
        if not commands:
            raise stream.error(f"missing value for {context}")
        for stage, command in enumerate(commands[1:], 2):
            if isinstance(command.operands[0], _NEVER_EXECUTABLE):
                raise stream.error(f"non executable command in pipeline stage {stage}")
        return nodes.Pipeline(offset, tuple(variables), assigns, tuple(commands))

    def _declarations(self, context: str) -> tuple[list[nodes.Variable], bool]:
        stream = self._stream
        declared: list[nodes.Variable] = []
        while stream.peek_solid().kind is Kind.VARIABLE:
            variable = stream.next()
            adjacent = stream.peek()
            sign = stream.peek_solid()
            if sign.kind in (Kind.ASSIGN, Kind.DECLARE):
                stream.next()
                self._declare(declared, variable)
                return declared, sign.kind is Kind.ASSIGN
            if sign.text != "," or sign.kind is not Kind.SIGN:
                if adjacent.kind is Kind.SPACE:
                    stream.back(adjacent)
                stream.back(variable)
                break
            stream.next()
            self._declare(declared, variable)
            if context != "range" or len(declared) > 1:
                raise stream.error(f"too many declarations in {context}")
            if stream.peek_solid().kind not in (Kind.VARIABLE, Kind.CLOSE, Kind.RIGHT):
                raise stream.error("range can only initialize variables")
        return declared, False

    def _declare(self, declared: list[nodes.Variable], token: Token) -> None:
        declared.append(nodes.Variable(token.offset, token.text, ()))
        self.variables.declare(token.text)

    def _command(self) -> nodes.Command:
        stream = self._stream
        offset = stream.peek_solid().offset
        operands: list[nodes.Operand] = []
        while True:
            stream.peek_solid()
            operand = self._operand()
            if operand is not None:
                operands.append(operand)
            token = stream.next()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in (Kind.CLOSE, Kind.RIGHT):
                stream.back(token)
            elif token.kind is not Kind.PIPE:
                raise stream.unexpected(token, "operand")
            break
        if not operands:
            raise stream.error("empty command")
        return nodes.Command(offset, tuple(operands))

    def _operand(self) -> nodes.Operand | None:
        stream = self._stream
        operand = self._term()
        if operand is None or stream.peek().kind is not Kind.FIELD:
            return operand
        offset = stream.peek().offset
        names: list[str] = []
        while stream.peek().kind is Kind.FIELD:
            names.append(stream.next().text[1:])
        if isinstance(operand, nodes.Field):
            return nodes.Field(offset, (*operand.names, *names))
        if isinstance(operand, nodes.Variable):
            return nodes.Variable(offset, operand.name, (*operand.names, *names))
        if isinstance(operand, _NEVER_EXECUTABLE):
            raise stream.error(f"unexpected . after term {quote(str(operand))}")
        return nodes.Chain(offset, operand, tuple(names))

    def _term(self) -> nodes.Operand | None:
        token = self._stream.next_solid()
        offset, text = token.offset, token.text
        if token.kind is Kind.IDENTIFIER:
            if text not in FUNCTION_NAMES:
                raise self._stream.error(f"function {quote(text)} not defined")
            return nodes.Identifier(offset, text)
        if token.kind is Kind.DOT:
            return nodes.Dot(offset)
        if token.kind is Kind.NIL:
            return nodes.Nil(offset)
        if token.kind is Kind.VARIABLE:
            if text not in self.variables:
                raise self._stream.error(f"undefined variable {quote(text)}")
            return nodes.Variable(offset, text, ())
        if token.kind is Kind.FIELD:
            return nodes.Field(offset, (text[1:],))
        if token.kind is Kind.TRUTH:
            return nodes.Truth(offset, text == "true")
        if token.kind is Kind.LEFT:
            return self._parenthesized()
        if token.kind in (Kind.NUMBER, Kind.COMPLEX, Kind.CHARACTER, Kind.STRING):
            return self._literal(token)
        self._stream.back(token)
        return None

    def _parenthesized(self) -> nodes.Pipeline:
        if self._depth == MAX_PARENTHESES:
            raise self._stream.error(f"parentheses nest deeper than {MAX_PARENTHESES}")
        self._depth += 1
        pipeline = self.pipeline("parenthesized pipeline", Kind.RIGHT)
        self._depth -= 1
        return pipeline

    def _literal(self, token: Token) -> nodes.Operand:
        offset, text = token.offset, token.text
        try:
            if token.kind is Kind.STRING:
                return nodes.StringLiteral(offset, text, unquote(text))
            if token.kind is Kind.CHARACTER:
                return nodes.NumberLiteral(offset, text, unquote_character(text))
            if token.kind is Kind.COMPLEX:
                return nodes.NumberLiteral(offset, text, parse_complex(text))
            return nodes.NumberLiteral(offset, text, parse_number(text))
        except ValueError as error:
            raise self._fault(str(error)) from None

    def _fault(self, message: str) -> TemplateSyntaxError:
        return self._stream.error(message)
