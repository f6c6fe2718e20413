"""Calibration: counted by hand, against plain loops over sorted pixels and scikit-learn, and what must not change it."""

from __future__ import annotations

import json
import math
import pickle
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp
from sklearn.metrics import log_loss

from imageseg.scoring.calibration import Calibration, CalibrationScores

Map = npt.NDArray[np.uint8]
Picture = tuple[npt.NDArray[np.float32], Map, Map]

# Five valid pixels of three classes, and one that is ignored.
CONFIDENCE = np.array([[0.95, 0.85, 0.45], [0.45, 0.41, 0.99]], np.float32)
CLASSES = np.array([[0, 0, 1], [1, 2, 0]], np.uint8)
MASK = np.array([[0, 1, 1], [0, 2, 255]], np.uint8)


def _scored(*pictures: Any, num_classes: int = 3, bins: int = 10) -> CalibrationScores:
    calibration = Calibration(num_classes, bins)
    for picture in pictures:
        calibration.update(*picture)
    return calibration.scores()


def _same(one: CalibrationScores, other: CalibrationScores) -> None:
    for name, figure in vars(one).items():
        if name == "reliability":
            for key, column in vars(figure).items():
                np.testing.assert_allclose(vars(other.reliability)[key], column, atol=1e-12)
        else:
            np.testing.assert_allclose(vars(other)[name], figure, atol=1e-12)


# By hand.


def test_five_pixels_by_hand() -> None:
    scores = _scored((CONFIDENCE, CLASSES, MASK))
    assert scores.pixels == 5
    assert scores.accuracy == 3 / 5
    assert scores.confidence == pytest.approx((0.95 + 0.85 + 0.45 + 0.45 + 0.41) / 5)
    # Bins: (0.9, 1] one right at 0.95; (0.8, 0.9] one wrong at 0.85; (0.4, 0.5] two of three right at 1.31 / 3.
    gaps = 0.05, 0.85, (2 - 1.31) / 3
    assert scores.ece == pytest.approx((gaps[0] + gaps[1] + 3 * gaps[2]) / 5)
    assert scores.mce == pytest.approx(0.85)
    # Of class 0, one right at 0.95 and one wrong at 0.85; of class 1, one of two right at 0.45; of class 2, one at 0.41.
    assert scores.class_ece.tolist() == pytest.approx([(0.05 + 0.85) / 2, 0.05, 0.59])
    assert scores.reliability.count.tolist() == [0, 0, 0, 0, 3, 0, 0, 0, 1, 1]
    assert scores.reliability.edges.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1])
    assert scores.reliability.confidence[[4, 8, 9]].tolist() == pytest.approx([1.31 / 3, 0.85, 0.95])
    assert scores.reliability.accuracy[[4, 8, 9]].tolist() == pytest.approx([2 / 3, 0, 1])
    assert np.isnan(scores.reliability.accuracy).sum() == 7
    assert math.isnan(scores.brier), "not all probabilities are known"


def test_bins_of_equally_many_pixels_by_hand() -> None:
    confidence = np.array([[0.3, 0.4, 0.6, 0.9, 0.95]], np.float32)
    classes, mask = np.zeros((1, 5), np.uint8), np.array([[1, 0, 0, 1, 0]], np.uint8)
    # Two bins end after 2 and 5 pixels: one of 0.7 right, two of 2.45 right.
    scores = _scored((confidence, classes, mask), bins=2)
    assert scores.adaptive_ece == pytest.approx((abs(1 - 0.7) + abs(2 - 2.45)) / 5)
    assert scores.adaptive_ece_bound == 0, "every pixel has its own cell"


def test_pixels_that_are_alike_are_shared_out_evenly() -> None:
    """Sorted, it would depend on the order of pixels whether one bin gets all hits."""
    classes = np.zeros((1, 100), np.uint8)
    mask = np.repeat(np.uint8([[0, 1]]), 50, axis=1)
    scores = _scored((np.ones((1, 100), np.float32), classes, mask), bins=2)
    assert scores.adaptive_ece == scores.ece == 0.5
    assert scores.adaptive_ece_bound == pytest.approx(0.5 + 0.5 / 7680), "by 25 of 100 hits in each of two bins"


