"""Scores of boundaries: counted by hand, against plain loops and SciPy, and what must not change them."""

from __future__ import annotations

import json
import math
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp
from scipy import ndimage

from imageseg.images import read_mask
from imageseg.scoring.boundary.iou import BoundaryF, BoundaryIoU, TrimapCurve
from imageseg.scoring.cityscapes_instances import LABEL_IDS

Map = npt.NDArray[np.uint8]
Measure = BoundaryIoU | TrimapCurve | BoundaryF
Case = tuple[int, list[tuple[Map, Map]]]

MEASURES: list[Callable[[int], Measure]] = [
    lambda num_classes: BoundaryIoU(num_classes, pixels=2),
    lambda num_classes: TrimapCurve(num_classes, radii=(1, 2, 3, 5)),
    lambda num_classes: BoundaryF(num_classes, pixels=1.5),
]
each_measure = pytest.mark.parametrize("make", MEASURES, ids=["iou", "trimap", "f"])

# A square of 4 x 4 in 6 x 7 pixels, and the same square one column further to the right.
SQUARE = np.zeros((6, 7), np.uint8)
SQUARE[1:5, 1:5] = 1
SHIFTED = np.zeros((6, 7), np.uint8)
SHIFTED[1:5, 2:6] = 1


def _scored(measure: Measure, *pairs: tuple[Map, Map]) -> Any:
    for classes, mask in pairs:
        measure.update(classes, mask)
    return measure.scores()


def _plain(measure: Measure) -> dict[str, Any]:
    return measure.scores().to_dict([str(index) for index in range(measure.num_classes)])


def _same(one: Measure, other: Measure) -> None:
    assert json.dumps(_plain(one)) == json.dumps(_plain(other))


# By hand.


def test_boundary_iou_of_a_shifted_square_by_hand() -> None:
    scores = _scored(BoundaryIoU(3, pixels=1), (SHIFTED, SQUARE))
    # Class 1: both bands are the 12 outer pixels; they share three columns of the top and of the bottom row.
    # Class 0: all its 26 pixels touch the square or the image's border; 22 of them are of class 0 in both.
    assert scores.iou[:2].tolist() == [22 / 30, 6 / 18]
    assert math.isnan(scores.iou[2])
    assert scores.miou == (22 / 30 + 6 / 18) / 2
    assert scores.images == 1


def test_a_wider_band_takes_the_whole_square() -> None:
    assert _scored(BoundaryIoU(2, pixels=2), (SHIFTED, SQUARE)).iou.tolist() == [22 / 30, 12 / 20]


def test_the_inner_pixels_of_a_square_are_in_no_band() -> None:
    mask = np.zeros((9, 9), np.uint8)
    mask[2:7, 2:7] = 1
    classes = mask.copy()
    classes[4, 4] = 0
    # The hole makes a band of the 8 pixels around it: 16 in the truth, 24 in the prediction. Of class 0 it adds itself.
    assert _scored(BoundaryIoU(2, pixels=1), (classes, mask)).iou.tolist() == [56 / 57, 16 / 24]


def test_the_band_is_a_share_of_the_diagonal() -> None:
    mask = np.zeros((60, 80), np.uint8)  # diagonal 100
    mask[10:50, 10:70] = 1
    classes = mask.copy()
    classes[11:49, 11:69] = 2  # the outer ring of the square alone is right
    ring = 40 * 60 - 38 * 58
    for share, width in ((0.001, 1), (0.014, 1), (0.02, 2), (0.05, 5)):
        band = 40 * 60 - (40 - 2 * width) * (60 - 2 * width)
        iou = _scored(BoundaryIoU(3, share=share), (classes, mask)).iou
        assert iou[1] == ring / band, share
    assert _scored(BoundaryIoU(3), (classes, mask)).iou[1] == ring / (40 * 60 - 36 * 56), "2 % unless told"


def test_trimap_of_a_shifted_square_by_hand() -> None:
    scores = _scored(TrimapCurve(2, radii=(2, 1)), (SHIFTED, SQUARE))
    assert scores.radii == (1, 2)
    # Within 1: the square's 12 outer pixels and the 20 around it. Within 2: the image.
    assert scores.pixels.tolist() == [32, 42]
    # Four pixels of each class are wrong.
    assert scores.pixel_accuracy.tolist() == [24 / 32, 34 / 42]
    assert scores.iou.tolist() == [[16 / 24, 8 / 16], [22 / 30, 12 / 20]]
    assert scores.miou.tolist() == [(16 / 24 + 8 / 16) / 2, (22 / 30 + 12 / 20) / 2]


