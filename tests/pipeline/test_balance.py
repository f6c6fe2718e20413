"""Class balance: what is drawn how often, that it is the same everywhere, and datasets that are odd."""

from __future__ import annotations

import math
from collections import Counter
from itertools import chain, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import chi2

from imageseg.datasets.statistics.counts import ImageCounts
from imageseg.errors import InputError
from imageseg.pipeline.balance import (
    BALANCES,
    FocusedPermutation,
    RareClasses,
    Repeats,
    balanced_order,
    class_probabilities,
    repeat_factors,
)
from imageseg.pipeline.stream import Draw, Order, Permutation, StreamBatches

NAMES = ("road", "car", "rider", "moon")


def order_of(balance: str, pixels: np.ndarray, *, seed: int = 0) -> Order:
    counts = ImageCounts(pixels, np.zeros(len(pixels), np.int64))
    names = [f"class {index}" for index in range(pixels.shape[1])]
    return balanced_order(balance, counts, names=names, seed=seed)[0]


def streets(count: int = 200) -> np.ndarray:
    """Road everywhere, cars in half of the pictures, a rider in every twentieth, never the moon."""
    pixels = np.zeros((count, 4), np.int64)
    pixels[:, 0] = 8000
    pixels[::2, 1] = 1500
    pixels[::20, 2] = 100
    return pixels


def epochs(order: Order, count: int) -> list[Draw]:
    return list(chain.from_iterable(order.draws(epoch) for epoch in range(count)))


def assert_fits(found: Counter[int], expected: np.ndarray) -> None:
    """Pearson's test, at a chance of one in 10,000 that the right law is refused; the seeds are fixed."""
    assert all(expected[value] > 0 for value in found)
    likely = np.flatnonzero(expected > 0)
    statistic = sum((found[index] - expected[index]) ** 2 / expected[index] for index in likely)
    assert statistic < chi2.ppf(0.9999, len(likely) - 1)


# Rare class sampling


def test_probabilities_are_the_papers_where_its_temperature_fits() -> None:
    """Twelve rare classes of about 0.5 % and a frequent one, by hand: exp((1 - f) / 0.01), made to sum to 1."""
    pixels = np.array([940, *([5] * 12)])
    shares = pixels / pixels.sum()
    powers = [math.exp((1 - share) / 0.01) for share in shares]
    assert class_probabilities(pixels) == pytest.approx([power / sum(powers) for power in powers], rel=1e-12)


@pytest.mark.parametrize("pixels", [[95, 5], [999_999, 1], [60, 30, 10], [90, 9, 1, 0]])
def test_few_classes_are_mixed_and_rarer_ones_come_more_often(pixels: list[int]) -> None:
    """With the paper's T, the rarest would have all draws."""
    found = class_probabilities(np.array(pixels))
    there = found[found > 0]
    assert found.sum() == pytest.approx(1)
    assert (found > 0).tolist() == [count > 0 for count in pixels]
    assert (np.diff(there) > 0).all()  # the rows above fall
    assert math.exp(-(there * np.log(there)).sum()) == pytest.approx(1 + 0.6 * (len(there) - 1), rel=1e-9)


def test_of_two_classes_the_rarer_one_gets_four_fifths() -> None:
    assert class_probabilities(np.array([99, 1])) == pytest.approx([0.179, 0.821], abs=1e-3)
    assert class_probabilities(np.array([50, 50])).tolist() == [0.5, 0.5]
    assert class_probabilities(np.array([0, 7])).tolist() == [0, 1]


def test_classes_are_drawn_by_their_probabilities_and_pictures_evenly() -> None:
    pixels = streets()
    order = RareClasses(pixels, seed=3)
    draws = epochs(order, 50)
    assert len(draws) == 50 * 200
    assert_fits(Counter(draw.focus for draw in draws), 10_000 * order.probabilities)
    riders = Counter(draw.sample for draw in draws if draw.focus == 2)
    assert_fits(riders, riders.total() * (pixels[:, 2] > 0) / 10)
    roads = Counter(draw.sample for draw in draws if draw.focus == 0)
    assert_fits(roads, np.full(200, roads.total() / 200))


def test_a_picture_needs_enough_of_a_class_where_another_has_it() -> None:
    """Of 10,000 pixels, 14 are too few and 15 enough; a class of which none has enough is drawn from all that hold it."""
    pixels = np.array([[9_986, 14, 0], [9_985, 15, 0], [10_000, 0, 0], [9_999, 0, 1]])
    draws = epochs(RareClasses(pixels, seed=0), 400)
    assert {draw.sample for draw in draws if draw.focus == 1} == {1}
    assert {draw.sample for draw in draws if draw.focus == 2} == {3}
    assert {draw.sample for draw in draws if draw.focus == 0} == {0, 1, 2, 3}