def test_all_probabilities_by_hand() -> None:
    probabilities = np.array([[[0.7, 0.2]], [[0.2, 0.5]], [[0.1, 0.3]]])
    calibration = Calibration(3, 10)
    calibration.update_probabilities(probabilities, np.array([[0, 2]], np.uint8))
    scores = calibration.scores()
    assert scores.accuracy == 1 / 2
    assert scores.ece == pytest.approx((0.3 + 0.5) / 2)
    assert scores.brier == pytest.approx((0.3**2 + 0.2**2 + 0.1**2 + 0.2**2 + 0.5**2 + 0.7**2) / 2)
    assert scores.nll == pytest.approx(-(math.log(0.7) + math.log(0.3)) / 2)
    # Each probability alone in its bin: |0.7 - 1| and 0.2; 0.2 and 0.5; 0.1 and |0.3 - 1|.
    assert scores.classwise.tolist() == pytest.approx([0.25, 0.35, 0.4])
    assert scores.classwise_ece == pytest.approx(1 / 3)


def test_of_equal_probabilities_the_first_class_is_the_prediction_as_argmax_has_it() -> None:
    for true, accuracy in ((0, 1), (1, 0)):
        calibration = Calibration(2)
        calibration.update_probabilities(np.full((2, 1, 1), 0.5), np.full((1, 1), true, np.uint8))
        assert calibration.scores().accuracy == accuracy


def test_a_true_class_without_any_probability_costs_87_nats() -> None:
    calibration = Calibration(2)
    calibration.update_probabilities(np.array([[[1.0]], [[0.0]]], np.float32), np.array([[1]], np.uint8))
    assert calibration.scores().nll == pytest.approx(126 * math.log(2))
    assert calibration.scores().brier == 2


@pytest.mark.parametrize("bins", [10, 15, 20, 29, 60])
def test_bins_hold_their_upper_edge_and_the_first_holds_0(bins: int) -> None:
    edges = np.arange(bins + 1, dtype=np.float64)[None] / bins
    nothing = np.zeros((1, bins + 1), np.uint8)
    assert _scored((edges, nothing, nothing), bins=bins).reliability.count.tolist() == [2] + [1] * (bins - 1)
    above = np.nextafter(edges.astype(np.float32), np.float32(1))[:, :-1]
    counts = _scored((above, nothing[:, 1:], nothing[:, 1:]), bins=bins).reliability.count
    assert counts.sum() == bins
    assert counts.max() <= 2, "the nearest float32 of an edge may lie below it"


@pytest.mark.parametrize(("bins", "step"), [(15, 17), (85, 3)])
def test_bytes_at_the_edges_of_bins(bins: int, step: int) -> None:
    confidence = np.arange(0, 256, step, dtype=np.uint8)[None]  # 17 / 255 is 1 / 15
    nothing = np.zeros(confidence.shape, np.uint8)
    assert _scored((confidence, nothing, nothing), bins=bins).reliability.count.tolist() == [2] + [1] * (bins - 1)


def test_bytes_are_shares_of_255() -> None:
    rng = np.random.default_rng(0)
    confidence, classes, mask = rng.integers(0, 256, (3, 20, 30), dtype=np.uint8) // np.uint8([[[1]], [[64]], [[64]]])
    _same(
        _scored((confidence, classes, mask), num_classes=4, bins=15),
        _scored((confidence / 255, classes, mask), num_classes=4, bins=15),
    )


# Second implementations.


@st.composite
def pictures(draw: st.DrawFn, *, count: int = 1) -> tuple[int, int, list[Picture]]:
    """A number of classes and of bins, and confidences, predictions and truths, some of them no class or ignored."""
    num_classes, bins = draw(st.integers(1, 4)), draw(st.sampled_from([1, 2, 3, 7, 10, 15, 20]))
    shape = draw(stnp.array_shapes(min_dims=2, max_dims=2, max_side=8))
    edges = st.integers(0, 20).map(lambda step: np.float32(step / 20))
    confidences = stnp.arrays(np.float32, shape, elements=st.floats(0, 1, width=32) | edges)
    guesses = stnp.arrays(np.uint8, shape, elements=st.sampled_from([*range(num_classes), num_classes, 255]))
    truths = stnp.arrays(np.uint8, shape, elements=st.sampled_from([*range(num_classes), 255]))
    return num_classes, bins, [(draw(confidences), draw(guesses), draw(truths)) for _ in range(count)]


Case = tuple[int, int, list[Picture]]


def _gap(rows: list[tuple[float, bool]]) -> float:
    return abs(sum(hit for _, hit in rows) - sum(confidence for confidence, _ in rows))


