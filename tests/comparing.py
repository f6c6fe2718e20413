"""How the tests of the networks compare tensors."""

from __future__ import annotations

from torch import Tensor


def relative(found: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the largest expected value: logits of random networks reach thousands."""
    return float(((found - expected).abs().max() / expected.abs().max()).detach())
