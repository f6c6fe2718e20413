"""Tests here use the fixtures for networks, and read what is logged."""

from collections.abc import Callable, Iterator

import pytest
from network_fixtures import any_algorithm, forgotten_warnings, one_thread, randomize

__all__ = ["any_algorithm", "forgotten_warnings", "one_thread", "randomize"]


@pytest.fixture
def log_lines(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """Return the lines that imageseg has logged since the last call."""

    def lines() -> list[str]:
        messages = caplog.messages
        caplog.clear()
        return messages

    with caplog.at_level("INFO", logger="imageseg"):
        yield lines
