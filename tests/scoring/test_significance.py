"""Intervals and paired tests: against SciPy and plain enumeration, on synthetic splits whose true mIoU is known."""

from __future__ import annotations

import itertools
import json
import math
import tracemalloc
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from imageseg.scoring.confusion import ConfusionMatrix
from imageseg.scoring.dialects import miou_over
from imageseg.scoring.significance import PerImageConfusion, bootstrap_miou, paired_test


def _images(
    images: int, *, classes: int = 3, seed: int = 0, skill: float = 0.7, spread: float = 0.15
) -> PerImageConfusion:
    """Random images of equal size, some without some classes; ``skill`` is the mean share that is found."""
    rng = np.random.default_rng(seed)
    true = rng.integers(100, 1000, (images, classes)) * (rng.random((images, classes)) < 0.8)
    found = np.clip(rng.normal(skill, spread, (images, classes)), 0, 1)
    intersection = (true * found).astype(np.int64)
    return PerImageConfusion(intersection, true, intersection + rng.integers(0, 100, (images, classes)))


def _paired(images: int, *, gain: float, seed: int = 0) -> tuple[PerImageConfusion, PerImageConfusion]:
    """Two predictions of the same images, of which the second finds ``gain`` more of each class, give or take."""
    one = _images(images, seed=seed)
    rng = np.random.default_rng([seed, 1])
    moved = (one.true * (gain + rng.normal(0, 0.05, one.true.shape))).astype(np.int64)
    intersection = np.clip(one.intersection + moved, 0, one.true)
    return one, PerImageConfusion(intersection, one.true, one.predicted - one.intersection + intersection)


def _skewed() -> PerImageConfusion:
    """Mostly good images, and two large ones of which little is found."""
    counts = _images(25, skill=0.95)
    scale = np.ones((25, 1), np.int64)
    scale[:2] = 8
    intersection = counts.intersection * scale
    intersection[:2] //= 4
    return PerImageConfusion(intersection, counts.true * scale, counts.predicted * scale)


def _miou(counts: PerImageConfusion, drawn: Any = slice(None)) -> float:
    """Of some images, in plain Python."""
    intersection, true, predicted = (
        part[drawn].sum(axis=0).tolist() for part in (counts.intersection, counts.true, counts.predicted)
    )
    rows = zip(intersection, true, predicted, strict=True)
    ious = [both / (one + other - both) for both, one, other in rows if one + other - both]
    return sum(ious) / len(ious) if ious else math.nan


def test_the_estimate_is_the_miou_of_all_images() -> None:
    for images in (1, 2, 30):
        counts = _images(images)
        assert bootstrap_miou(counts, resamples=10).estimate == pytest.approx(_miou(counts), abs=1e-15)
        assert bootstrap_miou(counts, resamples=10).images == images


def test_counts_follow_from_tables_of_true_and_predicted_classes() -> None:
    rng = np.random.default_rng(0)
    total, tables = ConfusionMatrix(3), []
    for _ in range(4):
        classes, mask = rng.choice(np.uint8([0, 1, 2, 255]), (2, 9, 7))
        confusion = ConfusionMatrix(3)
        confusion.update(classes, mask)
        tables.append(np.hstack([confusion.matrix, confusion.missed[:, None]]))
        total.merge(confusion)
    stacked = np.stack(tables)
    counts = PerImageConfusion(
        np.diagonal(stacked, axis1=1, axis2=2).copy(), stacked.sum(axis=2), stacked[:, :, :-1].sum(axis=1)
    )
    assert counts.images == 4
    assert bootstrap_miou(counts, resamples=1).estimate == pytest.approx(total.scores().miou, abs=1e-15)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95])
@pytest.mark.parametrize("counts", [_images(25), _skewed(), _images(3)], ids=["plain", "skewed", "few"])
def test_intervals_are_scipys(confidence: float, counts: PerImageConfusion) -> None:
    tables = counts.intersection, counts.true, counts.predicted

    def statistic(drawn: npt.NDArray[np.int64], axis: int = -1) -> npt.NDArray[np.float64]:
        return miou_over("union", *(table[drawn].sum(axis=axis - 1) for table in tables))

    expected = stats.bootstrap(
        (np.arange(counts.images),),
        statistic,
        n_resamples=20_000,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(5),
    ).confidence_interval
    found = bootstrap_miou(counts, resamples=20_000, confidence=confidence)
    width = expected.high - expected.low
    assert found.low == pytest.approx(expected.low, abs=0.05 * width)
    assert found.high == pytest.approx(expected.high, abs=0.05 * width)


