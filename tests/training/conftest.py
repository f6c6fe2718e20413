"""What tests of training share: the same random numbers each time, whichever test came before."""

from collections.abc import Callable

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Returns the lines that a user of the command line would have read so far."""
    caplog.set_level("INFO", logger="imageseg")
    return lambda: [record.getMessage() for record in caplog.records if record.name.startswith("imageseg")]
