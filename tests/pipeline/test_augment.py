"""Augmentation: the same seed gives the same bytes, masks stay masks, and images stay aligned with them."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from whole_pair import WholePair

from imageseg.batch import Sample, stack
from imageseg.errors import InputError
from imageseg.pipeline.augment import Augmentation
from imageseg.pipeline.epoch_order import Draw
from imageseg.pipeline.stream import AugmentedSamples

Array = npt.NDArray[np.uint8]
PADDING = [124, 116, 104]


def _blocks(height: int, width: int, *, seed: int = 0, classes: int = 5, block: int = 8) -> Array:
    """A mask of square blocks; class 0 does not occur, so that a zero can only be a fault."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(1, classes + 1, (-(-height // block), -(-width // block)), dtype=np.uint8)
    return np.kron(coarse, np.ones((block, block), np.uint8))[:height, :width]


def _shown(mask: Array) -> Array:
    """An image that shows its mask: class c has the gray value 40 c."""
    return np.repeat((40 * mask.astype(int) % 256).astype(np.uint8)[:, :, None], 3, axis=2)


def _inner(mask: Array) -> npt.NDArray[np.bool_]:
    """Pixels two or more away from any change of the mask and from its border."""
    window = np.ones((5, 5), np.uint8)
    constant = cv2.erode(mask, window) == cv2.dilate(mask, window)
    constant[:2] = constant[-2:] = False
    constant[:, :2] = constant[:, -2:] = False
    return constant


class _Noise:
    """Images whose every crop is another one."""

    def __len__(self) -> int:
        return 400

    def open(self, index: int) -> WholePair:
        rng = np.random.default_rng(1)  # the same image each time: what differs is the augmentation's doing
        return WholePair(
            rng.integers(0, 256, (80, 96, 3), dtype=np.uint8), rng.integers(0, 9, (80, 96), dtype=np.uint8)
        )

    def name(self, index: int) -> str:
        return str(index)


def _digests(num_workers: int, epoch: int) -> list[str]:
    samples = AugmentedSamples(_Noise(), Augmentation(crop_size=(16, 16), scale=(1.0, 2.0)), seed=11)
    draws = [[Draw(epoch, index) for index in range(start, start + 8)] for start in range(0, 400, 8)]
    loader: DataLoader[Sample] = DataLoader(samples, batch_sampler=draws, num_workers=num_workers, collate_fn=stack)
    return [
        hashlib.sha256(image.numpy().tobytes() + mask.numpy().tobytes()).hexdigest()
        for batch in loader
        for image, mask in zip(batch["image"], batch["mask"], strict=True)
    ]


def test_400_samples_in_2_epochs_are_800_augmentations_with_any_number_of_workers() -> None:
    """Left to itself, Albumentations 2.0.8 gives every worker the same state, and every epoch the one before's."""
    alone = [_digests(0, epoch) for epoch in range(2)]
    assert len(set(alone[0] + alone[1])) == 800
    for num_workers in (1, 2):
        assert [_digests(num_workers, epoch) for epoch in range(2)] == alone


def test_the_same_seed_gives_the_same_bytes_whatever_came_before() -> None:
    mask = _blocks(50, 60)
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    one, other = Augmentation(crop_size=(32, 40)), Augmentation(crop_size=(32, 40))
    other(WholePair(image, mask), seed=99)
    for seed in range(5):
        for first, second in zip(
            one(WholePair(image, mask), seed=seed), other(WholePair(image, mask), seed=seed), strict=True
        ):
            assert first.tobytes() == second.tobytes()


def test_what_is_augmented_stays_unchanged() -> None:
    mask = _blocks(50, 60)
    image = _shown(mask)
    kept = image.copy(), mask.copy()
    for seed in range(5):
        Augmentation(crop_size=(32, 40))(WholePair(image, mask), seed=seed)
    assert np.array_equal(image, kept[0])
    assert np.array_equal(mask, kept[1])