def _bin_of(confidence: float, bins: int) -> int:
    return max(math.ceil(Fraction(confidence) * bins) - 1, 0)


@given(pictures(count=2))
def test_errors_over_bins_of_equal_width_equal_plain_loops(case: Case) -> None:
    num_classes, bins, given_pictures = case
    rows = [
        (float(confidence), int(found), int(true))
        for picture in given_pictures
        for confidence, found, true in zip(*(part.ravel() for part in picture), strict=True)
        if true != 255
    ]
    scores = _scored(*given_pictures, num_classes=num_classes, bins=bins)
    table: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for confidence, found, true in rows:
        table[_bin_of(confidence, bins)].append((confidence, found == true))
    assert scores.pixels == len(rows)
    assert scores.reliability.count.tolist() == [len(entry) for entry in table]
    expected = sum(map(_gap, table)) / len(rows) if rows else math.nan
    assert scores.ece == pytest.approx(expected, nan_ok=True, abs=1e-12)
    largest = max(_gap(entry) / len(entry) for entry in table if entry) if rows else math.nan
    assert scores.mce == pytest.approx(largest, nan_ok=True, abs=1e-12)
    for each in range(num_classes):
        predicted = [(confidence, each == true) for confidence, found, true in rows if found == each]
        by_bin = [[row for row in predicted if _bin_of(row[0], bins) == index] for index in range(bins)]
        expected = sum(map(_gap, by_bin)) / len(predicted) if predicted else math.nan
        assert scores.class_ece[each] == pytest.approx(expected, nan_ok=True, abs=1e-12)


