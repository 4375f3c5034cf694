"""What reports tell of an engine that could not be had."""

from __future__ import annotations

from pytest_enclave.errors import EngineUnavailable
from pytest_enclave.report.facts import fact_lines
from pytest_enclave.report.fitting import Block
from pytest_enclave.report.look import Look
from pytest_enclave.report.story import Story


def unavailable_story(error: EngineUnavailable, look: Look) -> Story:
    """All that was tried, one by one, and why it did not do."""
    tried = fact_lines([(f"tried {what}", why) for what, why in error.tried], look)
    return Story(error.message, error.location, None, (Block(tuple(tried)),), error.remedy)
