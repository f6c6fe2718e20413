"""Pairs in memory: parts are views of what was decoded once."""

from __future__ import annotations

import numpy as np

from imageseg.pipeline.regions import Box
from imageseg.pipeline.whole import WholePair, WholeSamples


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


class _Readable:
    def __init__(self) -> None:
        self.read_so_far: list[int] = []

    def __len__(self) -> int:
        return 3

    def name(self, index: int) -> str:
        return f"picture {index}"

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        self.read_so_far.append(index)
        return _arrays()


def test_samples_are_decoded_when_they_are_opened() -> None:
    readable = _Readable()
    samples = WholeSamples(readable)
    assert len(samples) == 3
    assert samples.name(2) == "picture 2"
    assert readable.read_so_far == []
    assert samples.open(2).size == (5, 7)
    assert readable.read_so_far == [2]