def test_intervals_cover_the_true_miou_at_the_stated_rate() -> None:
    true = _miou(_images(200_000, seed=999))
    intervals = [bootstrap_miou(_images(40, seed=seed), resamples=400, confidence=0.9) for seed in range(400)]
    covered = np.mean([interval.low <= true <= interval.high for interval in intervals])
    assert 0.85 < covered < 0.94
    assert all(interval.low < interval.estimate < interval.high for interval in intervals)


def test_more_images_and_less_confidence_make_narrower_intervals() -> None:
    def width(images: int, confidence: float) -> float:
        interval = bootstrap_miou(_images(images), confidence=confidence)
        return interval.high - interval.low

    assert width(400, 0.95) < 0.65 * width(100, 0.95)
    assert width(100, 0.5) < 0.5 * width(100, 0.95)


def test_one_image_says_nothing_about_others() -> None:
    interval = bootstrap_miou(_images(1))
    assert (interval.to_dict()["low"], interval.to_dict()["high"]) == (None, None)
    assert interval.estimate > 0


def test_identical_images_give_an_interval_of_zero_width() -> None:
    one = _images(1)
    counts = PerImageConfusion(*(np.repeat(part, 5, axis=0) for part in (one.intersection, one.true, one.predicted)))
    interval = bootstrap_miou(counts)
    assert interval.low == pytest.approx(interval.estimate, abs=1e-15)
    assert interval.high == pytest.approx(interval.estimate, abs=1e-15)


def test_images_with_only_ignored_pixels_have_no_score() -> None:
    empty = PerImageConfusion(*np.zeros((3, 4, 2), np.int64))
    plain = json.loads(json.dumps(paired_test(empty, empty).to_dict()))
    assert (plain["miou_a"], plain["p_value"]) == (None, None)
    assert [plain["difference"][end] for end in ("estimate", "low", "high")] == [None, None, None]
    # One of two images is empty: a quarter of the drawn splits has no mIoU, the others have the image's own.
    one = _images(1)
    parts = [np.vstack([part, 0 * part]) for part in (one.intersection, one.true, one.predicted)]
    interval = bootstrap_miou(PerImageConfusion(*parts))
    assert interval.low == interval.high == interval.estimate


def test_the_same_seed_draws_the_same_images() -> None:
    one, other = _paired(20, gain=0.02)
    assert bootstrap_miou(one) == bootstrap_miou(one)
    assert bootstrap_miou(one, seed=1) != bootstrap_miou(one)
    assert paired_test(one, other, permutations=200) == paired_test(one, other, permutations=200)
    assert (
        paired_test(one, other, permutations=200, seed=1).p_value != paired_test(one, other, permutations=200).p_value
    )


def test_memory_stays_small() -> None:
    one, other = _paired(5000, gain=0.01)
    wide = [
        PerImageConfusion(*(np.tile(part, (1, 50)) for part in (each.intersection, each.true, each.predicted)))
        for each in (one, other)
    ]
    tracemalloc.start()
    try:
        paired_test(*wide, resamples=800, permutations=800)
        peak = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert peak < 140, f"{peak:.0f} MiB, of which 69 hold both tables, one by one and side by side"


# Two sets of predictions.


def test_the_difference_is_the_second_minus_the_first() -> None:
    one, other = _paired(15, gain=0.05)
    found = paired_test(one, other, permutations=10)
    assert found.miou_a == pytest.approx(_miou(one), abs=1e-15)
    assert found.miou_b == pytest.approx(_miou(other), abs=1e-15)
    assert found.difference.estimate == pytest.approx(_miou(other) - _miou(one), abs=1e-15)
    back = paired_test(other, one, permutations=10)
    assert back.difference.estimate == -found.difference.estimate