def test_trimap_measures_across_ignored_pixels_and_takes_none_for_a_boundary() -> None:
    ring = np.array([[0, 0, 255, 255, 1, 1]], np.uint8)
    scores = _scored(TrimapCurve(2, radii=(1, 2, 3, 4)), (np.array([[0, 1, 1, 1, 1, 1]], np.uint8), ring))
    assert scores.pixels.tolist() == [0, 0, 2, 4]
    assert scores.pixel_accuracy.tolist()[2:] == [1 / 2, 3 / 4]
    assert np.isnan(scores.miou[:2]).all()
    alone = np.array([[0, 0, 255, 255, 0, 0]], np.uint8)
    assert _scored(TrimapCurve(2), (alone, alone)).pixels.tolist() == [0] * 6


def test_boundary_f_of_a_shifted_square_by_hand() -> None:
    exact = _scored(BoundaryF(2, pixels=0), (SHIFTED, SQUARE))
    # Class 1: 6 of 12 boundary pixels coincide. Class 0: all its 26 are boundary, 22 coincide.
    assert exact.f.tolist() == pytest.approx([22 / 26, 6 / 12])
    assert exact.precision.tolist() == exact.recall.tolist() == pytest.approx([22 / 26, 6 / 12])
    assert exact.mean_f == pytest.approx((22 / 26 + 1 / 2) / 2)
    assert _scored(BoundaryF(2, pixels=1), (SHIFTED, SQUARE)).f.tolist() == [1, 1]


def test_the_tolerance_is_a_disc() -> None:
    mask, classes = np.zeros((2, 30, 30), np.uint8)
    mask[10, 10] = classes[13, 14] = 1  # 3 rows and 4 columns: 5 pixels apart
    for pixels, f in ((4.99, 0), (5, 1)):
        assert _scored(BoundaryF(2, pixels=pixels), (classes, mask)).f[1] == f


def test_the_tolerance_is_a_share_of_the_diagonal() -> None:
    mask, classes = np.zeros((2, 300, 400), np.uint8)  # 0.75 % of the diagonal are 3.75 pixels
    mask[100, 100] = classes[102, 103] = 1  # 3.6 pixels apart, then 4.1
    assert _scored(BoundaryF(2), (classes, mask)).f[1] == 1
    assert _scored(BoundaryF(2), (np.roll(classes, (-1, 1), (0, 1)), mask)).f[1] == 0


def test_boundary_f_is_a_mean_over_the_images_whose_truth_has_the_class() -> None:
    empty = np.zeros_like(SQUARE)
    scores = _scored(
        BoundaryF(3, pixels=0),
        (SQUARE, SQUARE),  # F 1
        (SHIFTED, SQUARE),  # F 1/2
        (empty, SQUARE),  # F 0, recall 0, no precision
        (SQUARE, empty),  # precision 0, nothing else
    )
    assert scores.f[1] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert scores.recall[1] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert scores.precision[1] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert math.isnan(scores.f[2])
    assert scores.mean_f == pytest.approx(scores.f[:2].mean())
    assert scores.images == 4


# Second implementations, on maps so small that loops will do.


