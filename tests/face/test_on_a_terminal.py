"""What somebody sees who sits in front of a terminal while services start."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

PACKAGE = """
def run(plan):
    plan.add_service(
        name = "slow",
        config = ServiceConfig(
            image = "enclave-test/busybox:local",
            cmd = ["sh", "-c", "sleep 1; touch /ready; sleep 60"],
            ready_conditions = ReadyCondition(
                recipe = ExecRecipe(command = ["test", "-e", "/ready"]),
                field = "code", assertion = "==", target_value = 0, interval = "50ms", timeout = "30s",
            ),
        ),
    )
"""


def shown_on_a_terminal(command: list[str], directory: Path) -> str:
    """All that the command writes to a terminal of its own."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"} | {"CI": ""}
    process = subprocess.Popen(command, cwd=directory, env=environment, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    written = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not chunk:
            break
        written += chunk
    os.close(ours)
    assert process.wait(30) == 0, written.decode()
    return written.decode()


def test_one_live_line_tells_what_is_waited_for_and_goes(tmp_path: Path, on_engine: str):
    (tmp_path / "main.star").write_text(PACKAGE)
    (tmp_path / "test_slow.py").write_text("def test_it(enclave):\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", on_engine, "--enclave-package=main.star"]
    shown = shown_on_a_terminal(command, tmp_path)
    assert '1/1 add_service("slow")' in shown
    assert "waiting for slow $ test -e /ready → code == 0" in shown
    drawn, _, after = shown.rpartition("\x1b8")
    assert "enclave 0." in drawn, "the line tells how long it has been"
    assert after.startswith("\x1b[32m.") or after.startswith("."), "pytest goes on where it was"
    assert "1 passed" in after
