"""The stream: every sample once per epoch, the same for any number of processes, from any place on."""

from __future__ import annotations

from itertools import chain, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from whole_pair import WholePair

from imageseg.pipeline.crop import Box, OpenPair
from imageseg.pipeline.epoch_order import Draw, counted_seed
from imageseg.pipeline.stream import AugmentedSamples, StreamBatches

sizes = st.integers(1, 12)


def _batches(count: int, **arguments: int) -> list[list[Draw]]:
    length = arguments.pop("length")
    return list(islice(StreamBatches(length, **arguments), count))  # type: ignore[arg-type]


@given(length=sizes, batch_size=sizes, seed=st.integers(0, 2**32), world_size=st.integers(1, 3))
def test_every_epoch_visits_every_sample_once(length: int, batch_size: int, seed: int, world_size: int) -> None:
    epochs = 3
    per_process = -(-epochs * length // (batch_size * world_size))
    draws = [
        draw
        for rank in range(world_size)
        for batch in _batches(
            per_process, length=length, batch_size=batch_size, seed=seed, rank=rank, world_size=world_size
        )
        for draw in batch
    ]
    for epoch in range(epochs):
        assert sorted(draw.sample for draw in draws if draw.epoch == epoch) == list(range(length))


def test_batches_are_always_full_and_run_across_epochs() -> None:
    batches = _batches(4, length=5, batch_size=3, seed=0)
    assert [len(batch) for batch in batches] == [3, 3, 3, 3]
    assert [[draw.epoch for draw in batch] for batch in batches] == [[0, 0, 0], [0, 0, 1], [1, 1, 1], [1, 2, 2]]


def test_a_batch_may_be_longer_than_an_epoch() -> None:
    [batch] = _batches(1, length=2, batch_size=5, seed=0)
    assert [draw.epoch for draw in batch] == [0, 0, 1, 1, 2]


@given(length=sizes, batch_size=sizes, first=st.integers(0, 9), world_size=st.integers(1, 3))
def test_a_run_that_continues_continues_exactly(length: int, batch_size: int, first: int, world_size: int) -> None:
    for rank in range(world_size):
        place = {"length": length, "batch_size": batch_size, "seed": 7, "rank": rank, "world_size": world_size}
        assert _batches(5, first_batch=first, **place) == _batches(first + 5, **place)[first:]


@given(length=sizes, batch_size=sizes, world_size=st.integers(1, 4))
def test_processes_share_the_stream_of_one(length: int, batch_size: int, world_size: int) -> None:
    alone = _batches(6, length=length, batch_size=batch_size * world_size, seed=3)
    shares = [
        _batches(6, length=length, batch_size=batch_size, seed=3, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert [list(chain.from_iterable(step)) for step in zip(*shares, strict=True)] == alone


def test_a_stream_may_be_read_again() -> None:
    stream = StreamBatches(7, batch_size=3, seed=1)
    assert list(islice(stream, 5)) == list(islice(stream, 5))


def test_epochs_and_seeds_differ_in_order() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        [batch] = _batches(1, length=50, batch_size=50, seed=seed, first_batch=epoch)
        return [draw.sample for draw in batch]

    orders = [order(seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert len({tuple(samples) for samples in orders}) == 6
    assert list(range(50)) not in orders


def test_the_stream_stays_what_it_was() -> None:
    """These numbers never change: a run of an older version continues with the samples that it would have seen."""
    draws = list(chain.from_iterable(_batches(4, length=5, batch_size=3, seed=0)))
    assert [draw.epoch for draw in draws] == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2]
    assert [draw.sample for draw in draws] == [2, 4, 1, 3, 0, 3, 0, 4, 2, 1, 1, 0]
    assert counted_seed(0, 0, 0) == 2968811710
    assert counted_seed(1, 2, 3) == 3822189696
    assert counted_seed(42, 7, 123456) == 1020888348


def test_seeds_differ_between_seeds_epochs_and_samples() -> None:
    seeds = {counted_seed(seed, epoch, sample) for seed in range(3) for epoch in range(4) for sample in range(50)}
    assert len(seeds) == 3 * 4 * 50
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert counted_seed(1, 2) != counted_seed(2, 1)


@pytest.mark.parametrize(("length", "batch_size"), [(0, 1), (1, 0)])
def test_an_empty_stream_is_refused(length: int, batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"needs samples and a batch size, found {length} and {batch_size}"):
        StreamBatches(length, batch_size=batch_size, seed=0)


class _Samples:
    def __len__(self) -> int:
        return 4

    def open(self, index: int) -> WholePair:
        return WholePair(np.full((2, 3, 3), index, np.uint8), np.full((2, 3), index, np.uint8))

    def name(self, index: int) -> str:
        return f"sample {index}"


def test_augmentation_is_seeded_by_seed_epoch_and_sample_alone() -> None:
    seeds = []

    def transform(pair: OpenPair, *, seed: int, focus: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        seeds.append(seed)
        box = Box(0, 0, *pair.size)
        return pair.image(box) + 1, pair.mask(box)

    samples = AugmentedSamples(_Samples(), transform, seed=9)
    sample = samples[Draw(epoch=5, sample=2)]
    assert len(samples) == 4
    assert seeds == [counted_seed(9, 5, 2)]
    assert sample["name"] == "sample 2"
    assert sample["image"].shape == (3, 2, 3)
    assert sample["image"].eq(3).all()
    assert sample["mask"].eq(2).all()


def test_a_repeat_is_another_augmentation_and_a_focus_is_passed_on() -> None:
    told = []

    def transform(pair: OpenPair, *, seed: int, focus: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        told.append((seed, focus))
        box = Box(0, 0, *pair.size)
        return pair.image(box), pair.mask(box)

    samples = AugmentedSamples(_Samples(), transform, seed=9)
    for draw in (Draw(5, 2), Draw(5, 2, occurrence=1), Draw(5, 2, occurrence=1, focus=3), Draw(5, 2, focus=0)):
        samples[draw]
    first, second = counted_seed(9, 5, 2), counted_seed(9, 5, 2, 1)
    assert first != second
    assert told == [(first, None), (second, None), (second, 3), (first, 0)]


class _Backwards:
    """Four draws of two samples per epoch."""

    def __len__(self) -> int:
        return 4

    def draws(self, epoch: int) -> list[Draw]:
        return [Draw(epoch, sample, occurrence) for occurrence in (0, 1) for sample in (1, 0)]


def test_an_order_takes_the_place_of_the_permutation() -> None:
    stream = StreamBatches(2, batch_size=3, seed=0, order=_Backwards(), first_batch=1)
    assert list(islice(stream, 2)) == [
        [Draw(0, 0, 1), Draw(1, 1), Draw(1, 0)],
        [Draw(1, 1, 1), Draw(1, 0, 1), Draw(2, 1)],
    ]