@st.composite
def maps(draw: st.DrawFn, *, count: int = 1, ignored: bool = True) -> Case:
    """A number of classes, and pairs of prediction and truth in patches; predictions may be no class."""
    num_classes = draw(st.integers(1, 4))
    truths = st.sampled_from([*range(num_classes), 255] if ignored else range(num_classes))
    guesses = st.integers(0, num_classes - 1) | st.sampled_from([num_classes, 254, 255])
    pairs = []
    for _ in range(count):
        height, width = draw(stnp.array_shapes(min_dims=2, max_dims=2, max_side=11))
        block = draw(st.integers(1, 4))
        shape = (-(-height // block), -(-width // block))
        mask, guess = (
            np.kron(draw(stnp.arrays(np.uint8, shape, elements=elements)), np.ones((block, block), np.uint8))
            for elements in (truths, guesses)
        )
        kept = draw(stnp.arrays(np.bool_, (height, width)))
        mask = mask[:height, :width]
        pairs.append((np.where(kept, mask, guess[:height, :width]), mask))
    return num_classes, pairs


@given(maps(count=2), st.integers(1, 4))
def test_boundary_iou_equals_erosion_class_by_class(case: Case, width: int) -> None:
    num_classes, pairs = case
    intersection, union = np.zeros((2, num_classes), int)
    for classes, mask in pairs:
        for index in range(num_classes):
            bands = []
            for region in (mask == index, (classes == index) & (mask != 255)):
                eroded = ndimage.binary_erosion(region, np.ones((3, 3)), iterations=width, border_value=0)
                bands.append(region & ~eroded)
            intersection[index] += (bands[0] & bands[1]).sum()
            union[index] += (bands[0] | bands[1]).sum()
    scores = _scored(BoundaryIoU(num_classes, pixels=width), *pairs)
    expected = [both / either if either else math.nan for both, either in zip(intersection, union, strict=True)]
    np.testing.assert_array_equal(scores.iou, expected)
    defined = [value for value in expected if not math.isnan(value)]
    np.testing.assert_allclose(scores.miou, np.mean(defined) if defined else math.nan)


@given(maps(), st.lists(st.integers(1, 7), min_size=1, max_size=4))
def test_the_trimap_curve_equals_plain_loops(case: Case, radii: list[int]) -> None:
    num_classes, [(classes, mask)] = case
    scores = _scored(TrimapCurve(num_classes, radii=radii), (classes, mask))
    assert scores.radii == tuple(sorted(set(radii)))
    for index, radius in enumerate(scores.radii):
        pixels = []
        for (row, column), label in np.ndenumerate(mask):
            window = mask[max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1]
            if label != 255 and any(other not in (label, 255) for other in window.ravel()):
                pixels.append((label, classes[row, column]))
        assert scores.pixels[index] == len(pixels)
        correct = sum(label == found for label, found in pixels)
        assert scores.pixel_accuracy[index] == pytest.approx(correct / len(pixels) if pixels else math.nan, nan_ok=True)
        ious = []
        for each in range(num_classes):
            either = sum(each in pair for pair in pixels)
            ious.append(pixels.count((each, each)) / either if either else math.nan)
        np.testing.assert_array_equal(scores.iou[index], ious)
        defined = [iou for iou in ious if not math.isnan(iou)]
        assert scores.miou[index] == pytest.approx(np.mean(defined) if defined else math.nan, nan_ok=True)


@given(maps(count=2), st.floats(0, 5))
def test_boundary_f_equals_plain_loops(case: Case, tolerance: float) -> None:
    num_classes, pairs = case
    figures: list[list[tuple[float, float, float]]] = [[] for _ in range(num_classes)]
    for classes, mask in pairs:
        for index in range(num_classes):
            true = _outline(mask == index)
            predicted = _outline((classes == index) & (mask != 255))
            recall, precision = _share_near(true, predicted, tolerance), _share_near(predicted, true, tolerance)
            f = math.nan
            if true:
                f = 2 * precision * recall / (precision + recall) if predicted and precision + recall else 0.0
            figures[index].append((f, precision, recall))
    scores = _scored(BoundaryF(num_classes, pixels=tolerance), *pairs)
    for found, position in ((scores.f, 0), (scores.precision, 1), (scores.recall, 2)):
        for index in range(num_classes):
            defined = [each[position] for each in figures[index] if not math.isnan(each[position])]
            assert found[index] == pytest.approx(np.mean(defined) if defined else math.nan, nan_ok=True, abs=1e-11)


def _outline(region: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    padded = np.pad(region, 1)
    return [
        (row, column)
        for row, column in np.argwhere(region).tolist()
        if not all(
            (padded[row, column + 1], padded[row + 2, column + 1], padded[row + 1, column], padded[row + 1, column + 2])
        )
    ]


def _share_near(points: list[tuple[int, int]], others: list[tuple[int, int]], tolerance: float) -> float:
    near = [
        any((row - other_row) ** 2 + (column - other_column) ** 2 <= tolerance**2 for other_row, other_column in others)
        for row, column in points
    ]
    return sum(near) / len(near) if near else math.nan


# What must not change the scores.


@each_measure
@given(case=maps(), seed=st.integers(0, 99))
def test_mirroring_and_turning_change_nothing(make: Callable[[int], Measure], case: Case, seed: int) -> None:
    num_classes, [(classes, mask)] = case
    plain = make(num_classes)
    plain.update(classes, mask)
    for change in (np.fliplr, np.flipud, np.transpose):
        changed = make(num_classes)
        changed.update(change(classes), change(mask))
        _same(plain, changed)


@each_measure
@given(case=maps(), seed=st.integers(0, 99))
def test_renaming_the_classes_renames_the_scores(make: Callable[[int], Measure], case: Case, seed: int) -> None:
    num_classes, [(classes, mask)] = case
    order = np.random.default_rng(seed).permutation(num_classes)
    table = np.arange(256, dtype=np.uint8)
    table[:num_classes] = order
    plain, renamed = make(num_classes), make(num_classes)
    plain.update(classes, mask)
    renamed.update(table[classes], table[mask])
    for name, figure in vars(plain.scores()).items():
        other = vars(renamed.scores())[name]
        per_class = (
            isinstance(figure, np.ndarray) and figure.shape[-1] == num_classes and name not in ("pixels", "miou")
        )
        if per_class and not (isinstance(plain, TrimapCurve) and name == "pixel_accuracy"):
            other = other[..., order]
        np.testing.assert_allclose(other, figure, atol=1e-12)


@each_measure
@given(case=maps(count=4))
def test_any_order_and_any_split_over_processes_gives_the_same(make: Callable[[int], Measure], case: Case) -> None:
    num_classes, pairs = case
    whole, one, other = (make(num_classes) for _ in range(3))
    for classes, mask in pairs:
        whole.update(classes, mask)
    for classes, mask in reversed(pairs[1:]):
        one.update(classes, mask)
    other.update(*pairs[0])
    _same(whole, pickle.loads(pickle.dumps(one)).merge(pickle.loads(pickle.dumps(other))))
    _same(whole, make(num_classes).merge(whole))
    assert whole.images == 4


@each_measure
@given(case=maps())
def test_a_perfect_prediction_scores_1_whatever_it_says_of_ignored_pixels(
    make: Callable[[int], Measure], case: Case
) -> None:
    num_classes, [(classes, mask)] = case
    measure = make(num_classes)
    measure.update(np.where(mask == 255, classes, mask), mask)
    scores = measure.scores()
    present = np.isin(np.arange(num_classes), mask)
    figures = scores.f if isinstance(measure, BoundaryF) else scores.iou
    assert set(figures[~np.isnan(figures)].tolist()) <= {1.0}
    if not isinstance(measure, TrimapCurve):
        assert np.array_equal(~np.isnan(figures), present)


@each_measure
@given(case=maps())
def test_predictions_that_are_no_class_are_all_alike(make: Callable[[int], Measure], case: Case) -> None:
    num_classes, [(classes, mask)] = case
    one, other = make(num_classes), make(num_classes)
    one.update(classes, mask)
    other.update(np.where(classes >= num_classes, 255, classes).astype(np.uint8), mask)
    _same(one, other)


@each_measure
def test_a_prediction_of_no_class_at_all_scores_0(make: Callable[[int], Measure]) -> None:
    plain = make(2)
    plain.update(np.full_like(SQUARE, 255), SQUARE)
    scores = plain.scores()
    assert ((scores.f if isinstance(plain, BoundaryF) else scores.iou) == 0).all()


@each_measure
def test_nothing_but_ignored_pixels_has_no_score(make: Callable[[int], Measure]) -> None:
    measure = make(2)
    measure.update(SQUARE, np.full_like(SQUARE, 255))
    plain = _plain(measure)
    assert plain.pop("images") == 1
    for entry in plain.pop("curve", []):
        assert (entry["miou"], entry["pixel_accuracy"], entry["pixels"]) == (None, None, 0)
        assert entry["iou"] == {"0": None, "1": None}
    assert all(value is None or set(value.values()) == {None} for value in plain.values())


@each_measure
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (2, 3)])
def test_the_smallest_images(make: Callable[[int], Measure], shape: tuple[int, int]) -> None:
    measure = make(2)
    measure.update(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8))
    scores = measure.scores()
    if isinstance(measure, TrimapCurve):
        assert scores.pixels.tolist() == [0] * 4, "one class alone has no boundary"
    else:
        figure = scores.f[0] if isinstance(measure, BoundaryF) else scores.iou[0]
        assert figure == 1, "the picture's border is a boundary"


