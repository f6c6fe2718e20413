"""Windows: pixels come from where they should, nothing else is read, and places are spread as the usual steps spread them."""

from __future__ import annotations

import math
import random
from typing import Any

import albumentations as A
import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from imageseg.pipeline.regions import Box
from imageseg.pipeline.whole import WholePair
from imageseg.pipeline.window import PADDING, Window, WindowDraw

Array = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


def _noise(height: int, width: int, *, seed: int = 0) -> WholePair:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    return WholePair(image, rng.integers(0, 255, (height, width), np.uint8))


def _smooth(height: int, width: int) -> WholePair:
    """Pictures of which any part is known: rows in red, columns in green, both twice as bright; the mask counts blocks."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([2 * rows, 2 * columns, np.full_like(rows, 200)], axis=-1)
    return WholePair(image.astype(np.uint8), (rows // 8 * 16 + columns // 8).astype(np.uint8))


def _all(pair: WholePair) -> tuple[Array, Array]:
    box = Box(0, 0, *pair.size)
    return pair.image(box), pair.mask(box)


class _Watched(WholePair):
    """Says what was read; decodes at half the size, as readers of JPEG can, where that is enough."""

    def __init__(self, pair: WholePair, *, halves: bool = False) -> None:
        super().__init__(*_all(pair))
        self.halves = halves
        self.read: list[tuple[str, Box, float]] = []

    def mask(self, box: Box) -> Array:
        self.read.append(("mask", box, 1.0))
        return super().mask(box)

    def image(self, box: Box, *, shrink: float = 1.0) -> Array:
        self.read.append(("image", box, shrink))
        image = super().image(box)
        if self.halves and shrink >= 2:
            half = (-(-image.shape[1] // 2), -(-image.shape[0] // 2))
            return cv2.resize(image, half, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
        return image


# What is seen, by hand.


def test_a_window_inside_is_seen_as_a_whole() -> None:
    window = Window(box=Box(10, 20, 30, 60), crop_size=(40, 80))
    assert window.seen((100, 100)) == (Box(10, 20, 30, 60), Box(0, 0, 40, 80))


def test_a_window_beyond_the_picture_sees_all_of_it_where_it_lies() -> None:
    window = Window(box=Box(-5, -10, 15, 30), crop_size=(40, 20))
    assert window.seen((10, 20)) == (Box(0, 0, 10, 20), Box(10, 5, 30, 15))


def test_of_a_picture_that_shrinks_to_nothing_a_pixel_is_left() -> None:
    window = Window(box=Box(0, -999, 1000, 1), crop_size=(10, 10))
    assert window.seen((1, 1)) == (Box(0, 0, 1, 1), Box(0, 9, 1, 10))
    image, mask = window.cut(WholePair(np.full((1, 1, 3), 7, np.uint8), np.full((1, 1), 3, np.uint8)))
    assert mask[0, 9] == 3
    assert (mask != 255).sum() == 1
    assert image[0, 9].tolist() == [7, 7, 7]
    assert (image == PADDING).all(axis=2).sum() == 99


def test_a_window_of_the_crops_own_size_is_a_copy() -> None:
    pair = _noise(30, 40)
    image, mask = Window(box=Box(3, 5, 23, 35), crop_size=(20, 30)).cut(pair)
    assert np.array_equal(image, _all(pair)[0][3:23, 5:35])
    assert np.array_equal(mask, _all(pair)[1][3:23, 5:35])
    image[:], mask[:] = 0, 0
    assert _all(pair)[0].any()
    assert _all(pair)[1].any()


# Every pixel against a sampler in float64.

sides = st.integers(1, 40)


@st.composite
def windows(draw: st.DrawFn, size: tuple[int, int], **further: Any) -> Window:
    """Boxes as WindowDraw places them: inside the picture, or around all of it, on each axis."""
    starts, box = [], []
    for length in size:
        side = draw(st.integers(1, 90))
        starts.append(draw(st.integers(min(0, length - side), max(0, length - side))))
        box.append(starts[-1] + side)
    return Window(box=Box(*starts, *box), crop_size=(draw(sides), draw(sides)), **further)


def _positions(seen: tuple[int, int], place: tuple[int, int]) -> Floats:
    """Where in the picture the middles of the crop's pixels lie, on one axis; middles of its own pixels are whole."""
    steps = np.arange(place[1] - place[0]) + 0.5
    return seen[0] + steps * (seen[1] - seen[0]) / (place[1] - place[0]) - 0.5


