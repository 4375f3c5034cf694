"""This process's own input and output."""

from __future__ import annotations

import sys

import pytest


def free_streams(config: pytest.Config) -> None:
    """Have them: pytest captures them from its start on."""
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.suspend_global_capture(in_=True)


def tell(text: str) -> None:
    """Write a line, or more, for users."""
    sys.stdout.write(f"{text}\n")


def complain(text: str) -> None:
    """Write what went wrong."""
    sys.stderr.write(f"{text}\n")