# Repeat factors


def test_factors_by_hand() -> None:
    """Road in all, car in 3 of 4, rider in 1 of 4: t is the median 3/4, so that the rider's is sqrt(3) and others' are 1."""
    pixels = np.array([[5, 0, 0, 0], [5, 1, 0, 0], [5, 1, 0, 0], [5, 1, 1, 0]])
    assert repeat_factors(pixels) == pytest.approx([1, 1, 1, math.sqrt(3)])
    order = Repeats(pixels, seed=0)
    assert len(order) == 5  # 4.73
    assert order.factors.sum() == pytest.approx(5)


def test_pictures_come_as_often_as_their_factors_say() -> None:
    order = Repeats(streets(), seed=1)
    found = Counter(draw.sample for draw in epochs(order, 400))
    times = np.array([found[sample] for sample in range(200)]) / 400
    # Whole numbers beside the factor: the spread of a mean of 400 is at most 0.025; four times that.
    assert np.abs(times - order.factors).max() < 0.1
    assert times[::20].min() > times[1::2].max()


pixel_counts = hnp.arrays(
    np.int64, st.tuples(st.integers(1, 9), st.integers(1, 5)), elements=st.sampled_from([0, 0, 1, 3, 500, 10**6])
).filter(lambda pixels: pixels.any())


@given(pixels=pixel_counts, seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 10**6))
def test_every_epoch_repeats_each_picture_by_its_factor_rounded_up_or_down(
    pixels: np.ndarray, seed: int, epoch: int
) -> None:
    order = Repeats(pixels, seed=seed)
    draws = order.draws(epoch)
    assert len(draws) == len(order)
    found = Counter(draw.sample for draw in draws)
    for sample, factor in enumerate(order.factors):
        assert math.floor(factor - 1e-6) <= found[sample] <= math.ceil(factor + 1e-6)
        assert found[sample] >= 1


# Focus


def test_half_of_the_pictures_are_focused_on_what_is_rare_in_them() -> None:
    pixels = streets()
    order = FocusedPermutation(pixels, seed=2)
    draws = epochs(order, 100)
    assert [draw[:3] for draw in draws] == [draw[:3] for draw in epochs(Permutation(200, seed=2), 100)]
    only_road, with_car, with_rider = (
        Counter(draw.focus for draw in draws if chosen(draw.sample))
        for chosen in (lambda s: s % 2 == 1, lambda s: s % 2 == 0 and s % 20, lambda s: s % 20 == 0)
    )
    assert set(only_road) == {None}
    probabilities = class_probabilities(pixels.sum(axis=0))
    for found, held in ((with_car, [0, 1]), (with_rider, [0, 1, 2])):
        expected = np.zeros(5)  # the last is None
        expected[held] = probabilities[held] / probabilities[held].sum() / 2
        expected[4] = 0.5
        assert_fits(Counter({4 if focus is None else focus: n for focus, n in found.items()}), found.total() * expected)


def test_very_frequent_classes_have_a_focus_too() -> None:
    """Two pictures whose classes have no chance beside the others': exp(-50) vanishes in a sum with 1."""
    pixels = np.vstack([[50_000, 50_000, *([0] * 20)], np.full((1, 22), 1), [50_000, 50_000, *([0] * 20)]])
    draws = epochs(FocusedPermutation(pixels, seed=0), 200)
    for sample in (0, 2):
        found = Counter(draw.focus for draw in draws if draw.sample == sample)
        assert set(found) == {None, 0, 1}
        assert_fits(Counter({0: found[0], 1: found[1], 2: found[None]}), np.array([50, 50, 100]))


# All of them


@given(
    pixels=pixel_counts,
    balance=st.sampled_from(BALANCES),
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 10**6),
)
def test_any_dataset_gives_an_epoch_of_pictures_that_hold_what_they_are_drawn_for(
    pixels: np.ndarray, balance: str, seed: int, epoch: int
) -> None:
    order = order_of(balance, pixels, seed=seed)
    draws = order.draws(epoch)
    assert len(draws) == len(order) >= 1
    assert list(draws) == list(order_of(balance, pixels.copy(), seed=seed).draws(epoch))
    before: Counter[int] = Counter()
    for draw in draws:
        assert draw.epoch == epoch
        assert draw.occurrence == before[draw.sample]
        before[draw.sample] += 1
        assert draw.focus is None or pixels[draw.sample, draw.focus] > 0
        assert all(type(value) in (int, type(None)) for value in draw)
    if balance in ("none", "focus"):
        assert sorted(before) == list(range(len(pixels)))


