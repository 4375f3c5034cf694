"""html, js and urlquery: text made safe for a place in a page, a script or a URL, as Go's text/template does it."""

from __future__ import annotations

import re

from pytest_enclave.golang.template.values import encode_bytes

__all__ = ["escape_html", "escape_javascript", "escape_query"]

_HTML = {'"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;", "\x00": "\ufffd"}
_HTML_SPECIAL = re.compile("[\"'&<>\x00]")
_SCRIPT_SPECIAL = re.compile("[\x00-\x1f\\\\'\"<>&=]|[^\x00-\x7f]")
_PLAIN_IN_QUERY = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")


def escape_html(text: str) -> str:
    """Quotes, angle brackets and ampersands as entities."""
    return _HTML_SPECIAL.sub(lambda found: _HTML[found.group()], text)


def escape_javascript(text: str) -> str:
    """What could end a string or an element escaped; printable characters beyond ASCII stay."""
    return _SCRIPT_SPECIAL.sub(lambda found: _script_escape(found.group()), text)


def escape_query(text: str) -> str:
    """Percent-encoding for the query of a URL, with `+` for a space."""
    return "".join(
        chr(byte) if byte in _PLAIN_IN_QUERY else "+" if byte == 0x20 else f"%{byte:02X}" for byte in encode_bytes(text)
    )


def _script_escape(char: str) -> str:
    if char in "\\'\"":
        return "\\" + char
    is_stray_byte = "\udc80" <= char <= "\udcff"
    if ord(char) >= 0x80 and (char.isprintable() or is_stray_byte):
        return char
    return f"\\u{ord(char):04X}"
