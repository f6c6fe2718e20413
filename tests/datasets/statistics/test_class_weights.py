"""The three rules, by hand, at their ends, and against SegNet's published weights on the real masks."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imageseg.datasets.statistics.class_weights import effective_number, enet, median_frequency


def test_median_frequency_by_hand() -> None:
    """Two images of 100 valid pixels; the third class is in the second only.

    Frequencies: 120 / 200, 70 / 200, 10 / 100; their median is 0.35.
    """
    pixels, image_pixels = np.array([120, 70, 10, 0]), np.array([200, 200, 100, 0])
    weights = median_frequency(pixels, image_pixels)
    assert weights[:3] == pytest.approx([0.35 / 0.6, 1.0, 3.5])
    assert math.isnan(weights[3])


def test_enet_by_hand() -> None:
    weights = enet(np.array([90, 10, 0]))
    assert weights[:2] == pytest.approx([1 / math.log(1.92), 1 / math.log(1.12)])
    assert math.isnan(weights[2])
    assert enet(np.array([1, 10**9]))[0] == pytest.approx(50.5, abs=0.1)  # the paper's range: up to 50
    assert enet(np.array([5]))[0] == pytest.approx(1.42, abs=0.01)


def test_effective_number_by_hand() -> None:
    """beta 0.5: 1 image counts 1, 2 count 1.5, 3 count 1.75; weights are their inverses, scaled to a mean of 1."""
    raw = np.array([1, 1 / 1.5, 1 / 1.75])
    weights = effective_number(np.array([1, 2, 3, 0]), beta=0.5)
    assert weights[:3] == pytest.approx(raw / raw.mean())
    assert math.isnan(weights[3])
    assert effective_number(np.array([1, 50, 900]), beta=0.0) == pytest.approx([1, 1, 1])
    inverse = 1 / np.array([1, 50, 900])
    assert effective_number(np.array([1, 50, 900]), beta=1 - 1e-9) == pytest.approx(inverse / inverse.mean(), rel=1e-4)


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**5)), min_size=1, max_size=20))
def test_weights_are_positive_where_a_class_occurs_and_nan_elsewhere(classes: list[tuple[int, int]]) -> None:
    pixels = np.array([pixels for pixels, _ in classes])
    images = np.array([count for _, count in classes])
    for weights, occurs in (
        (median_frequency(pixels, pixels * 2), pixels > 0),
        (enet(pixels), pixels > 0),
        (effective_number(images), images > 0),
    ):
        assert np.isnan(weights[~occurs]).all()
        assert (weights[occurs] > 0).all()
        assert np.isfinite(weights[occurs]).all()


@given(st.lists(st.integers(1, 10**9), min_size=2, max_size=20))
def test_rarer_classes_weigh_more(pixels: list[int]) -> None:
    order = np.argsort(pixels)
    for weights in (enet(np.array(pixels)), median_frequency(np.array(pixels), np.full(len(pixels), 10**10))):
        assert (np.diff(weights[order]) <= 1e-12).all()


# class_weighting in the prototxt files of the SegNet tutorial, and the twelfth, for void, that ports of it carry.
SEGNET = [0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, 9.6446, 1.8418, 0.6823, 6.2478, 7.3614, 1.0974]


@pytest.mark.samples
def test_segnets_weights_on_the_masks_that_they_were_made_for(samples: Path) -> None:
    """Void is a class of its own there: 12 classes, all pixels valid.

    The weight of void comes out to its last digit, ten of the others within 11 %. The sign's does not: 3.53, not 9.64. It cannot
    be had from these masks with any denominator; SegNet's authors must have counted other ones.
    """
    pixels, image_pixels = np.zeros(12, np.int64), np.zeros(12, np.int64)
    for path in sorted((samples / "camvid" / "masks" / "train").glob("*.png")):
        with Image.open(path) as mask:
            counts = np.bincount(np.asarray(mask).ravel(), minlength=12)
        pixels += counts
        image_pixels += np.where(counts > 0, counts.sum(), 0)
    weights = median_frequency(pixels, image_pixels)
    assert round(float(weights[11]), 4) == SEGNET[11]
    away = weights / SEGNET - 1
    assert np.abs(np.delete(away, 6)).max() == pytest.approx(0.105, abs=0.001)  # bicyclist
    assert np.median(np.abs(away)) < 0.04
    assert weights[6] == pytest.approx(3.533, abs=0.001)