@pytest.mark.parametrize("balance", ["rcs", "repeat", "focus"])
def test_seeds_and_epochs_differ(balance: str) -> None:
    drawn = [order_of(balance, streets(), seed=seed).draws(epoch) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert len({tuple(draws) for draws in drawn}) == 6


@pytest.mark.parametrize("balance", ["rcs", "repeat", "focus"])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_share_the_stream_of_one_and_it_goes_on_anywhere(balance: str, world_size: int) -> None:
    pixels = streets(7)

    def batches(count: int, *, size: int, rank: int = 0, processes: int = 1, first: int = 0) -> list[list[Draw]]:
        order = order_of(balance, pixels, seed=9)  # anew: nothing is kept between them
        stream = StreamBatches(
            7, batch_size=size, seed=9, order=order, first_batch=first, rank=rank, world_size=processes
        )
        return list(islice(stream, count))

    alone = batches(12, size=3 * world_size)
    shares = [batches(12, size=3, rank=rank, processes=world_size) for rank in range(world_size)]
    assert [list(chain.from_iterable(step)) for step in zip(*shares, strict=True)] == alone
    for first in range(12):
        for rank in range(world_size):
            later = batches(12 - first, size=3, rank=rank, processes=world_size, first=first)
            assert later == shares[rank][first:]
    drawn = list(chain.from_iterable(alone))
    assert len({draw[:3] for draw in drawn}) == len(drawn), "no augmentation comes twice"


def test_none_is_the_plain_permutation() -> None:
    assert list(order_of("none", streets(9), seed=4).draws(5)) == list(Permutation(9, seed=4).draws(5))
    assert list(order_of("none", np.zeros((3, 2), np.int64)).draws(0)) == list(Permutation(3, seed=0).draws(0))


@pytest.mark.parametrize("balance", ["auto", "rcs", "repeat", "focus"])
def test_masks_without_a_labelled_pixel_cannot_be_balanced(balance: str) -> None:
    with pytest.raises(InputError, match=rf"data\.balance {balance}: the training split \(3 masks\) has no pixel"):
        order_of(balance, np.zeros((3, 2), np.int64))


@pytest.mark.parametrize("balance", ["auto", "rcs", "repeat", "focus"])
def test_one_picture_is_a_dataset(balance: str) -> None:
    draws = epochs(order_of(balance, np.array([[99, 1, 0]])), 20)
    assert {draw.sample for draw in draws} == {0}
    assert {draw.epoch for draw in draws} == set(range(20))


def test_a_wrong_name_is_said() -> None:
    with pytest.raises(InputError, match=r"no balance is called 'rsc' \(did you mean 'rcs'\?\)"):
        order_of("rsc", streets())


@pytest.mark.parametrize(
    ("pixels", "kind", "line"),
    [
        (np.array([[60, 40, 10, 0]] * 5), Permutation, "none, because even the rarest class, rider, has 9.1 % of the"),
        (streets(), RareClasses, "rcs, because rider has 0.057 % of the pixels, in 5 % of the pictures"),
        (
            np.array([[900, 99, 1, 0]] * 5),
            FocusedPermutation,
            "focus, because rider has 0.1 % of the pixels, in most of the pictures",
        ),
        (np.array([[9, 0, 0, 0]]), Permutation, "none, because even the rarest class, road, has 100 % of the pixels"),
    ],
)
def test_auto_says_what_it_chose_and_why(pixels: np.ndarray, kind: type, line: str) -> None:
    counts = ImageCounts(pixels, np.zeros(len(pixels), np.int64))
    order, said = balanced_order("auto", counts, names=NAMES, seed=0)
    assert type(order) is kind
    assert said is not None
    assert said.startswith(f"balance: {line}")
    assert balanced_order("rcs", counts, names=NAMES, seed=0)[1] is None


def test_orders_stay_what_they_were() -> None:
    """These figures never change: a run of an older version goes on with the samples that it would have seen."""
    pixels = streets(40)
    found = {
        balance: [(draw.sample, draw.occurrence, draw.focus) for draw in order_of(balance, pixels).draws(1)][:6]
        for balance in ("rcs", "repeat", "focus")
    }
    assert found == {
        "rcs": [(20, 0, 2), (0, 0, 2), (0, 1, 2), (0, 2, 2), (0, 3, 2), (0, 4, 2)],
        "repeat": [(27, 0, None), (31, 0, None), (10, 0, None), (39, 0, None), (2, 0, None), (16, 0, None)],
        "focus": [(4, 0, None), (5, 0, None), (38, 0, None), (11, 0, None), (30, 0, 1), (29, 0, None)],
    }
