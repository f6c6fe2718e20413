"""Pairs in memory: parts are views."""

from __future__ import annotations

import numpy as np

from imageseg.pipeline.regions import Box
from imageseg.pipeline.whole import WholePair


def _arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (5, 7, 3), np.uint8), rng.integers(0, 9, (5, 7), np.uint8)


def test_parts_are_views() -> None:
    image, mask = _arrays()
    pair = WholePair(image, mask)
    assert pair.size == (5, 7)
    box = Box(1, 2, 4, 7)
    for part, whole in ((pair.image(box, shrink=3.0), image), (pair.mask(box), mask)):
        assert np.array_equal(part, whole[1:4, 2:7])
        assert np.shares_memory(part, whole)
