"""Drawn windows: spread as the usual steps spread them, and chosen by what their masks hold."""

from __future__ import annotations

import math
import random
from typing import Any

import albumentations as A
import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from whole_pair import WholePair

from imageseg.pipeline.crop import Box, RandomWindow

Array = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


def _noise(height: int, width: int, *, seed: int = 0) -> WholePair:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    return WholePair(image, rng.integers(0, 255, (height, width), np.uint8))


class _Counted(WholePair):
    """Counts how often its mask is read."""

    looks = 0

    def mask(self, box: Box) -> Array:
        self.looks += 1
        return super().mask(box)


DRAWS = 2000
LIMIT = 1.95 * math.sqrt(2 / DRAWS)  # Kolmogorov and Smirnov's, for two samples of this size, at a thousandth


def _draw(**arguments: Any) -> RandomWindow:
    return RandomWindow(**{"crop_size": (64, 96), "scale": (0.25, 1.5), "flip": 0.5, **arguments})


def _facts(image: Array, mask: Array) -> list[float]:
    """Of a crop of the coordinate image: where it is not padded, and what of the image its ends show.

    Coarsely: a value that very many crops have must not differ by how its ends were interpolated.
    """
    rows, columns = (np.flatnonzero((mask != 255).any(axis=axis)) for axis in (1, 0))
    seen = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(float)
    left, right = seen[0, [0, -1], 1]
    ends = [seen[0, 0, 0], seen[-1, 0, 0], min(left, right), max(left, right)]
    return [
        rows[0],
        rows[-1],
        columns[0],
        columns[-1],
        *(round(end / 8) for end in ends),
        round(10 * np.ptp(seen[:, 0, 0]) / max(1, len(rows) - 1)),
        float(right < left),
        round(50 * float((mask == 255).mean())),
    ]


def _distance(one: Floats, other: Floats) -> float:
    """Kolmogorov and Smirnov's: the largest difference of the two distributions."""
    values = np.sort(np.concatenate([one, other]))
    return float(
        np.abs(
            np.searchsorted(np.sort(one), values, side="right") / len(one)
            - np.searchsorted(np.sort(other), values, side="right") / len(other)
        ).max()
    )


def test_windows_are_spread_as_the_usual_steps_spread_them() -> None:
    height, width = 200, 240
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows, columns, rows], axis=-1).astype(np.uint8)
    mask = np.ones((height, width), np.uint8)
    usual = A.Compose(
        [
            A.RandomScale((-0.75, 0.5), area_for_downscale="image", mask_interpolation=cv2.INTER_NEAREST_EXACT, p=1),
            A.PadIfNeeded(64, 96, position="random", border_mode=cv2.BORDER_CONSTANT, fill_mask=255, p=1),
            A.RandomCrop(64, 96, p=1),
            A.HorizontalFlip(p=0.5),
        ]
    )
    # Given a seed, it seeds each step alike: then where a crop lies decides whether it is flipped.
    usual.set_random_state(np.random.default_rng(4), random.Random(4))
    crops = [usual(image=image, mask=mask) for _ in range(DRAWS)]
    theirs = np.array([_facts(crop["image"], crop["mask"]) for crop in crops])
    pair, draw = WholePair(image, mask), _draw()
    ours = np.array([_facts(*draw(pair, np.random.default_rng(seed)).cut(pair)) for seed in range(DRAWS)])
    distances = [_distance(ours[:, fact], theirs[:, fact]) for fact in range(ours.shape[1])]
    assert max(distances) < LIMIT, distances
    # And together: a window's size and its place in the image.
    for one, other in ((8, 4), (8, 6), (4, 6), (9, 4), (9, 10)):
        assert abs(np.corrcoef(ours[:, [one, other]].T)[0, 1] - np.corrcoef(theirs[:, [one, other]].T)[0, 1]) < 0.08


def test_scales_are_even() -> None:
    pair = _noise(50, 70)
    boxes = [_draw()(pair, np.random.default_rng(seed)).box for seed in range(DRAWS)]
    scales = np.array([64 / (box.bottom - box.top) for box in boxes])
    counts = np.histogram(scales, 10, (0.25, 1.5))[0]
    assert counts.sum() >= 0.99 * DRAWS
    expected = DRAWS / 10
    assert ((counts - expected) ** 2 / expected).sum() < 27.9, "chi square with 9 degrees of freedom, at a thousandth"