@settings(max_examples=60)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    crop=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    scale=st.sampled_from([(1.0, 1.0), (0.5, 2.0), (0.25, 0.5), (1.5, 3.0)]),
    seed=st.integers(0, 2**32 - 1),
)
def test_masks_hold_what_they_held_or_padding_and_match_their_images(
    height: int, width: int, crop: tuple[int, int], scale: tuple[float, float], seed: int
) -> None:
    mask = _blocks(height, width, seed=seed)
    augment = Augmentation(crop_size=crop, scale=scale, color_jitter=0)
    image, found = augment(WholePair(_shown(mask), mask), seed=seed)
    assert image.shape == (*crop, 3)
    assert found.shape == crop
    assert image.dtype == found.dtype == np.uint8
    assert image.flags.c_contiguous
    assert found.flags.c_contiguous
    assert set(np.unique(found)) <= {*np.unique(mask), 255}
    padded = found == 255
    inner = _inner(found)
    assert (image[inner & padded] == PADDING).all()
    assert (image[inner & ~padded] == _shown(found)[inner & ~padded]).all()
    if scale == (1.0, 1.0):
        assert (image[~padded] == _shown(found)[~padded]).all()
        assert (image[padded] == PADDING).all()


# Any image, any mask, every step: the image shows its mask in red, and what is no padding by green, which padding has not.
INSIDE, FILLED = 7, 116

sizes = st.tuples(st.integers(1, 41), st.integers(1, 41))
seeds = st.integers(0, 2**32 - 1)
scales = st.tuples(st.floats(0.2, 3), st.floats(0.2, 3)).map(lambda pair: (min(pair), max(pair)))