def _bilinear(values: Floats, positions: Floats, limits: tuple[int, int]) -> Floats:
    """Along the first axis; beyond ``limits`` the last value goes on."""
    inside = positions.clip(limits[0], limits[1] - 1)
    low = np.floor(inside).astype(int)
    high = np.minimum(low + 1, limits[1] - 1)
    share = (inside - low).reshape(-1, *[1] * (values.ndim - 1))
    return values[low] * (1 - share) + values[high] * share


def _by_area(values: Floats, seen: tuple[int, int], count: int) -> Floats:
    """Means over equal parts of ``seen`` along the first axis."""
    edges = np.linspace(*seen, count + 1)
    sums = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])
    low = np.floor(edges).astype(int).clip(0, len(values) - 1)
    until = sums[low] + (edges - low).reshape(-1, *[1] * (values.ndim - 1)) * values[low]
    return np.diff(until, axis=0) / (edges[1] - edges[0])


@settings(max_examples=200)
@given(st.data(), sides, sides, st.integers(0, 99))
def test_pixels_come_from_under_the_window(data: st.DataObject, height: int, width: int, seed: int) -> None:
    pair = _noise(height, width, seed=seed)
    window = data.draw(windows((height, width), flip=data.draw(st.booleans())))
    image, mask = window.cut(pair)
    assert image.shape == (*window.crop_size, 3)
    assert mask.shape == window.crop_size
    assert image.dtype == mask.dtype == np.uint8
    assert image.flags.c_contiguous
    assert mask.flags.c_contiguous
    if window.flip:
        image, mask = image[:, ::-1], mask[:, ::-1]
    seen, place = window.seen(pair.size)
    here = np.s_[place.top : place.bottom, place.left : place.right]
    outside = np.ones(mask.shape, bool)
    outside[here] = False
    assert (image[outside] == PADDING).all()
    assert (mask[outside] == 255).all()
    assert (mask[here] != 255).all()

    whole, labels = _all(pair)
    (rows, row_ends), (columns, column_ends) = (seen.top, seen.bottom), (seen.left, seen.right)
    down = _positions((rows, row_ends), (place.top, place.bottom))
    across = _positions((columns, column_ends), (place.left, place.right))
    factors = (row_ends - rows) / len(down), (column_ends - columns) / len(across)
    if min(factors) >= 1.25 and max(factors) < 2:
        doubled = [
            _positions((rows, row_ends), (2 * place.top, 2 * place.bottom)),
            _positions((columns, column_ends), (2 * place.left, 2 * place.right)),
        ]
        expected = _bilinear(whole.astype(float), doubled[0], (rows, row_ends)).swapaxes(0, 1)
        expected = _bilinear(expected, doubled[1], (columns, column_ends)).swapaxes(0, 1)
        expected = expected.reshape(len(down), 2, len(across), 2, 3).mean(axis=(1, 3))
    elif min(factors) >= 1.25:
        expected = _by_area(whole.astype(float), (rows, row_ends), len(down)).swapaxes(0, 1)
        expected = _by_area(expected, (columns, column_ends), len(across)).swapaxes(0, 1)
    else:
        expected = _bilinear(whole.astype(float), down, (rows, row_ends)).swapaxes(0, 1)
        expected = _bilinear(expected, across, (columns, column_ends)).swapaxes(0, 1)
    # OpenCV rounds its weights to 11 bits and each axis' results for itself.
    assert np.abs(image[here] - expected).max() <= 1.5
    nearest = [np.floor(positions + 0.5 + 1e-6).astype(int) for positions in (down, across)]
    ties = [np.abs(positions + 0.5 - np.round(positions + 0.5)) < 1e-3 for positions in (down, across)]
    sure = ~ties[0][:, None] & ~ties[1][None]
    assert np.array_equal(
        mask[here][sure], labels[nearest[0].clip(0, height - 1)][:, nearest[1].clip(0, width - 1)][sure]
    )


