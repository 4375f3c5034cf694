"""The Python side of the border: what `prelude.star` calls.

An exception that a native raises reaches the interpreter's caller as text only, whatever it was. So each is kept
aside here, and raised again in its own shape once the evaluation has ended (KeyboardInterrupt as well).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from pytest_enclave.errors import InterpretationError, ScriptFailed
from pytest_enclave.golang import duration
from pytest_enclave.golang.json_text import JsonError
from pytest_enclave.language import formatting, json_module, time_module, wire
from pytest_enclave.language.diagnostics import TOO_DEEP
from pytest_enclave.language.recorder import Recorder
from pytest_enclave.plan.config_types import CONFIG_TYPES
from pytest_enclave.plan.values import Value, to_repr, type_name
from pytest_enclave.source import Location


class NeedModule(Exception):
    """A file imports another one that was not known to be needed: it has to be there before the file is evaluated."""

    def __init__(self, caller: str, locator: str) -> None:
        super().__init__(locator)
        self.caller = caller
        self.locator = locator
        self.place = Location(caller)


class NeedCare(Exception):
    """The code may do harm to the process that it is evaluated in, at `place`: it has to be confined."""

    def __init__(self, place: Location | None = None) -> None:
        super().__init__()
        self.place = place


class Natives:
    """All natives of one attempt.

    `arguments` is what the main function is given, `output` what it gave, `raised` what a native raised last.
    """

    def __init__(self, recorder: Recorder, read: Callable[[str, str], str], *, confined: bool) -> None:
        self.arguments: Value = None
        self.output: Value = None
        self.raised: BaseException | None = None
        self._recorder = recorder
        self._read = read
        self._confined = confined

    def table(self, further: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
        """These natives and further ones, by the names the prelude knows, each keeping aside what it raises."""
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
            "refuse_operation": _refuse_operation,
            "refuse_range": _refuse_range,
            "refuse_shift": _refuse_shift,
            "refuse_int": _refuse_int,
            "refuse_main": _refuse_main,
            "name_of": _name_of,
            "repr": lambda crossing: to_repr(self._recorder.decode(crossing)),
            "percent": lambda text, crossing: formatting.percent(text, self._recorder.decode(crossing)),
            "format": lambda text, crossing: formatting.braces(text, *self._recorder.decode(crossing)),
            "json_encode": lambda crossing: json_module.encode(self._recorder.decode(crossing)),
            "json_decode": self._json_decode,
            "json_indent": json_module.indent,
            "time": time_module.call,
            "time_units": lambda: dict(time_module.units()),
            "care": self._care,
            **further,
        }
        return {f"native_{name}": self._keeping(native) for name, native in natives.items()}

    def _keeping(self, native: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any) -> Any:
            try:
                return native(*arguments)
            except (formatting.FormatError, JsonError, duration.DurationError, time_module.TimeError) as error:
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
        return self._recorder.encode(value)

    def _keep_output(self, crossing: str) -> None:
        self.output = wire.shown(self._recorder.decode(crossing))

    def _locator(self, crossing: str, callee: str) -> str:
        value = self._recorder.decode(crossing)
        if not isinstance(value, str) or not value:
            raise InterpretationError(f"{callee}: must be given a locator, not {to_repr(value)} ({type_name(value)})")
        return value

    def _care(self) -> None:
        if not self._confined:
            raise NeedCare

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


def _refuse_operation(symbol: str, left: str, right: str) -> NoReturn:
    raise InterpretationError(f"operation `{symbol}` not supported for types `{left}` and `{right}`")


def _refuse_range() -> NoReturn:
    raise InterpretationError("range: the numbers of a range are less than 2147483648, and so is their number")


def _refuse_shift(count: int) -> NoReturn:
    raise InterpretationError(f"shift count too large: {count}", remedy="numbers are shifted by at most 511 bits")


def _refuse_int(text: str) -> NoReturn:
    raise InterpretationError(f"int: {to_repr(text)} is not a whole number", remedy="leave out the `_`")


def _refuse_main(name: str, kind: str) -> NoReturn:
    raise InterpretationError(f"`{name}` is of type {kind}, not a function", remedy=f"write `def {name}(plan):`")


def _name_of(kind: str, text: str) -> str:
    """Functions are shown by name, as Go shows them; the interpreter would put the file's name before it."""
    return f"<function {text.rpartition('.')[2]}>" if kind == "function" else text
