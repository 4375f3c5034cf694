"""The Python side of the border: what `prelude.star` calls.

An exception that a native raises reaches the interpreter's caller as text only, whatever it was. So each is kept
aside here, and raised again in its own shape once the evaluation has ended (KeyboardInterrupt as well).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from pytest_enclave.errors import InterpretationError, ScriptFailed
from pytest_enclave.golang import duration
from pytest_enclave.golang.json_text import JsonError
from pytest_enclave.language import formatting, json_module, wire
from pytest_enclave.language.diagnostics import TOO_DEEP
from pytest_enclave.language.recorder import Recorder
from pytest_enclave.plan.config_types import CONFIG_TYPES
from pytest_enclave.plan.values import Struct, Value, to_repr, type_name
from pytest_enclave.source import Location


class NeedModule(Exception):
    """A file imports another one that was not known to be needed: it has to be there before the file is evaluated."""

    def __init__(self, caller: str, locator: str) -> None:
        super().__init__(locator)
        self.caller = caller
        self.locator = locator
        self.place = Location(caller)


class Natives:
    """All natives of one attempt.

    `arguments` is what the main function is given, `output` what it gave, `raised` what a native raised last.
    """

    def __init__(self, recorder: Recorder, read: Callable[[str, str], str]) -> None:
        self.arguments: Value = None
        self.output: Value = None
        self.raised: BaseException | None = None
        self._recorder = recorder
        self._read = read

    def table(self) -> dict[str, Callable[..., Any]]:
        """The natives by the names the prelude knows, each keeping aside what it raises."""
        recorder = self._recorder
        natives: dict[str, Callable[..., Any]] = {
            "types": lambda: {kind: [field.name for field in t.fields] for kind, t in CONFIG_TYPES.items()},
            "instructions": lambda: list(recorder.names),
            "construct": recorder.construct,
            "construct_at": recorder.construct_at,
            "record": recorder.record,
            "arguments": lambda: self._encode(self.arguments),
            "output": self._keep_output,
            "need": self._need,
            "read": lambda caller, locator: self._read(self._locator(locator, "read_file"), caller),
            "fail": self._fail,
            "refuse_print": _refuse_print,
            "refuse_now": _refuse_now,
            "refuse_unsupported": _refuse_unsupported,
            "refuse_main": _refuse_main,
            "name_of": _name_of,
            "repr": lambda crossing: to_repr(self._recorder.decode(crossing)),
            "percent": lambda text, crossing: formatting.percent(text, self._recorder.decode(crossing)),
            "format": lambda text, crossing: formatting.braces(text, *self._recorder.decode(crossing)),
            "json_encode": lambda crossing: json_module.encode(self._recorder.decode(crossing)),
            "json_decode": self._json_decode,
            "json_indent": json_module.indent,
            "duration": lambda nanoseconds: self._encode(_duration(nanoseconds)),
            "parse_duration": lambda text: self._encode(_duration(duration.parse(text))),
        }
        return {f"native_{name}": self._keeping(native) for name, native in natives.items()}

    def _keeping(self, native: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any) -> Any:
            try:
                return native(*arguments)
            except (formatting.FormatError, JsonError, duration.DurationError) as error:
                self.raised = InterpretationError(str(error))
                raise
            except RecursionError as error:
                self.raised = InterpretationError(TOO_DEEP)
                raise error
            except BaseException as error:
                self.raised = error
                raise

        return guarded

    def _encode(self, value: Value) -> str:
        return wire.encode(value, self._recorder.handle_of)

    def _keep_output(self, crossing: str) -> None:
        self.output = wire.shown(self._recorder.decode(crossing))

    def _locator(self, crossing: str, callee: str) -> str:
        value = self._recorder.decode(crossing)
        if not isinstance(value, str) or not value:
            raise InterpretationError(f"{callee}: must be given a locator, not {to_repr(value)} ({type_name(value)})")
        return value

    def _need(self, caller: str, crossing: str) -> NoReturn:
        raise NeedModule(caller, self._locator(crossing, "import_module"))

    def _fail(self, message: str) -> NoReturn:
        raise ScriptFailed(message)

    def _json_decode(self, text: object, crossing: str) -> str:
        default = self._recorder.decode(crossing)
        try:
            if not isinstance(text, str):
                raise InterpretationError(f"json.decode: must be given a string, not {to_repr(text)}")
            return self._encode(json_module.decode(text))
        except JsonError:
            if default:
                return self._encode(default[0])
            raise


def _refuse_print() -> NoReturn:
    raise InterpretationError("`print` is not available in packages", remedy="write `plan.print(…)`")


def _refuse_now() -> NoReturn:
    raise InterpretationError(
        "`time.now()` is not available: a package must give the same plan every time",
        remedy='take the time when the plan runs: `plan.run_sh(run = "date +%s")`',
    )


def _refuse_unsupported(name: str) -> NoReturn:
    raise InterpretationError(
        f"`{name}` is not supported yet", remedy="pass the time as an argument, or work it out with `plan.run_sh`"
    )


def _refuse_main(name: str, kind: str) -> NoReturn:
    raise InterpretationError(f"`{name}` is of type {kind}, not a function", remedy=f"write `def {name}(plan):`")


def _name_of(kind: str, text: str) -> str:
    """Functions are shown by name, as Go shows them; the interpreter would put the file's name before it."""
    return f"<function {text.rpartition('.')[2]}>" if kind == "function" else text


def _duration(nanoseconds: int) -> Struct:
    """A length of time; its fields count it in each unit, whole or as a fraction, as Go's do."""
    return Struct(
        "time.duration",
        {
            "hours": nanoseconds / 3.6e12,
            "minutes": nanoseconds / 6e10,
            "seconds": nanoseconds / 1e9,
            "milliseconds": nanoseconds // 10**6,
            "microseconds": nanoseconds // 10**3,
            "nanoseconds": nanoseconds,
        },
    )
