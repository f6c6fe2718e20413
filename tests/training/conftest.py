"""What tests of training share: the same random numbers each time, whichever test came before."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