@st.composite
def masks(draw: st.DrawFn, size: st.SearchStrategy[tuple[int, int]] = sizes) -> Array:
    """Blocks of any values, 0 and 255 among them; single pixels to one block that fills the mask."""
    height, width = draw(size)
    values = np.array(draw(st.lists(st.integers(0, 255), min_size=1, max_size=6)), np.uint8)
    rng = np.random.default_rng(draw(seeds))
    block = draw(st.integers(1, 12))
    coarse = rng.choice(values, (-(-height // block), -(-width // block)))
    return np.kron(coarse, np.ones((block, block), np.uint8))[:height, :width]


def _showing(mask: Array) -> Array:
    return np.stack([mask, np.full_like(mask, INSIDE), np.full_like(mask, 255)], axis=-1)


def _augmented(mask: Array, *, seed: int, **arguments: Any) -> tuple[Array, Array]:
    """Image and mask after the steps that ``arguments`` leave on, and what holds for any of them."""
    steps: dict[str, Any] = {
        "crop_size": mask.shape,
        "scale": (1.0, 1.0),
        "flip": 0.0,
        "color_jitter": 0.0,
        **arguments,
    }
    image, found = Augmentation(**steps)(WholePair(_showing(mask), mask), seed=seed)
    assert found.shape == image.shape[:2] == tuple(steps["crop_size"])
    assert image.shape[2] == 3
    assert image.dtype == found.dtype == np.uint8
    assert set(np.unique(found)) <= {*np.unique(mask), 255}
    if not steps["color_jitter"]:
        assert (found[image[..., 1] == FILLED] == 255).all(), "padding is ignored"
        if steps["scale"] == (1.0, 1.0):
            inside = image[..., 1] == INSIDE
            assert (image[inside, 0] == found[inside]).all(), "picture and mask lie on each other"
            assert (image[~inside] == PADDING).all()
            assert (found[~inside] == 255).all()
    return image, found


@given(masks(), st.tuples(st.integers(0, 30), st.integers(0, 30)), seeds)
def test_padding_alone_keeps_the_whole_image(mask: Array, more: tuple[int, int], seed: int) -> None:
    crop = (mask.shape[0] + more[0], mask.shape[1] + more[1])
    image, found = _augmented(mask, seed=seed, crop_size=crop)
    rows, columns = np.nonzero(image[..., 1] == INSIDE)
    assert (image[..., 1] == FILLED).sum() == found.size - mask.size
    assert np.array_equal(found[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], mask)


@given(masks(), seeds, st.data())
def test_cropping_alone_gives_a_part_of_the_image(mask: Array, seed: int, data: st.DataObject) -> None:
    height, width = (data.draw(st.integers(1, size)) for size in mask.shape)
    _, found = _augmented(mask, seed=seed, crop_size=(height, width))
    windows = np.lib.stride_tricks.sliding_window_view(mask, (height, width))
    assert (windows == found).all(axis=(2, 3)).any()


@given(masks(), seeds)
def test_flipping_alone_flips(mask: Array, seed: int) -> None:
    image, found = _augmented(mask, seed=seed, flip=1.0)
    assert np.array_equal(found, mask[:, ::-1])
    assert np.array_equal(image, _showing(mask)[:, ::-1])


@given(masks(st.tuples(st.integers(6, 41), st.integers(6, 41))), scales, seeds)
def test_scaling_alone_keeps_the_shape_and_invents_no_label(mask: Array, scale: tuple[float, float], seed: int) -> None:
    """Of smaller sides a fifth may be nothing: those images are padded first, and tested with all steps together."""
    image, found = _augmented(mask, seed=seed, scale=scale, crop_size=(130, 130))
    inside = image[..., 1] == INSIDE
    assert (found[~inside] == 255).all()
    rows, columns = inside.any(axis=1).nonzero()[0], inside.any(axis=0).nonzero()[0]
    assert inside.sum() == len(rows) * len(columns), "one rectangle"
    for new, old in zip((len(rows), len(columns)), mask.shape, strict=True):
        assert scale[0] * old - 1 <= new <= scale[1] * old + 1


@given(masks(), seeds, st.floats(0.01, 1))
def test_color_jitter_alone_gives_equal_colors_equal_ones_and_leaves_the_mask(
    mask: Array, seed: int, jitter: float
) -> None:
    image, found = _augmented(mask, seed=seed, color_jitter=jitter)
    assert np.array_equal(found, mask)
    _assert_recoloured(_showing(mask), image)


def _assert_recoloured(image: Array, recoloured: Array) -> None:
    """Equal colors stay equal wherever they are; OpenCV rounds the last columns of a row another way."""
    colours, places = np.unique(image.reshape(-1, 3), axis=0, return_inverse=True)
    for index in range(len(colours)):
        assert np.ptp(recoloured.reshape(-1, 3)[places.ravel() == index], axis=0).max() <= 2


@settings(max_examples=150)
@given(
    mask=masks(),
    crop=sizes,
    scale=scales | st.sampled_from([(1.0, 1.0), (0.5, 2.0)]),
    flip=st.sampled_from([0.0, 0.5, 1.0]),
    jitter=st.sampled_from([0.0, 0.3, 1.0]),
    seed=seeds,
)
def test_all_steps_together_keep_labels_padding_and_place(
    mask: Array, crop: tuple[int, int], scale: tuple[float, float], flip: float, jitter: float, seed: int
) -> None:
    arguments = {"crop_size": crop, "scale": scale, "flip": flip}
    image, found = _augmented(mask, seed=seed, **arguments)
    recoloured, again = _augmented(mask, seed=seed, color_jitter=jitter, **arguments)
    assert np.array_equal(found, again), "colours have their own draws"
    _assert_recoloured(image, recoloured)


@settings(max_examples=100)
@given(masks(st.tuples(st.integers(24, 60), st.integers(24, 60))), sizes, scales, st.booleans(), seeds)
def test_scaled_images_show_their_mask_away_from_its_edges(
    mask: Array, crop: tuple[int, int], scale: tuple[float, float], flip: bool, seed: int
) -> None:
    coarse = np.kron(mask[::8, ::8], np.ones((12, 12), np.uint8))  # at a fifth, a block is still two pixels wide
    image, found = _augmented(coarse, seed=seed, crop_size=crop, scale=scale, flip=float(flip))
    sure = _inner(found) & (image[..., 1] == INSIDE)
    assert (image[sure, 0] == found[sure]).all()


def test_an_image_smaller_than_the_crop_is_there_as_a_whole() -> None:
    mask = _blocks(10, 14)
    positions = set()
    for seed in range(20):
        image, found = Augmentation(crop_size=(30, 40), scale=(1.0, 1.0), flip=0, color_jitter=0)(
            WholePair(_shown(mask), mask), seed=seed
        )
        rows, columns = np.nonzero(found != 255)
        positions.add((int(rows[0]), int(columns[0])))
        here = np.s_[rows[0] : rows[0] + 10, columns[0] : columns[0] + 14]
        assert np.array_equal(found[here], mask)
        assert np.array_equal(image[here], _shown(mask))
        assert (found != 255).sum() == 140
    assert len(positions) > 10, "padding lies on all sides"


def test_ignored_pixels_stay_ignored() -> None:
    mask = np.full((40, 40), 255, np.uint8)
    for seed in range(10):
        assert (Augmentation(crop_size=(32, 32))(WholePair(_shown(mask), mask), seed=seed)[1] == 255).all()


def test_masks_do_not_drift_against_their_images() -> None:
    """Rounding down, as OpenCV's plain nearest neighbour does, moves edges by a third of a pixel on average."""
    mask = np.ones((60, 60), np.uint8)
    mask[:, 30:] = 2
    image = np.where(mask == 2, 220, 20)[:, :, None].repeat(3, axis=2).astype(np.uint8)
    augment = Augmentation(crop_size=(130, 130), flip=0, color_jitter=0)
    drifts = []
    for seed in range(200):
        changed, found = augment(WholePair(image, mask), seed=seed)
        inside = found != 255
        row = int(np.nonzero(inside)[0][inside.sum() // 2])
        bright = (changed[row, inside[row], 0].astype(float) - 20).sum() / 200
        drifts.append(bright - (found[row] == 2).sum())
    assert abs(np.mean(drifts)) < 0.1
    assert np.abs(drifts).max() < 0.6


def test_scales_lie_in_their_range_and_reach_its_ends() -> None:
    mask = np.ones((40, 40), np.uint8)
    augment = Augmentation(crop_size=(90, 90), scale=(0.5, 2.0), color_jitter=0)
    sides = [int(np.sqrt((augment(WholePair(_shown(mask), mask), seed=seed)[1] != 255).sum())) for seed in range(150)]
    assert 20 <= min(sides) <= 22
    assert 78 <= max(sides) <= 80
    assert 45 < np.mean(sides) < 55


def test_scale_place_flipping_and_colors_are_drawn_independently() -> None:
    """Seeded one by one, Albumentations' steps draw the same numbers: a large scale never flips and crops at the bottom."""
    rows, columns = np.mgrid[:100, :100]
    image = np.stack([50 + rows, 50 + columns, np.full_like(rows, 100)], axis=-1).astype(np.uint8)
    mask = np.ones((100, 100), np.uint8)
    plain, jittered = (Augmentation(crop_size=(24, 24), scale=(0.5, 2.0), color_jitter=jitter) for jitter in (0.0, 0.3))
    draws = []
    for seed in range(400):
        changed = plain(WholePair(image, mask), seed=seed)[0].astype(float)
        step = (changed[-1, :, 0] - changed[0, :, 0]).mean() / 23  # rows of the image per row of the crop
        mirrored = changed[:, -1, 1].mean() < changed[:, 0, 1].mean()
        recolored = jittered(WholePair(image, mask), seed=seed)[0].astype(float)
        top, left = ((changed[..., axis].min() - 50) / (100 - 24 * step) for axis in (0, 1))
        draws.append((1 / step, top, left, mirrored, np.abs(recolored - changed).mean()))
    correlations = np.corrcoef(np.array(draws).T) - np.eye(5)
    assert np.abs(correlations).max() < 0.2


@pytest.mark.parametrize(("flip", "low", "high"), [(0.0, 0, 0), (0.5, 35, 65), (1.0, 100, 100)])
def test_images_are_flipped_left_to_right_as_often_as_asked(flip: float, low: int, high: int) -> None:
    mask = _blocks(16, 24, block=4)
    augment = Augmentation(crop_size=(16, 24), scale=(1.0, 1.0), flip=flip, color_jitter=0)
    seen = Counter(augment(WholePair(_shown(mask), mask), seed=seed)[1].tobytes() for seed in range(100))
    assert seen.keys() <= {mask.tobytes(), np.ascontiguousarray(mask[:, ::-1]).tobytes()}
    assert low <= seen[np.ascontiguousarray(mask[:, ::-1]).tobytes()] <= high


def test_color_jitter_changes_colors_and_never_masks() -> None:
    mask = _blocks(16, 24, block=4)
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    results = [
        Augmentation(crop_size=(16, 24), scale=(1.0, 1.0), flip=0, color_jitter=jitter)(
            WholePair(image, mask), seed=seed
        )
        for jitter in (0.0, 0.3)
        for seed in range(200)
    ]
    assert all(np.array_equal(found, mask) for _, found in results)
    same = [np.array_equal(changed, image) for changed, _ in results]
    assert all(same[:200])
    assert 25 <= sum(same[200:]) <= 58, "a fifth keeps its colours"


def test_sizes_may_be_lists_as_yaml_gives_them() -> None:
    augment = Augmentation(crop_size=[8, 12], scale=[1.0, 1.0], flip=0, color_jitter=0)  # type: ignore[arg-type]
    mask = _blocks(8, 12, block=4)
    assert np.array_equal(augment(WholePair(_shown(mask), mask), seed=0)[1], mask)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop_size": (0, 4)}, r"crop_size must be two sizes.*found \(0, 4\)"),
        ({"crop_size": (4, 4, 4)}, r"found \(4, 4, 4\)"),
        ({"scale": (0, 1)}, "two increasing factors"),
        ({"scale": (2.0, 1.0)}, "two increasing factors"),
        ({"flip": 1.5}, "flip and color_jitter must be between 0 and 1, found 1.5 and 0.3"),
        ({"color_jitter": -0.1}, "found 0.5 and -0.1"),
        ({"rotate": -1}, "rotate must be 0 to 180 degrees and shear 0 to 60, found -1 and 0"),
        ({"shear": 90}, "found 0.0 and 90"),
        ({"cat_max_ratio": 0}, "cat_max_ratio must be above 0 and at most 1, found 0"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Augmentation(**arguments)  # type: ignore[arg-type]


def test_rotated_images_show_their_mask() -> None:
    mask = _blocks(80, 90, block=16)
    augment = Augmentation(crop_size=(60, 60), rotate=45, shear=15, color_jitter=0)
    for seed in range(40):
        image, found = augment(WholePair(_shown(mask), mask), seed=seed)
        inner = _inner(found) & (
            cv2.erode(found, np.ones((9, 9), np.uint8)) == cv2.dilate(found, np.ones((9, 9), np.uint8))
        )
        shown = inner & (found != 255)
        assert (image[shown] == _shown(found)[shown]).all()
        assert (image[inner & (found == 255)] == PADDING).all()


def test_a_focus_reaches_the_window() -> None:
    mask = np.ones((200, 200), np.uint8)
    mask[150:153, 20:23] = 7
    augment = Augmentation(crop_size=(20, 20), scale=(1.0, 1.0))
    pair = WholePair(_shown(mask), mask)
    assert all((augment(pair, seed=seed, focus=7)[1] == 7).any() for seed in range(30))
    assert not all((augment(pair, seed=seed)[1] == 7).any() for seed in range(30))