def _sorted_ece(confidence: npt.NDArray[Any], hit: npt.NDArray[Any], bins: int) -> float:
    order = np.argsort(confidence, kind="stable")
    ends = [index * len(order) // bins for index in range(bins + 1)]
    parts = [order[start:end] for start, end in pairwise(ends)]
    return sum(abs(hit[part].sum() - confidence[part].astype(float).sum()) for part in parts) / len(order)


@given(pictures(count=3))
def test_errors_over_bins_of_equally_many_pixels_are_those_of_sorting_within_the_bound(case: Case) -> None:
    num_classes, bins, given_pictures = case
    confidence, classes, mask = (
        np.concatenate([part.ravel() for part in parts]) for parts in zip(*given_pictures, strict=True)
    )
    valid = mask != 255
    scores = _scored(*given_pictures, num_classes=num_classes, bins=bins)
    if not valid.any():
        assert math.isnan(scores.adaptive_ece)
        assert math.isnan(scores.adaptive_ece_bound)
        return
    hit = classes == mask
    # Of pixels that are alike, hits may come first or last.
    for order in (np.argsort(hit, kind="stable"), np.argsort(~hit, kind="stable")):
        order = order[valid[order]]
        expected = _sorted_ece(confidence[order], hit[order], bins)
        assert abs(scores.adaptive_ece - expected) <= scores.adaptive_ece_bound + 1e-12


@pytest.mark.parametrize(("pixels", "bound"), [(300, 0.02), (40_000, 0.002)])
def test_the_bound_is_small_where_confidences_differ(pixels: int, bound: float) -> None:
    rng = np.random.default_rng(0)
    confidence = rng.beta(5, 1, (1, pixels)).astype(np.float32)
    mask = (rng.random((1, pixels)) > confidence**2).astype(np.uint8)
    scores = _scored((confidence, np.zeros_like(mask), mask), bins=15)
    expected = _sorted_ece(confidence[0], mask[0] == 0, 15)
    assert abs(scores.adaptive_ece - expected) <= scores.adaptive_ece_bound < bound
    assert scores.adaptive_ece > 0.1


@given(st.integers(1, 4), st.integers(0, 10**6))
def test_all_probabilities_equal_plain_loops_and_scikit_learn(num_classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bins = 10
    height, width = rng.integers(1, 9, 2)
    probabilities = rng.dirichlet(np.full(num_classes, 0.4), (height, width)).transpose(2, 0, 1).astype(np.float32)
    mask = rng.choice(np.uint8([*range(num_classes), 255]), (height, width))
    calibration, top = Calibration(num_classes, bins), Calibration(num_classes, bins)
    calibration.update_probabilities(probabilities, mask)
    top.update(probabilities.max(axis=0), probabilities.argmax(axis=0).astype(np.uint8), mask)
    scores, of_top = calibration.scores(), top.scores()
    for name in ("ece", "adaptive_ece", "mce", "accuracy", "confidence", "class_ece"):
        np.testing.assert_array_equal(vars(scores)[name], vars(of_top)[name])
    valid = mask != 255
    if not valid.any():
        assert math.isnan(scores.brier)
        assert math.isnan(scores.classwise_ece)
        return
    rows, true = probabilities[:, valid].T.astype(float), mask[valid]
    for each in range(num_classes):
        table: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
        for value, label in zip(rows[:, each], true, strict=True):
            table[_bin_of(value, bins)].append((value, label == each))
        assert scores.classwise[each] == pytest.approx(sum(map(_gap, table)) / len(true), abs=1e-12)
    assert scores.classwise_ece == pytest.approx(scores.classwise.mean())
    assert scores.brier == pytest.approx(np.mean(((rows - np.eye(num_classes)[true]) ** 2).sum(axis=1)))
    likely = rows[np.arange(len(true)), true]
    if num_classes > 1 and likely.min() > 1e-7:  # scikit-learn raises smaller ones
        expected = log_loss(true, rows / rows.sum(axis=1, keepdims=True), labels=range(num_classes))
        assert scores.nll == pytest.approx(expected, abs=1e-6)


def test_a_network_that_is_right_as_often_as_it_says_has_no_error() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, (300, 400))
    classes = np.zeros(confidence.shape, np.uint8)
    honest = (rng.random(confidence.shape) > confidence).astype(np.uint8)
    scores = _scored((confidence, classes, honest), bins=15)
    assert scores.ece < 0.01
    assert scores.adaptive_ece < 0.01
    assert scores.confidence == pytest.approx(scores.accuracy, abs=0.005)
    boastful = _scored((np.minimum(confidence + 0.2, 1), classes, honest), bins=15)
    assert boastful.ece == pytest.approx(boastful.confidence - boastful.accuracy, abs=0.005)
    assert boastful.ece > 0.15


# What must not change the scores.


@given(pictures(count=4))
def test_any_order_and_any_split_over_processes_gives_the_same(case: Case) -> None:
    num_classes, bins, given_pictures = case
    one, other = Calibration(num_classes, bins), Calibration(num_classes, bins)
    for picture in reversed(given_pictures[1:]):
        one.update(*picture)
    other.update(*given_pictures[0])
    merged = pickle.loads(pickle.dumps(one)).merge(pickle.loads(pickle.dumps(other))).scores()
    _same(_scored(*given_pictures, num_classes=num_classes, bins=bins), merged)
    assert merged.images == 4


def test_merging_keeps_the_sums_of_all_probabilities() -> None:
    rng = np.random.default_rng(0)
    whole, parts = Calibration(3), Calibration(3)
    for _ in range(3):
        probabilities = rng.dirichlet(np.ones(3), (5, 6)).transpose(2, 0, 1)
        mask = rng.integers(0, 3, (5, 6), dtype=np.uint8)
        part = Calibration(3)
        for calibration in (whole, part):
            calibration.update_probabilities(probabilities, mask)
        parts.merge(part)
    _same(whole.scores(), parts.scores())
    assert whole.scores().brier > 0


def test_what_is_said_of_ignored_pixels_matters_not_even_nan() -> None:
    other = CONFIDENCE.copy()
    other[1, 2] = np.nan
    _same(_scored((CONFIDENCE, CLASSES, MASK)), _scored((other, np.where(MASK == 255, 7, CLASSES), MASK)))


def test_a_prediction_that_is_no_class_is_wrong_and_belongs_to_none() -> None:
    confidence, mask = np.full((1, 4), 0.75), np.zeros((1, 4), np.uint8)
    scores = _scored((confidence, np.array([[0, 3, 254, 255]], np.uint8), mask))
    assert scores.accuracy == 0.25
    assert scores.ece == 0.5
    assert scores.class_ece[0] == 0.25
    assert np.isnan(scores.class_ece[1:]).all()


def test_neither_input_is_changed() -> None:
    kept = CONFIDENCE.copy(), CLASSES.copy(), MASK.copy()
    probabilities = np.full((3, 2, 3), 1 / 3)
    calibration = Calibration(3)
    calibration.update(CONFIDENCE, CLASSES, MASK)
    calibration.update_probabilities(probabilities, MASK)
    for now, before in zip((CONFIDENCE, CLASSES, MASK), kept, strict=True):
        assert np.array_equal(now, before)
    assert (probabilities == 1 / 3).all()


def test_nothing_but_ignored_pixels_has_no_score() -> None:
    calibration = Calibration(2, 2)
    calibration.update(np.ones((2, 3)), np.zeros((2, 3), np.uint8), np.full((2, 3), 255, np.uint8))
    calibration.update_probabilities(np.ones((2, 2, 3)), np.full((2, 3), 255, np.uint8))
    plain = json.loads(json.dumps(calibration.scores().to_dict(["road", "car"])))
    assert plain.pop("images") == 2
    assert plain.pop("pixels") == 0
    assert plain.pop("class_ece") == plain.pop("classwise") == {"road": None, "car": None}
    assert plain.pop("reliability") == [
        {"low": low, "high": low + 0.5, "confidence": None, "accuracy": None, "count": 0} for low in (0, 0.5)
    ]
    assert set(plain.values()) == {None}


def test_plain_values_carry_the_class_names() -> None:
    scores = _scored((CONFIDENCE, CLASSES, MASK))
    plain = json.loads(json.dumps(scores.to_dict(["road", "car", "tree"])))
    assert plain["class_ece"] == {"road": pytest.approx(0.45), "car": pytest.approx(0.05), "tree": pytest.approx(0.59)}
    assert plain["classwise"] == {"road": None, "car": None, "tree": None}
    assert plain["reliability"][9] == {
        "low": 0.9,
        "high": 1.0,
        "confidence": pytest.approx(0.95),
        "accuracy": 1.0,
        "count": 1,
    }
    with pytest.raises(ValueError, match="zip"):
        scores.to_dict(["road"])


# What is refused.


@pytest.mark.parametrize(
    ("confidence", "classes", "mask", "message"),
    [
        (CONFIDENCE.T, CLASSES, MASK, r"same shape \(H, W\), found \(3, 2\), \(2, 3\) and \(2, 3\)"),
        (CONFIDENCE[None], CLASSES[None], MASK[None], r"must have the same shape \(H, W\)"),
        (CONFIDENCE + 0.1, CLASSES, MASK, "1 probabilities are NaN or outside 0 to 1"),
        (np.where(CONFIDENCE > 0.8, np.nan, CONFIDENCE), CLASSES, MASK, "2 probabilities are NaN"),
        (CONFIDENCE - 0.5, CLASSES, MASK, "3 probabilities are NaN or outside"),
        (CONFIDENCE.astype(int), CLASSES, MASK, "must be floats or uint8, found int64"),
        (
            CONFIDENCE,
            CLASSES,
            MASK + np.uint8(MASK == 2),
            r"the ground truth contains 3, which is neither a class \(0 to 2\)",
        ),
    ],
)
def test_wrong_images_are_refused(confidence: Any, classes: Any, mask: Any, message: str) -> None:
    calibration = Calibration(3)
    with pytest.raises(ValueError, match=message):
        calibration.update(confidence, classes, mask)
    assert (calibration.images, calibration.scores().pixels) == (0, 0)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (np.full((2, 2, 3), 0.5), r"must be \(3, H, W\) and mask \(H, W\), found \(2, 2, 3\)"),
        (np.full((3, 2, 3), 0.5), "the probabilities of 5 pixels do not sum to 1; apply logits.softmax"),
        (np.full((3, 2, 3), -0.5), "5 probabilities are NaN or outside 0 to 1"),
        (np.full((3, 2, 3), np.nan), "5 probabilities are NaN"),
    ],
)
def test_wrong_probabilities_are_refused(probabilities: Any, message: str) -> None:
    calibration = Calibration(3)
    with pytest.raises(ValueError, match=message):
        calibration.update_probabilities(probabilities, MASK)
    assert (calibration.images, calibration.scores().pixels) == (0, 0)


def test_half_precision_probabilities_will_do() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(150), (8, 9)).transpose(2, 0, 1).astype(np.float16)
    calibration = Calibration(150)
    calibration.update_probabilities(probabilities, np.zeros((8, 9), np.uint8))
    assert calibration.scores().pixels == 72


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0,), "num_classes must be 1 to 255, found 0"), ((256,), "found 256"), ((2, 0), "at least one bin")],
)
def test_impossible_settings_are_refused(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Calibration(*arguments)


def test_only_the_same_classes_and_bins_merge() -> None:
    for other in (Calibration(3, 10), Calibration(2, 15)):
        with pytest.raises(ValueError, match="same classes and bins"):
            Calibration(3, 15).merge(other)
