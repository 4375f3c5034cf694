"""Seconds and bytes as texts, with their units."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A measured time: `12 ms`, `0.41 s`, `4.2 s`, `41 s`, `2 min 5 s`."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 0.995:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def setting(seconds: float) -> str:
    """A time that somebody chose, exactly: `30 s`, `0.5 s`."""
    return f"{seconds:g} s"


def size(count: int) -> str:
    """A number of bytes in decimal units, as registries count them: `512 B`, `4.1 MB`, `138 MB`."""
    if count < 1000:
        return f"{count} B"
    amount, units = count / 1000, ["kB", "MB", "GB", "TB"]
    while amount >= 999.5 and len(units) > 1:
        amount /= 1000
        units.pop(0)
    unit = units[0]
    return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"