def test_every_place_is_as_likely() -> None:
    pair = _noise(20, 31)
    draw = _draw(crop_size=(10, 40), scale=(1.0, 1.0))
    boxes = [draw(pair, np.random.default_rng(seed)).box for seed in range(DRAWS)]
    for starts, places in (([box.top for box in boxes], range(11)), ([box.left for box in boxes], range(-9, 1))):
        counts = np.array([starts.count(place) for place in places])
        assert counts.sum() == DRAWS
        expected = DRAWS / len(places)
        assert ((counts - expected) ** 2 / expected).sum() < 29.6, (
            "chi square with 10 degrees of freedom, at a thousandth"
        )


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.0, 1.3, 2.0])
def test_pixels_are_those_of_the_usual_steps_but_for_interpolation(scale: float) -> None:
    """The image scaled as a whole and then cropped, at the same place."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (10, 12, 3), np.uint8)
    image = cv2.resize(coarse, (240, 200), interpolation=cv2.INTER_CUBIC)
    mask = np.kron(rng.integers(0, 9, (20, 24), np.uint8), np.ones((10, 10), np.uint8))
    pair = WholePair(image, mask)  # type: ignore[arg-type]
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    size = (int(240 * scale), int(200 * scale))
    scaled = cv2.resize(image, size, interpolation=way)
    scaled_mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
    same = 0
    for seed in range(60):
        window = _draw(scale=(scale, scale), flip=0.0, crop_size=(60, 80))(pair, np.random.default_rng(seed))
        found, labels = window.cut(pair)
        places = np.array(window.box[:2]) * scale
        top, left = np.round(places).astype(int)
        here = np.s_[top : top + 60, left : left + 80]
        # Half a pixel of the crop apart at most: places are whole pixels of the image here, of the scaled one there.
        assert np.abs(found.astype(float) - scaled[here]).mean() < 8
        assert (labels == scaled_mask[here]).mean() > 0.6
        if scale != 1.3 and np.abs(places - (top, left)).max() < 1e-9:
            same += 1
            assert np.array_equal(labels, scaled_mask[here])
            # At its ends, a window that grows does not see its neighbours.
            assert np.abs(found[2:-2, 2:-2].astype(int) - scaled[here][2:-2, 2:-2]).max() <= 2
    assert same >= {0.5: 5, 0.8: 1, 1.3: 0}.get(scale, 60)


def test_a_scale_of_a_half_never_shrinks_by_more_than_two() -> None:
    pair = WholePair(np.zeros((101, 121, 3), np.uint8), np.zeros((101, 121), np.uint8))
    draw = RandomWindow(crop_size=(100, 100), scale=(0.5, 0.5), flip=0.0)
    windows = [draw(pair, np.random.default_rng(seed)) for seed in range(100)]
    assert {window.shrink for window in windows} == {2.0}
    # Though what is seen of the small image has 50 pixels of the crop for 101 of its own here and there.
    assert any(place.bottom - place.top == 50 for _, place in (window.visible(pair.size) for window in windows))


def test_turning_and_leaning_are_even_either_way() -> None:
    pair = _noise(50, 70)
    drawn = [_draw(rotate=30, shear=10)(pair, np.random.default_rng(seed)) for seed in range(600)]
    for angles, most in (([window.rotate for window in drawn], 30), ([window.shear for window in drawn], 10)):
        even = np.linspace(-most, most, 600)
        assert _distance(np.array(angles), even) < 0.08
    assert abs(np.corrcoef([window.rotate for window in drawn], [window.shear for window in drawn])[0, 1]) < 0.15


# Windows that are chosen.


def _mostly(share: float) -> WholePair:
    """An image whose upper part is one class, the rest stripes of two others."""
    mask = np.zeros((100, 100), np.uint8)
    mask[int(100 * share) :] = 1
    mask[int(100 * share) :, ::2] = 2
    return WholePair(np.zeros((100, 100, 3), np.uint8), mask)


def _shares(mask: Array) -> float:
    counts = np.bincount(mask[mask != 255], minlength=1)
    return float(counts.max() / max(1, counts.sum()))


def test_crops_of_mostly_one_class_are_drawn_again() -> None:
    pair = _mostly(0.7)
    usual, choosy = (_draw(crop_size=(20, 20), scale=(1.0, 1.0), cat_max_ratio=ratio) for ratio in (None, 0.75))
    before, after = (
        [_shares(draw(pair, np.random.default_rng(seed)).cut(pair)[1]) for seed in range(300)]
        for draw in (usual, choosy)
    )
    assert np.mean(np.array(before) >= 0.75) > 0.5
    assert np.mean(np.array(after) >= 0.75) < 0.05, "ten tries rarely all fail"
    assert max(after) == 1, "but the last is taken"


def test_ignored_pixels_do_not_count_for_the_most_frequent_class() -> None:
    mask = np.full((100, 100), 255, np.uint8)
    mask[:, 40:60] = np.arange(20) // 10
    draw = _draw(crop_size=(100, 60), scale=(1.0, 1.0), cat_max_ratio=0.6)
    for seed in range(20):
        counted = _Counted(np.zeros((100, 100, 3), np.uint8), mask)
        draw(counted, np.random.default_rng(seed))
        assert counted.looks == 1, "two thirds are ignored, and half of the rest is each class"


def test_where_every_crop_is_of_one_class_one_is_taken() -> None:
    pair = _Counted(np.zeros((50, 50, 3), np.uint8), np.full((50, 50), 3, np.uint8))
    _draw(crop_size=(20, 20), cat_max_ratio=0.75)(pair, np.random.default_rng(0))
    assert pair.looks == 10


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(0, 9999),
    st.floats(0.3, 3),
    st.sampled_from([None, 0.5]),
)
def test_a_focused_window_holds_a_pixel_of_its_class(
    height: int, width: int, seed: int, scale: float, ratio: float | None
) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    mask[rng.integers(height), rng.integers(width)] = 7
    pair = WholePair(np.zeros((height, width, 3), np.uint8), mask)
    draw = _draw(crop_size=(12, 17), scale=(scale, scale), cat_max_ratio=ratio)
    window = draw(pair, np.random.default_rng(seed), focus=7)
    assert 7 in pair.mask(window.visible(pair.size)[0])
    for start, end, size in ((window.box.top, window.box.bottom, height), (window.box.left, window.box.right, width)):
        assert min(0, size - (end - start)) <= start <= max(0, size - (end - start)), "where any window may lie"


def test_every_pixel_of_a_class_and_every_place_around_it_is_focused_on() -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[10, 12], mask[40, 45] = 7, 7
    pair = WholePair(np.zeros((60, 60, 3), np.uint8), mask)
    draw = _draw(crop_size=(5, 5), scale=(1.0, 1.0))
    boxes = [draw(pair, np.random.default_rng(seed), focus=7).box for seed in range(1000)]
    counts = np.array(
        [
            [boxes.count(Box(r - i, c - j, r - i + 5, c - j + 5)) for i in range(5) for j in range(5)]
            for r, c in ((10, 12), (40, 45))
        ]
    )
    assert counts.sum() == 1000
    assert ((counts - 20) ** 2 / 20).sum() < 85.4, "chi square with 49 degrees of freedom, at a thousandth"


def test_a_class_that_is_not_there_gives_an_ordinary_window() -> None:
    pair = _mostly(0.5)
    boxes = {
        _draw(crop_size=(20, 20), scale=(1.0, 1.0))(pair, np.random.default_rng(seed), focus=9).box
        for seed in range(50)
    }
    assert len(boxes) > 40


def test_a_class_is_found_in_a_large_mask_though_it_is_one_pixel() -> None:
    mask = np.zeros((2000, 3000), np.uint8)
    mask[1001, 2003] = 7
    pair = WholePair(np.zeros((1, 1, 3), np.uint8), mask)
    draw = _draw(crop_size=(1, 1), scale=(1.0, 1.0))
    for seed in range(12):
        assert draw(pair, np.random.default_rng(seed), focus=7).box == Box(1001, 2003, 1002, 2004)