@pytest.mark.parametrize("side", [121, 149, 150, 183, 237])
def test_pixels_that_shrink_are_means_of_areas(side: int) -> None:
    """By one sample, by four or by OpenCV's own, beside means in float64, on a picture with edges and slopes."""
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (40, 40, 3), np.uint8), (240, 240), interpolation=cv2.INTER_CUBIC)
    image[60:120, 60:120] = 250
    pair = WholePair(image, np.zeros((240, 240), np.uint8))  # type: ignore[arg-type]
    found, _ = Window(box=Box(1, 2, 1 + side, 2 + side), crop_size=(120, 120)).cut(pair)
    expected = _by_area(image.astype(float), (1, 1 + side), 120).swapaxes(0, 1)
    expected = _by_area(expected, (2, 2 + side), 120).swapaxes(0, 1)
    differences = np.abs(found - expected)
    assert differences.mean() < 1.2
    assert np.quantile(differences, 0.99) < 12
    bilinear = cv2.resize(image[1 : 1 + side, 2 : 2 + side], (120, 120), interpolation=cv2.INTER_LINEAR)
    assert side < 180 or differences.mean() < 0.8 * np.abs(bilinear - expected).mean()


def _turned_positions(window: Window, size: tuple[int, int]) -> tuple[Floats, Floats]:
    """Rows and columns of the picture for each pixel of the crop, worked out with complex numbers."""
    seen, place = window.seen(size)
    per_row = (window.box.bottom - window.box.top) / window.crop_size[0]
    per_column = (window.box.right - window.box.left) / window.crop_size[1]
    rows, columns = np.mgrid[: window.crop_size[0], : window.crop_size[1]] + 0.5
    down = (rows - (place.top + place.bottom) / 2) * per_row
    across = (columns - (place.left + place.right) / 2) * per_column
    leant = across + down * math.tan(math.radians(window.shear))
    turned = (leant + 1j * down) * np.exp(-1j * math.radians(window.rotate))
    return (
        turned.imag + (seen.top + seen.bottom) / 2 - 0.5,
        turned.real + (seen.left + seen.right) / 2 - 0.5,
    )


@settings(max_examples=150)
@given(
    st.data(),
    st.integers(1, 80),
    st.integers(1, 80),
    st.floats(-180, 180) | st.sampled_from([90.0, -90.0, 180.0]),
    st.floats(-45, 45),
)
def test_turned_pixels_come_from_under_the_window(
    data: st.DataObject, height: int, width: int, rotate: float, shear: float
) -> None:
    assume(rotate or shear)
    pair = _smooth(height, width)
    window = data.draw(windows((height, width), rotate=rotate, shear=shear))
    image, mask = window.cut(pair)
    assert image.shape == (*window.crop_size, 3)
    assert mask.shape == window.crop_size
    rows, columns = _turned_positions(window, pair.size)
    # OpenCV rounds positions to a 32nd of a pixel; that near to a change, either side is right.
    sure = np.ones(mask.shape, bool)
    for positions, step in ((rows, 1), (columns, 1)):
        sure &= np.abs((positions + 0.5) / step - np.round((positions + 0.5) / step)) > 0.05
    inside = (rows > -0.5) & (rows < height - 0.5) & (columns > -0.5) & (columns < width - 0.5)
    assert (mask[sure & ~inside] == 255).all()
    nearest = [np.round(positions).astype(int) for positions in (rows, columns)]
    here = sure & inside
    assert (mask[here] == _all(pair)[1][nearest[0][here], nearest[1][here]]).all()
    shrink = max(
        (window.box.bottom - window.box.top) / window.crop_size[0],
        (window.box.right - window.box.left) / window.crop_size[1],
    )
    margin = 2 * shrink + 2
    deep = (rows > margin) & (rows < height - margin) & (columns > margin) & (columns < width - margin)
    for channel, positions in ((0, rows), (1, columns)):
        assert np.abs(image[deep, channel] - 2 * positions[deep]).max(initial=0) <= 2 * 0.5 + 0.5
    far = (rows < -margin) | (rows > height + margin) | (columns < -margin) | (columns > width + margin)
    assert (image[far] == PADDING).all()


