"""Windows: pixels come from where they should, and nothing else is read."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from whole_pair import WholePair

from imageseg.pipeline.crop import PADDING, Box, Window

Array = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


def _noise(height: int, width: int, *, seed: int = 0) -> WholePair:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    return WholePair(image, rng.integers(0, 255, (height, width), np.uint8))


def _smooth(height: int, width: int) -> WholePair:
    """Images of which any part is known: rows in red, columns in green, both twice as bright; the mask counts blocks."""
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


def test_a_window_inside_is_completely_visible() -> None:
    window = Window(box=Box(10, 20, 30, 60), crop_size=(40, 80))
    assert window.visible((100, 100)) == (Box(10, 20, 30, 60), Box(0, 0, 40, 80))


def test_a_window_beyond_the_image_sees_all_of_it_where_it_lies() -> None:
    window = Window(box=Box(-5, -10, 15, 30), crop_size=(40, 20))
    assert window.visible((10, 20)) == (Box(0, 0, 10, 20), Box(10, 5, 30, 15))


def test_of_an_image_that_shrinks_to_nothing_a_pixel_is_left() -> None:
    window = Window(box=Box(0, -999, 1000, 1), crop_size=(10, 10))
    assert window.visible((1, 1)) == (Box(0, 0, 1, 1), Box(0, 9, 1, 10))
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
    """Boxes as RandomWindow places them: inside the image, or around all of it, on each axis."""
    starts, box = [], []
    for length in size:
        side = draw(st.integers(1, 90))
        starts.append(draw(st.integers(min(0, length - side), max(0, length - side))))
        box.append(starts[-1] + side)
    return Window(box=Box(*starts, *box), crop_size=(draw(sides), draw(sides)), **further)


def _positions(seen: tuple[int, int], place: tuple[int, int]) -> Floats:
    """Where in the image the middles of the crop's pixels lie, on one axis; middles of its own pixels are whole."""
    steps = np.arange(place[1] - place[0]) + 0.5
    return seen[0] + steps * (seen[1] - seen[0]) / (place[1] - place[0]) - 0.5


def _bilinear(values: Floats, positions: Floats, limits: tuple[int, int]) -> Floats:
    """Along the first axis; beyond ``limits`` the last value continues."""
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
    seen, place = window.visible(pair.size)
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
    """By one sample, by four or by OpenCV's own, beside means in float64, on an image with edges and slopes."""
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
    """Rows and columns of the image for each pixel of the crop, worked out with complex numbers."""
    seen, place = window.visible(size)
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
def test_rotated_pixels_come_from_under_the_window(
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
def test_at_its_ends_a_rotated_window_sees_the_pixels_beside_it(rotate: float, side: int) -> None:
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
    seen, _ = window.visible(pair.size)
    for _, box, _ in pair.read:
        assert 0 <= box.top < box.bottom <= height
        assert 0 <= box.left < box.right <= width
        if not rotate:
            assert box == seen
    box, crop = window.box, window.crop_size
    assert pair.read[0][2] == max(1, min((box.bottom - box.top) / crop[0], (box.right - box.left) / crop[1]))


@pytest.mark.parametrize("rotate", [0.0, 20.0])
def test_a_reader_may_give_smaller_images_when_they_are_shrunk(rotate: float) -> None:
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
