"""Go's text/template over data that was JSON, as `plan.render_templates` uses it.

    Template.parse("Hello {{.name}}").render('{"name": "world"}') == "Hello world"

The text is parsed once (`lexer` → `parser` → `nodes`) and rendered by `execution` (the statements) and
`evaluation` (the expressions) with the functions of `functions` and the printf family of `formatting`.
`data` prepares a Starlark value the way Kurtosis does before it reaches a template.

No option is set and no function is added, as in Kurtosis: a missing key prints `<no value>`, and there is no sprig.
Numbers are Go's `json.Number`: strings that print as they were written. `{{if .zero}}` is therefore true.
"""

from __future__ import annotations

from pytest_enclave.golang.template.data import DataError, prepare
from pytest_enclave.golang.template.errors import TemplateError, TemplateExecutionError, TemplateSyntaxError
from pytest_enclave.golang.template.template import Template

__all__ = ["DataError", "Template", "TemplateError", "TemplateExecutionError", "TemplateSyntaxError", "prepare"]
