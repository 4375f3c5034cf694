"""Go's `fmt` for the values of templates: print, println, printf.

A `Printer` collects the output of one call. `printf` walks the directives of the format; each value is laid out by
its type and verb. A verb that does not suit a value is no error: `%!d(string=x)` appears in the output.
Widths count characters, precision cuts strings and sets digits, as in C; what differs from C is Go's.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_enclave.golang.template.budget import Budget
from pytest_enclave.golang.template.directives import Directive, Flags, directives
from pytest_enclave.golang.template.numbers import format_complex, format_integer, format_real, pad
from pytest_enclave.golang.template.quoting import can_backquote, quote
from pytest_enclave.golang.template.values import (
    NOTHING,
    Boxed,
    Byte,
    Number,
    Slice,
    boxed,
    decode_bytes,
    encode_bytes,
    type_name,
)  # fmt: skip

__all__ = ["sprint", "sprintf", "sprintln"]

Value = object
"""An argument: None for nil, never `NOTHING` or `Boxed` at the top level; elements of lists and maps are `Boxed`."""


def sprint(arguments: Sequence[Value], budget: Budget) -> str:
    """Go's `Sprint`: a space between two operands when neither is a string."""
    printer = _Printer(budget)
    after_string = True
    for argument in arguments:
        is_string = isinstance(argument, str)
        if not is_string and not after_string:
            printer.write(" ")
        printer.value(argument, "v", Flags())
        after_string = is_string
    return printer.text()


def sprintln(arguments: Sequence[Value], budget: Budget) -> str:
    """Go's `Sprintln`: always a space between operands, and a line feed."""
    printer = _Printer(budget)
    for number, argument in enumerate(arguments):
        if number:
            printer.write(" ")
        printer.value(argument, "v", Flags())
    printer.write("\n")
    return printer.text()


def sprintf(template: str, arguments: Sequence[Value], budget: Budget) -> str:
    """Go's `Sprintf`."""
    printer = _Printer(budget)
    for item in directives(template, arguments):
        if isinstance(item, Directive):
            printer.value(arguments[item.argument], item.verb, item.flags)
        elif item.unused is None:
            printer.write(item.text)
        else:
            printer.extra(arguments[item.unused :])
    return printer.text()


class _Printer:
    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._pieces: list[str] = []

    def text(self) -> str:
        whole = "".join(self._pieces)
        if whole.isascii():
            return whole
        # Halves of a character that were cut apart may have met again.
        return decode_bytes(encode_bytes(whole))

    def write(self, text: str) -> None:
        self._budget.produce(len(text))
        self._pieces.append(text)

    def extra(self, arguments: Sequence[Value]) -> None:
        self.write("%!(EXTRA ")
        for number, argument in enumerate(arguments):
            if number:
                self.write(", ")
            if argument is None:
                self.write("<nil>")
            else:
                self.write(f"{type_name(argument)}=")
                self.value(argument, "v", Flags())
        self.write(")")

    def value(self, value: Value, verb: str, flags: Flags) -> None:
        """One value with one verb."""
        self._budget.step()
        if isinstance(value, Boxed):
            self._element(value.content, verb, flags)
        elif value is None or value is NOTHING:
            self._nil(verb, flags)
        elif verb == "T":
            self.write(_string(type_name(value), "s", flags) or "")
        elif isinstance(value, (Slice, dict)) and verb != "p":
            self._collection(value, verb, flags)
        else:
            text = _scalar(value, verb, flags)
            if text is None:
                self._bad_verb(value, verb, flags)
            else:
                self.write(text)

    def _nil(self, verb: str, flags: Flags) -> None:
        if verb in "Tv":
            self.write(pad("<nil>", flags))
        else:
            self.write(f"%!{verb}(<nil>)")

    def _element(self, content: Value, verb: str, flags: Flags) -> None:
        if content is not None:
            self.value(content, verb, flags)
        else:
            self.write("interface {}(nil)" if flags.sharp_v else "<nil>")

    def _bad_verb(self, value: Value, verb: str, flags: Flags) -> None:
        self.write(f"%!{verb}({type_name(value)}=")
        self.value(value, "v", flags)
        self.write(")")

    def _collection(self, value: Slice | dict[str, Value], verb: str, flags: Flags) -> None:
        go_syntax = flags.sharp_v
        separator = ", " if go_syntax else " "
        is_map = isinstance(value, dict)
        if go_syntax:
            self.write(type_name(value) + "{")
        else:
            self.write("map[" if is_map else "[")
        for number, key in enumerate(sorted(value) if isinstance(value, dict) else range(len(value))):
            if number:
                self.write(separator)
            if isinstance(value, dict):
                assert isinstance(key, str)
                self.value(key, verb, flags)
                self.write(":")
                self.value(boxed(value[key]), verb, flags)
            else:
                assert isinstance(key, int)
                self.value(value[key], verb, flags)
        self.write("}" if go_syntax else "]")


def _scalar(value: Value, verb: str, flags: Flags) -> str | None:
    """The text of anything but a collection; None when the verb does not suit it."""
    if isinstance(value, bool):
        return pad("true" if value else "false", flags) if verb in "tv" else None
    if isinstance(value, int):
        return format_integer(value, verb, flags, signed=not isinstance(value, Byte))
    if isinstance(value, float):
        return format_real(value, verb, flags)
    if isinstance(value, complex):
        return format_complex(value, verb, flags)
    if isinstance(value, (str, Number)):
        return _string(str(value), verb, flags)
    return None


def _string(text: str, verb: str, flags: Flags) -> str | None:
    if verb in "xX":
        return _hexadecimal(encode_bytes(text), verb, flags)
    if verb == "v":
        verb = "q" if flags.sharp_v else "s"
    if verb not in "sq":
        return None
    if flags.precision is not None:
        text = text[: flags.precision]
    if verb == "q":
        text = f"`{text}`" if flags.sharp and can_backquote(text) else quote(text, ascii_only=flags.plus)
    return pad(text, flags)


def _hexadecimal(data: bytes, verb: str, flags: Flags) -> str:
    if flags.precision is not None:
        data = data[: flags.precision]
    prefix = f"0{verb}" if flags.sharp else ""
    if not data:
        text = ""
    elif flags.space:
        text = " ".join(f"{prefix}{byte:02{verb}}" for byte in data)
    else:
        text = prefix + (data.hex() if verb == "x" else data.hex().upper())
    return pad(text, flags)