@pytest.mark.parametrize("rotate", [0.01, 30.0, 45.0, 90.0])
@pytest.mark.parametrize("side", [4, 20, 47])
def test_at_its_ends_a_turned_window_sees_the_pixels_beside_it(rotate: float, side: int) -> None:
    pair = _smooth(100, 100)
    window = Window(box=Box(30, 30, 30 + side, 30 + side), crop_size=(20, 20), rotate=rotate)
    image, _ = window.cut(pair)
    for channel, positions in enumerate(_turned_positions(window, pair.size)):
        assert np.abs(image[..., channel] - 2 * positions).max() <= 1.5


@given(st.data(), st.integers(1, 5), st.integers(1, 5), st.floats(-180, 180), st.floats(-60, 60))
def test_small_pictures_do_not_leave_turned_windows(
    data: st.DataObject, height: int, width: int, rotate: float, shear: float
) -> None:
    window = data.draw(windows((height, width), rotate=rotate, shear=shear))
    assume(window.box.bottom - window.box.top <= 2 * window.crop_size[0])
    assume(window.box.right - window.box.left <= 2 * window.crop_size[1])
    mask = window.cut(WholePair(np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)))[1]
    assert (mask == 0).any() or height * width <= 4


def test_a_quarter_turn_is_one_by_hand() -> None:
    pair = _noise(9, 9)
    image, mask = Window(box=Box(0, 0, 9, 9), crop_size=(9, 9), rotate=90).cut(pair)
    assert np.array_equal(mask, np.rot90(_all(pair)[1], -1)), "clockwise"
    assert np.array_equal(image, np.rot90(_all(pair)[0], -1))


# What is read.


@given(st.data(), st.integers(1, 60), st.integers(1, 60), st.sampled_from([0.0, 30.0]))
def test_only_what_lies_under_the_window_is_read(data: st.DataObject, height: int, width: int, rotate: float) -> None:
    pair = _Watched(_noise(height, width))
    window = data.draw(windows((height, width), rotate=rotate))
    window.cut(pair)
    assert [kind for kind, _, _ in pair.read] == ["image", "mask"]
    seen, place = window.seen(pair.size)
    for _, box, _ in pair.read:
        assert 0 <= box.top < box.bottom <= height
        assert 0 <= box.left < box.right <= width
        if not rotate:
            assert box == seen
    if not rotate:
        told = (
            (seen.bottom - seen.top) / (place.bottom - place.top),
            (seen.right - seen.left) / (place.right - place.left),
        )
        assert pair.read[0][2] == max(1, min(told))


@pytest.mark.parametrize("rotate", [0.0, 20.0])
def test_a_reader_may_give_smaller_pictures_when_they_are_shrunk(rotate: float) -> None:
    smooth = _smooth(120, 120)
    for side in (60, 83, 120):
        window = Window(box=Box(0, 0, side, side), crop_size=(30, 30), rotate=rotate)
        halved = _Watched(smooth, halves=True)
        image, mask = window.cut(halved)
        expected, labels = window.cut(smooth)
        assert halved.read[0][2] >= 2
        assert np.array_equal(mask, labels)
        inner = np.s_[8:-8, 8:-8] if rotate else np.s_[:, :]
        assert np.abs(image[inner].astype(int) - expected[inner]).max() <= 2


# Where windows lie, beside the usual steps.

