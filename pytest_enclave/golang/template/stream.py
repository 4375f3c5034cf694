"""The parser's view of the tokens: look ahead, push back, and complain about the line that was reached."""

from __future__ import annotations

from pytest_enclave.golang.template.errors import TemplateSyntaxError
from pytest_enclave.golang.template.lexer import Kind, Token, tokens

__all__ = ["TokenStream"]


class TokenStream:
    """Tokens one by one, with any number of them pushed back.

    `action_offset` is where the current `{{` stands, or None; it is mentioned when a fault is on another line.
    """

    def __init__(self, source: str, name: str) -> None:
        self.action_offset: int | None = None
        self._source = source
        self._name = name
        self._tokens = tokens(source)
        self._pushed: list[Token] = []
        self._last = Token(Kind.END_OF_TEXT, "", 0)

    def next(self) -> Token:
        """The next token. After the last one, that one again."""
        if self._pushed:
            return self._pushed.pop()
        self._last = next(self._tokens, self._last)
        return self._last

    def next_solid(self) -> Token:
        """The next token that is not blank."""
        token = self.next()
        while token.kind is Kind.SPACE:
            token = self.next()
        return token

    def back(self, token: Token) -> None:
        """Push a token back; `next` will return it."""
        self._pushed.append(token)

    def peek(self) -> Token:
        """The next token, which stays."""
        token = self.next()
        self.back(token)
        return token

    def peek_solid(self) -> Token:
        """The next token that is not blank; it stays, the blanks before it are gone."""
        token = self.next_solid()
        self.back(token)
        return token

    def expect(self, kind: Kind, context: str) -> Token:
        """The next solid token, which must be of this kind; raises `TemplateSyntaxError` otherwise."""
        token = self.next_solid()
        if token.kind is not kind:
            raise self.unexpected(token, context)
        return token

    def unexpected(self, token: Token, context: str) -> TemplateSyntaxError:
        """The error for a token that does not fit; a fault of the lexer speaks for itself."""
        if token.kind is not Kind.FAULT:
            return self.error(f"unexpected {token} in {context}")
        message = token.text
        if self.action_offset is not None and self._line(self.action_offset) != self._line(token.offset):
            started = f"started at {self._name}:{self._line(self.action_offset)}"
            message += f" {started}" if message.endswith(" action") else f" in action {started}"
        return self.error(message)

    def error(self, message: str) -> TemplateSyntaxError:
        """An error at the line that the lexer has reached, as Go reports it."""
        line = self._line(self._last.offset)
        return TemplateSyntaxError(f"template: {self._name}:{line}: {message}", line)

    def _line(self, offset: int) -> int:
        return 1 + self._source.count("\n", 0, offset)