def test_bands_and_tolerances_wider_than_the_image() -> None:
    assert _scored(BoundaryIoU(2, pixels=10**6), (SHIFTED, SQUARE)).iou.tolist() == [22 / 30, 12 / 20]
    assert _scored(TrimapCurve(2, radii=[10**6]), (SHIFTED, SQUARE)).pixels.tolist() == [42]
    assert _scored(BoundaryF(2, pixels=1e6), (SHIFTED, SQUARE)).f.tolist() == [1, 1]


def test_255_classes() -> None:
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert _scored(BoundaryIoU(255), (mask, mask)).miou == 1
    assert _scored(TrimapCurve(255), (mask, mask)).miou.tolist() == [1] * 6
    assert _scored(BoundaryF(255), (mask, mask)).mean_f == 1


@each_measure
def test_neither_input_is_changed_and_views_will_do(make: Callable[[int], Measure]) -> None:
    plain, viewed = make(2), make(2)
    classes, mask = SHIFTED.copy(), SQUARE.copy()
    plain.update(classes, mask)
    assert np.array_equal(classes, SHIFTED)
    assert np.array_equal(mask, SQUARE)
    read_only = np.frombuffer(SQUARE.tobytes(), np.uint8).reshape(SQUARE.shape)
    viewed.update(np.repeat(SHIFTED, 2, axis=1)[:, ::2], read_only)
    _same(plain, viewed)