@pytest.mark.parametrize("images", [1, 5, 30])
def test_a_set_does_not_differ_from_itself(images: int) -> None:
    one = _images(images)
    found = paired_test(one, one, permutations=100)
    assert found.p_value == 1
    assert found.difference.estimate == 0
    if images > 1:
        assert (found.difference.low, found.difference.high) == (0, 0)


def test_a_clear_difference_is_no_chance() -> None:
    found = paired_test(*_paired(60, gain=0.1))
    assert found.p_value == 1 / 10_001
    assert not found.exact
    assert found.permutations == 10_000
    assert 0 < found.difference.low < found.difference.estimate < found.difference.high
    alone = bootstrap_miou(_images(60))
    assert found.difference.high - found.difference.low < 0.5 * (alone.high - alone.low), "images are drawn for both"


@settings(max_examples=40)
@given(st.integers(1, 6), st.integers(0, 1000), st.sampled_from([0.0, 0.03, 0.1]))
def test_few_images_are_tested_by_every_way_to_swap_them(images: int, seed: int, gain: float) -> None:
    one, other = _paired(images, gain=gain, seed=seed)
    observed = abs(_miou(other) - _miou(one))
    hits = 0
    for swapped in itertools.product((False, True), repeat=images):
        choice = np.array(swapped)[:, None]
        first, second = (
            PerImageConfusion(
                np.where(choice, b.intersection, a.intersection), a.true, np.where(choice, b.predicted, a.predicted)
            )
            for a, b in ((one, other), (other, one))
        )
        hits += abs(_miou(second) - _miou(first)) >= observed - 1e-12
    found = paired_test(one, other, resamples=1)
    assert found.exact
    assert found.permutations == 2**images
    assert found.p_value == hits / 2**images


