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

from imageseg.errors import InputError
from imageseg.pipeline.balance import RareClassOrder, check_balance, class_probabilities
from imageseg.pipeline.epoch_order import Draw, Order
from imageseg.pipeline.stream import StreamBatches


def streets(count: int = 200) -> np.ndarray:
    """Road everywhere, cars in half of the images, a rider in every twentieth, never the moon."""
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


def test_classes_are_drawn_by_their_probabilities_and_images_evenly() -> None:
    pixels = streets()
    order = RareClassOrder(pixels, seed=3)
    draws = epochs(order, 50)
    assert len(draws) == 50 * 200
    assert_fits(Counter(draw.focus for draw in draws), 10_000 * order.probabilities)
    riders = Counter(draw.sample for draw in draws if draw.focus == 2)
    assert_fits(riders, riders.total() * (pixels[:, 2] > 0) / 10)
    roads = Counter(draw.sample for draw in draws if draw.focus == 0)
    assert_fits(roads, np.full(200, roads.total() / 200))


def test_an_image_needs_enough_of_a_class_where_another_has_it() -> None:
    """Of 10,000 pixels, 14 are too few and 15 enough; a class of which none has enough is drawn from all that hold it."""
    pixels = np.array([[9_986, 14, 0], [9_985, 15, 0], [10_000, 0, 0], [9_999, 0, 1]])
    draws = epochs(RareClassOrder(pixels, seed=0), 400)
    assert {draw.sample for draw in draws if draw.focus == 1} == {1}
    assert {draw.sample for draw in draws if draw.focus == 2} == {3}
    assert {draw.sample for draw in draws if draw.focus == 0} == {0, 1, 2, 3}


# Any dataset


pixel_counts = hnp.arrays(
    np.int64, st.tuples(st.integers(1, 9), st.integers(1, 5)), elements=st.sampled_from([0, 0, 1, 3, 500, 10**6])
).filter(lambda pixels: pixels.any())


@given(pixels=pixel_counts, seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 10**6))
def test_any_dataset_gives_an_epoch_of_images_that_show_what_they_are_drawn_for(
    pixels: np.ndarray, seed: int, epoch: int
) -> None:
    order = RareClassOrder(pixels, seed=seed)
    draws = order.draws(epoch)
    assert len(draws) == len(order) >= 1
    assert list(draws) == list(RareClassOrder(pixels.copy(), seed=seed).draws(epoch))
    before: Counter[int] = Counter()
    for draw in draws:
        assert draw.epoch == epoch
        assert draw.occurrence == before[draw.sample]
        before[draw.sample] += 1
        assert draw.focus is not None
        assert pixels[draw.sample, draw.focus] > 0
        assert all(type(value) is int for value in draw)


def test_seeds_and_epochs_differ() -> None:
    drawn = [RareClassOrder(streets(), seed=seed).draws(epoch) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert len({tuple(draws) for draws in drawn}) == 6


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_share_the_stream_of_one_and_it_continues_anywhere(world_size: int) -> None:
    pixels = streets(7)

    def batches(count: int, *, size: int, rank: int = 0, processes: int = 1, first: int = 0) -> list[list[Draw]]:
        order = RareClassOrder(pixels, seed=9)  # again: nothing is kept between them
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


def test_masks_without_a_labeled_pixel_cannot_be_balanced() -> None:
    with pytest.raises(InputError, match=r"data\.balance rcs: the training split \(3 masks\) has no pixel"):
        RareClassOrder(np.zeros((3, 2), np.int64), seed=0)


def test_a_single_image_is_a_dataset() -> None:
    draws = epochs(RareClassOrder(np.array([[99, 1, 0]]), seed=0), 20)
    assert {draw.sample for draw in draws} == {0}
    assert {draw.epoch for draw in draws} == set(range(20))


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match=r"no balance is called 'rsc' \(did you mean 'rcs'\?\)"):
        check_balance("rsc")
    check_balance("rcs")
    check_balance("none")


@pytest.mark.parametrize("balance", ["repeat", "focus", "auto"])
def test_a_removed_name_says_what_replaces_it(balance: str) -> None:
    with pytest.raises(InputError, match=rf"data\.balance '{balance}' was removed.*; use rcs"):
        check_balance(balance)


def test_the_order_stays_what_it_was() -> None:
    """These numbers never change: a run of an older version continues with the samples that it would have seen."""
    draws = RareClassOrder(streets(40), seed=0).draws(1)
    found = [(draw.sample, draw.occurrence, draw.focus) for draw in draws][:6]
    assert found == [(20, 0, 2), (0, 0, 2), (0, 1, 2), (0, 2, 2), (0, 3, 2), (0, 4, 2)]
