"""What can go wrong with a template, in Go's words.

TemplateError
├── TemplateSyntaxError      the text is not a template
└── TemplateExecutionError   the template does not fit its data, or asks for too much
"""

from __future__ import annotations

__all__ = ["TemplateError", "TemplateExecutionError", "TemplateSyntaxError"]


class TemplateError(ValueError):
    """A template that cannot be parsed or rendered. `str(error)` is Go's message, with name and line."""


class TemplateSyntaxError(TemplateError):
    """The text is not a template. `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class TemplateExecutionError(TemplateError):
    """Rendering stopped. `partial_output` is what had been written by then; Go would leave it in the file."""

    def __init__(self, message: str, partial_output: str = "") -> None:
        super().__init__(message)
        self.partial_output = partial_output