def test_swaps_that_differ_by_rounding_alone_count_alike() -> None:
    """Where the second image is the first with its classes in reverse, swapping both gives the same difference."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        true = rng.integers(100, 1000, (3, 6))
        true[1], true[2] = true[0, ::-1], true[2] + true[2, ::-1]
        found = rng.integers(0, 100, (2, 3, 6))
        found[0, 1], found[1, 1] = found[1, 0, ::-1], found[0, 0, ::-1]
        found[:, 2] += found[:, 2, ::-1]
        exact = [_exact_miou(np.where(swap[:, None], found[::-1], found), true) for swap in _swaps(3)]
        hits = sum(abs(b - a) >= abs(exact[0][1] - exact[0][0]) for a, b in exact)
        one, other = (PerImageConfusion(each, true, true) for each in found)
        assert paired_test(one, other, resamples=1).p_value == hits / 8


def _swaps(images: int) -> list[npt.NDArray[np.bool_]]:
    return [np.array(swap) for swap in itertools.product((False, True), repeat=images)]


def _exact_miou(found: npt.NDArray[np.int64], true: npt.NDArray[np.int64]) -> tuple[Fraction, Fraction]:
    """Of two sets of intersections, in fractions, where as many pixels are predicted as are true."""
    whole = true.sum(axis=0).tolist()
    one, other = (
        sum(Fraction(both, 2 * every - both) for both, every in zip(each.sum(axis=0).tolist(), whole, strict=True))
        for each in found
    )
    return Fraction(one), Fraction(other)


def test_random_swaps_come_close_to_all_of_them() -> None:
    one, other = _paired(12, gain=0.012)
    exact = paired_test(one, other, resamples=1)
    assert (exact.exact, exact.permutations) == (True, 4096)
    assert 0.01 < exact.p_value < 0.6
    # A thirteenth image that was predicted alike changes no swap, and makes them too many to try all.
    longer = []
    for each in (one, other):
        more = _images(1, seed=77)
        same = PerImageConfusion(0 * more.intersection, 0 * more.true, 0 * more.predicted)
        parts = ("intersection", "true", "predicted")
        longer.append(PerImageConfusion(*(np.vstack([getattr(each, part), getattr(same, part)]) for part in parts)))
    drawn = paired_test(*longer, permutations=20_000, resamples=1)
    assert not drawn.exact
    assert drawn.p_value == pytest.approx(exact.p_value, abs=0.015)


def test_p_values_are_uniform_under_the_null_hypothesis() -> None:
    p_values = np.array([paired_test(*_fair(10, seed), resamples=1).p_value for seed in range(300)])
    for level in (0.05, 0.2, 0.5):
        assert (p_values <= level).mean() == pytest.approx(level, abs=3 * math.sqrt(level * (1 - level) / 300))


def _fair(images: int, seed: int) -> tuple[PerImageConfusion, PerImageConfusion]:
    """Two predictions of the same images by two networks that are equally good."""
    rng = np.random.default_rng(seed)
    true = rng.integers(100, 1000, (images, 3))
    pair = []
    for _ in range(2):
        intersection = (true * rng.uniform(0.4, 0.9, true.shape)).astype(np.int64)
        pair.append(PerImageConfusion(intersection, true, intersection + rng.integers(0, 100, true.shape)))
    return pair[0], pair[1]


def test_the_averaging_rule_can_be_replaced() -> None:
    counts = PerImageConfusion(*(np.array([row], np.int64) for row in ([5, 0, 0], [10, 0, 0], [5, 5, 0])))
    for rule, miou in (("union", 0.25), ("truth", 0.5), ("all", 1 / 6)):
        assert bootstrap_miou(counts, resamples=1, mean_over=partial(miou_over, rule)).estimate == pytest.approx(miou)
    one, other = _paired(20, gain=0.05)
    first = paired_test(
        one, other, mean_over=lambda both, true, predicted: both[..., 0] / true[..., 0], permutations=99
    )
    recall = [part.intersection[:, 0].sum() / part.true[:, 0].sum() for part in (one, other)]
    assert (first.miou_a, first.miou_b) == pytest.approx(recall)


def test_results_convert_to_plain_json() -> None:
    one, other = _paired(20, gain=0.05)
    plain = json.loads(json.dumps(paired_test(one, other, permutations=99, resamples=50, confidence=0.9).to_dict()))
    assert set(plain) == {"miou_a", "miou_b", "difference", "p_value", "permutations", "exact"}
    assert plain["difference"].pop("estimate") == pytest.approx(plain["miou_b"] - plain["miou_a"])
    assert plain["difference"].pop("low") < plain["difference"].pop("high")
    assert plain["difference"] == {"confidence": 0.9, "method": "percentile", "resamples": 50, "images": 20}


# What is refused.


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            [np.ones((2, 3), int), np.ones((2, 3), int), np.ones((3, 3), int)],
            r"the same shape \(N, C\), found \(2, 3\), \(2, 3\) and \(3, 3\)",
        ),
        ([np.ones(3, int)] * 3, r"must all have the same shape \(N, C\)"),
        ([np.ones((0, 3), int)] * 3, r"found \(0, 3\)"),
        ([np.ones((2, 3))] * 3, "must be integers"),
        (
            [np.ones((2, 3), int), np.zeros((2, 3), int), np.ones((2, 3), int)],
            "an intersection must be at least 0 and at most",
        ),
        ([-np.ones((2, 3), int)] * 3, "an intersection must be at least 0 and at most"),
    ],
)
def test_impossible_counts_are_refused(parts: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PerImageConfusion(*parts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resamples": 0}, "at least one resample"),
        ({"confidence": 1.0}, "between 0 and 1, found 1.0"),
        ({"confidence": 95}, "between 0 and 1, found 95"),
        ({"permutations": 0}, "at least one permutation"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    counts = _images(3)
    with pytest.raises(ValueError, match=message):
        paired_test(counts, counts, **arguments)
    if "permutations" not in arguments:
        with pytest.raises(ValueError, match=message):
            bootstrap_miou(counts, **arguments)


def test_sets_of_different_images_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"differ in shape: \(4, 3\) and \(5, 3\)"):
        paired_test(_images(4), _images(5))
    one = _images(4)
    order = [0, 2, 1, 3]
    other = PerImageConfusion(one.intersection[order], one.true[order], one.predicted[order])
    with pytest.raises(ValueError, match="not of the same images: the ground truth of image 1 differs"):
        paired_test(one, other)