# What is refused.


@each_measure
@pytest.mark.parametrize(
    ("classes", "mask", "message"),
    [
        (SQUARE, SQUARE.T, r"found \(6, 7\) and \(7, 6\)"),
        (SQUARE[None], SQUARE[None], r"must have the same shape \(H, W\)"),
        (SQUARE[:0], SQUARE[:0], r"found \(0, 7\)"),
        (SQUARE.astype(int), SQUARE, "must be uint8, found int64 and uint8"),
        (SQUARE, SQUARE + 1, r"the ground truth contains 2, which is neither a class \(0 to 1\) nor ignored"),
    ],
)
def test_wrong_images_are_refused(make: Callable[[int], Measure], classes: Any, mask: Any, message: str) -> None:
    measure = make(2)
    with pytest.raises(ValueError, match=message):
        measure.update(classes, mask)
    assert measure.images == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BoundaryIoU(0), "num_classes must be 1 to 255, found 0"),
        (lambda: TrimapCurve(256), "found 256"),
        (lambda: BoundaryIoU(2, share=0), "at least one pixel wide, found share 0"),
        (lambda: BoundaryIoU(2, share=math.nan), "found share nan"),
        (lambda: BoundaryIoU(2, pixels=0), "pixels 0"),
        (lambda: TrimapCurve(2, radii=[0, 1]), "each at least 1"),
        (lambda: TrimapCurve(2, radii=[]), "each at least 1"),
        (lambda: BoundaryF(2, share=-1), "0 or more"),
        (lambda: BoundaryF(2, pixels=math.inf), "0 or more"),
        (lambda: BoundaryF(2).merge(BoundaryF(3)), "the same num_classes"),
        (lambda: BoundaryF(2).merge(BoundaryF(2, pixels=1)), "the same pixels"),
        (lambda: BoundaryIoU(2).merge(BoundaryIoU(2, share=0.1)), "the same share"),
        (lambda: TrimapCurve(2).merge(TrimapCurve(2, radii=[1])), "the same radii"),
    ],
)
def test_impossible_settings_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_plain_values_carry_the_class_names() -> None:
    measures = [make(2) for make in MEASURES]
    for measure in measures:
        measure.update(SHIFTED, SQUARE)
        with pytest.raises(ValueError, match="zip"):
            measure.scores().to_dict(["road"])
    iou, trimap, f = (json.loads(json.dumps(measure.scores().to_dict(["road", "car"]))) for measure in measures)
    assert iou == {"miou": pytest.approx(2 / 3), "iou": {"road": pytest.approx(22 / 30), "car": 0.6}, "images": 1}
    assert [entry["radius"] for entry in trimap["curve"]] == [1, 2, 3, 5]
    assert trimap["curve"][0]["iou"] == {"road": pytest.approx(16 / 24), "car": 0.5}
    assert f == {"mean_f": 1, **{name: {"road": 1, "car": 1} for name in ("f", "precision", "recall")}, "images": 1}


# On real masks.


@pytest.mark.samples
def test_real_street_scenes_lose_more_at_their_boundaries_the_coarser_they_are(samples: Path) -> None:
    table = np.full(256, 255, np.uint8)
    table[list(LABEL_IDS)] = range(len(LABEL_IDS))
    paths = sorted((samples / "cityscapes").rglob("*_gtFine_labelIds.png"))[-4:]
    masks = [table[read_mask(path)] for path in paths]
    figures = []
    for stride in (4, 8, 16):
        measures = BoundaryIoU(19), TrimapCurve(19), BoundaryF(19)
        started = time.process_time()
        for mask in masks:
            coarse = mask[stride // 2 :: stride, stride // 2 :: stride]
            classes = cv2.resize(coarse, mask.shape[::-1], interpolation=cv2.INTER_NEAREST)
            for measure in measures:
                measure.update(classes, mask)
        assert time.process_time() - started < 1.5 * len(masks), "seconds; a tenth is usual"
        iou, trimap, f = (measure.scores() for measure in measures)
        assert (np.diff(trimap.miou) > 0).all(), "errors lie at the boundaries"
        figures.append((iou.miou, trimap.miou[0], f.mean_f))
    assert (np.diff(figures, axis=0) < 0).all()
