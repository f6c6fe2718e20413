"""Comparison of tensors in tests of the networks."""

from __future__ import annotations

from torch import Tensor


def relative(found: Tensor, expected: Tensor) -> float:
    """The largest difference relative to the largest expected value, because logits of random networks reach thousands."""
    return float(((found - expected).abs().max() / expected.abs().max()).detach())
