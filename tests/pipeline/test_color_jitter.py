"""color jitter: one pass beside the four of Albumentations, and beside float64."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
from albumentations.augmentations.pixel import functional as theirs
from hypothesis import given
from hypothesis import strategies as st

from imageseg.pipeline.color_jitter import jittered, recolored

factors = st.floats(0.7, 1.3)


def _picture(low: int, high: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (20, 30, 3), np.uint8)


def test_factors_of_one_and_no_turn_keep_every_color() -> None:
    image = _picture(0, 256)
    assert np.array_equal(recolored(image, brightness=1, contrast=1, saturation=1, hue=0), image)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # One pixel (100, 50, 200) beside one black: gray 0.299 * 100 + 0.587 * 50 + 0.114 * 200 = 82.05; mean 41.025.
        ({"brightness": 1.2}, [120, 60, 240]),
        ({"brightness": 2.0}, [200, 100, 255]),
        ({"saturation": 0.5}, [91, 66, 141]),
        ({"contrast": 0.5}, [71, 46, 121]),
        ({"saturation": 0.0}, [82, 82, 82]),
        ({"contrast": 0.0}, [41, 41, 41]),
        ({"hue": 1 / 3}, [200, 100, 50]),
    ],
)
def test_a_color_by_hand(change: dict[str, float], expected: list[int]) -> None:
    image = np.array([[[100, 50, 200], [0, 0, 0]]], np.uint8)
    changed = recolored(image, **{"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0, **change})
    assert changed.dtype == np.uint8
    assert np.abs(changed[0, 0].astype(int) - expected).max() <= 1


@given(factors, factors, factors, st.permutations(range(3)), st.integers(0, 99))
def test_colors_that_are_not_cut_are_those_of_the_usual_passes_in_any_order(
    brightness: float, contrast: float, saturation: float, order: list[int], seed: int
) -> None:
    image = _picture(90, 150, seed)
    passes = [
        (theirs.adjust_brightness_torchvision, brightness),
        (theirs.adjust_contrast_torchvision, contrast),
        (theirs.adjust_saturation_torchvision, saturation),
    ]
    expected = image
    for index in order:
        adjust, factor = passes[index]
        expected = adjust(expected, factor)
    found = recolored(image, brightness=brightness, contrast=contrast, saturation=saturation, hue=0)
    # Theirs rounds after each pass, one of them down, and a contrast's mean is that of rounded grays.
    assert np.abs(found.astype(int) - expected).max() <= 4


@given(factors, factors, factors, st.floats(-0.1, 0.1), st.integers(0, 99))
def test_all_in_one_is_the_four_in_float64(
    brightness: float, contrast: float, saturation: float, hue: float, seed: int
) -> None:
    image = _picture(0, 256, seed)
    grey = np.array([0.299, 0.587, 0.114])
    values = image * brightness
    values = contrast * values + (1 - contrast) * (values @ grey).mean()
    values = saturation * values + (1 - saturation) * (values @ grey)[..., None]
    middle = values.mean(axis=-1, keepdims=True)
    away = values - middle
    # Turned within the plane of equal sums: its second axis is the cross product with that of the grays.
    across = np.cross(np.ones(3) / math.sqrt(3), away)
    values = middle + math.cos(2 * math.pi * hue) * away + math.sin(2 * math.pi * hue) * across
    found = recolored(image, brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)
    # OpenCV's weights are whole 1024ths.
    assert np.abs(found - values.clip(0, 255)).max() <= 1.5


@pytest.mark.parametrize("hue", [-0.1, -0.03, 0.05, 0.1])
def test_hues_turn_as_in_hsv(hue: float) -> None:
    colours = [colorsys.hsv_to_rgb(start / 12, 0.5, 0.7) for start in range(12)]
    image = (255 * np.array([colours])).round().astype(np.uint8)
    changed = recolored(image, brightness=1, contrast=1, saturation=1, hue=hue)
    for before, after in zip(image[0], changed[0], strict=True):
        turned = (colorsys.rgb_to_hsv(*after / 255)[0] - colorsys.rgb_to_hsv(*before / 255)[0] - hue + 0.5) % 1 - 0.5
        assert abs(turned) < 3 / 360


def test_jitter_draws_within_its_strength_and_evenly() -> None:
    white = np.full((2, 2, 3), 100, np.uint8)
    values = np.array([jittered(white, 0.3, np.random.default_rng(seed))[0, 0, 0] for seed in range(2000)])
    assert 70 <= values.min() <= 72
    assert 128 <= values.max() <= 130
    assert 98.5 < values.mean() < 101.5, "of grey pictures only brightness changes"


def test_the_image_is_left_as_it_was() -> None:
    image = _picture(0, 256)
    before = image.copy()
    jittered(image, 1.0, np.random.default_rng(0))
    assert np.array_equal(image, before)