DRAWS = 2000
LIMIT = 1.95 * math.sqrt(2 / DRAWS)  # Kolmogorov and Smirnov's, for two samples of this size, at a thousandth


def _draw(**arguments: Any) -> WindowDraw:
    return WindowDraw(**{"crop_size": (64, 96), "scale": (0.25, 1.5), "flip": 0.5, **arguments})


def _facts(image: Array, mask: Array) -> list[float]:
    """Of a crop of the coordinate picture: where it is not padded, and what of the picture its ends show.

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
    # Given a seed, it seeds each step alike: then where a crop lies decides whether it is mirrored.
    usual.set_random_state(np.random.default_rng(4), random.Random(4))
    crops = [usual(image=image, mask=mask) for _ in range(DRAWS)]
    theirs = np.array([_facts(crop["image"], crop["mask"]) for crop in crops])
    pair, draw = WholePair(image, mask), _draw()
    ours = np.array([_facts(*draw(pair, np.random.default_rng(seed)).cut(pair)) for seed in range(DRAWS)])
    distances = [_distance(ours[:, fact], theirs[:, fact]) for fact in range(ours.shape[1])]
    assert max(distances) < LIMIT, distances
    # And together: a window's size and its place in the picture.
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
    """The picture scaled as a whole and then cropped, at the same place."""
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
        # Half a pixel of the crop apart at most: places are whole pixels of the picture here, of the scaled one there.
        assert np.abs(found.astype(float) - scaled[here]).mean() < 8
        assert (labels == scaled_mask[here]).mean() > 0.6
        if scale != 1.3 and np.abs(places - (top, left)).max() < 1e-9:
            same += 1
            assert np.array_equal(labels, scaled_mask[here])
            # At its ends, a window that grows does not see its neighbours.
            assert np.abs(found[2:-2, 2:-2].astype(int) - scaled[here][2:-2, 2:-2]).max() <= 2
    assert same >= {0.5: 5, 0.8: 1, 1.3: 0}.get(scale, 60)


def test_turning_and_leaning_are_even_either_way() -> None:
    pair = _noise(50, 70)
    drawn = [_draw(rotate=30, shear=10)(pair, np.random.default_rng(seed)) for seed in range(600)]
    for angles, most in (([window.rotate for window in drawn], 30), ([window.shear for window in drawn], 10)):
        even = np.linspace(-most, most, 600)
        assert _distance(np.array(angles), even) < 0.08
    assert abs(np.corrcoef([window.rotate for window in drawn], [window.shear for window in drawn])[0, 1]) < 0.15


# Windows that are chosen.


def _mostly(share: float) -> WholePair:
    """A picture whose upper part is one class, the rest stripes of two others."""
    mask = np.zeros((100, 100), np.uint8)
    mask[int(100 * share) :] = 1
    mask[int(100 * share) :, ::2] = 2
    return WholePair(np.zeros((100, 100, 3), np.uint8), mask)


def _shares(mask: Array) -> float:
    counts = np.bincount(mask[mask != 255], minlength=1)
    return float(counts.max() / max(1, counts.sum()))


def test_crops_of_mostly_one_class_are_drawn_anew() -> None:
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
    pair = WholePair(np.zeros((100, 100, 3), np.uint8), mask)
    draw = _draw(crop_size=(100, 60), scale=(1.0, 1.0), cat_max_ratio=0.6)
    for seed in range(20):
        watched = _Watched(pair)
        draw(watched, np.random.default_rng(seed))
        assert len(watched.read) == 1, "two thirds are ignored, and half of the rest is each class"


def test_where_every_crop_is_of_one_class_one_is_taken() -> None:
    pair = WholePair(np.zeros((50, 50, 3), np.uint8), np.full((50, 50), 3, np.uint8))
    reads = _Watched(pair)
    _draw(crop_size=(20, 20), cat_max_ratio=0.75)(reads, np.random.default_rng(0))
    assert len(reads.read) == 10


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
    assert 7 in pair.mask(window.seen(pair.size)[0])
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
