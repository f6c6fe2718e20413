"""Loaders: batches in the order of memory that networks like, shares without repeats, and one line from a worker."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import write_folder
from torch.utils.data import DataLoader, Dataset
from whole_pair import WholePair

from imageseg.batch import Sample, make_sample
from imageseg.datasets import build_dataset
from imageseg.errors import InputError
from imageseg.pipeline.augment import Augmentation
from imageseg.pipeline.balance import RareClassOrder
from imageseg.pipeline.crop import Box, OpenPair
from imageseg.pipeline.loader import Loading, evaluation_loader, single_threaded, training_loader
from imageseg.pipeline.stream import StreamBatches


class _Counted(Dataset[Sample]):
    """Images that hold their own number, each of a size of its own."""

    def __init__(self, count: int, *, sizes: bool = False) -> None:
        self.count = count
        self.sizes = sizes

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        return make_sample(*self.read(index), self.name(index))

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        shape = (3 + index, 5) if self.sizes else (6, 5)
        return np.full((*shape, 3), index, np.uint8), np.full(shape, index, np.uint8)

    def open(self, index: int) -> WholePair:
        return WholePair(*self.read(index))

    def name(self, index: int) -> str:
        return f"picture {index}"


def _unchanged(pair: OpenPair, *, seed: int, focus: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    box = Box(0, 0, *pair.size)
    return pair.image(box), pair.mask(box)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_training_batches_are_channels_last(num_workers: int) -> None:
    loader = training_loader(_Counted(10), _unchanged, loading=Loading(batch_size=4, num_workers=num_workers), seed=0)
    batch = next(iter(loader))
    assert batch["image"].shape == (4, 3, 6, 5)
    assert batch["image"].dtype == batch["mask"].dtype == torch.uint8
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert not batch["image"].is_contiguous()
    assert batch["mask"].shape == (4, 6, 5)
    assert torch.equal(batch["image"][:, 0], batch["mask"])


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_training_batches_are_those_of_the_stream_with_any_number_of_workers(num_workers: int) -> None:
    loader = training_loader(
        _Counted(10),
        _unchanged,
        loading=Loading(batch_size=3, num_workers=num_workers),
        seed=5,
        first_batch=2,
        rank=1,
        world_size=2,
    )
    found = [(batch["mask"][:, 0, 0].tolist(), batch["name"]) for batch in islice(iter(loader), 7)]
    stream = StreamBatches(10, batch_size=3, seed=5, first_batch=2, rank=1, world_size=2)
    numbers = [[draw.sample for draw in batch] for batch in islice(stream, 7)]
    assert found == [(batch, [f"picture {number}" for number in batch]) for batch in numbers]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_balanced_order_is_loaded_with_any_number_of_workers(num_workers: int) -> None:
    pixels = np.array([[90, 10 * (index == 3)] for index in range(6)])
    order = RareClassOrder(pixels, seed=5)

    def transform(pair: OpenPair, *, seed: int, focus: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        image, mask = _unchanged(pair, seed=seed)
        return image, np.full_like(mask, 9 if focus is None else focus)

    loading = Loading(batch_size=4, num_workers=num_workers)
    loader = training_loader(_Counted(6), transform, loading=loading, seed=5, order=order, first_batch=1)
    batches = list(islice(iter(loader), 3))
    drawn = list(chain.from_iterable(order.draws(epoch) for epoch in range(3)))[4:16]
    assert [name for batch in batches for name in batch["name"]] == [f"picture {draw.sample}" for draw in drawn]
    assert [int(mask[0, 0]) for batch in batches for mask in batch["mask"]] == [draw.focus for draw in drawn]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_training_batches_know_their_pixels_and_scored_ones_do_not(num_workers: int) -> None:
    loading = Loading(batch_size=2, num_workers=num_workers)
    loader = training_loader(_Counted(3), _unchanged, loading=loading, seed=0)
    for batch in islice(iter(loader), 4):
        numbers = [int(mask[0, 0]) for mask in batch["mask"]]
        expected = torch.zeros(256, dtype=torch.int64)
        for number in numbers:
            expected[number] += 30
        assert torch.equal(batch["pixels"], expected)
    assert "pixels" not in next(iter(evaluation_loader(_Counted(3), 3, num_workers=0)))


@pytest.mark.parametrize(("count", "world_size"), [(7, 1), (7, 2), (7, 3), (2, 3)])
def test_processes_score_every_image_once(count: int, world_size: int) -> None:
    loaders = [
        evaluation_loader(_Counted(count, sizes=True), count, num_workers=0, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    scored = [[int(batch["mask"][0, 0, 0]) for batch in loader] for loader in loaders]
    assert sorted(chain.from_iterable(scored)) == list(range(count))
    assert [len(loader) for loader in loaders] == [len(share) for share in scored]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_images_are_scored_in_order_and_at_their_own_size(num_workers: int) -> None:
    loader = evaluation_loader(_Counted(5, sizes=True), 5, num_workers=num_workers)
    for _ in range(2):
        shapes = [(batch["image"].shape, batch["name"]) for batch in loader]
        assert shapes == [((1, 3, 3 + index, 5), [f"picture {index}"]) for index in range(5)]


def test_making_loaders_draws_nothing_from_the_global_generator() -> None:
    before = torch.get_rng_state()
    next(iter(training_loader(_Counted(4), _unchanged, loading=Loading(batch_size=2, num_workers=0), seed=0)))
    next(iter(evaluation_loader(_Counted(4), 4, num_workers=0)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_fault_in_a_worker_keeps_its_one_line(num_workers: int, tmp_path: Path) -> None:
    dataset = build_dataset("Folder", **write_folder(tmp_path))
    [pair] = dataset.pairs("train")
    assert pair.mask is not None
    pair.mask.write_bytes(b"damaged")
    samples = dataset.samples("train")
    loader = training_loader(
        samples,
        Augmentation(crop_size=(4, 4)),
        loading=Loading(batch_size=1, num_workers=num_workers),
        seed=0,
    )
    for faulty in (loader, evaluation_loader(samples, len(samples), num_workers=num_workers)):
        assert _fault(faulty) == f"{pair.mask}: is not an image in a known format"


def _fault(loader: DataLoader[Sample]) -> str:
    try:
        next(iter(loader))
    except InputError as error:
        # Its frames hold the iterator in a cycle; torch waits 5 seconds for each worker of an iterator collected that way.
        error.__traceback__ = None
        return error.line()
    raise AssertionError("no fault was raised")


def test_the_best_is_scored_on_the_split_that_is_there(tmp_path: Path) -> None:
    write_folder(tmp_path)
    dataset = build_dataset("Folder", str(tmp_path))
    assert Loading().scored_split(dataset) == dataset.scored_split == "val"
    assert Loading(test_split="train").scored_split(dataset) == "train"
    for kind in ("images", "masks"):
        (tmp_path / kind / "val").rename(tmp_path / kind / "valid")
    dataset = build_dataset("Folder", str(tmp_path))
    assert "val" not in dataset.splits
    assert Loading(val_split="valid").scored_split(dataset) == "valid"


@pytest.mark.parametrize(("processors", "workers"), [(None, 0), (1, 0), (6, 3), (64, 8)])
def test_workers_unless_set_are_half_of_the_cpu_cores(
    monkeypatch: pytest.MonkeyPatch, processors: int | None, workers: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: processors)
    assert Loading().workers == workers
    assert Loading(num_workers=3).workers == 3


def test_a_wrong_balance_is_refused() -> None:
    with pytest.raises(InputError, match=r"no balance is called 'rsc' \(did you mean 'rcs'\?\)"):
        Loading(balance="rsc")  # type: ignore[arg-type]


@pytest.mark.parametrize("balance", ["repeat", "focus", "auto"])
def test_a_checkpoint_with_a_removed_balance_can_still_be_evaluated(balance: str) -> None:
    assert Loading(balance=balance, num_workers=3).workers == 3  # type: ignore[arg-type]


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_a_worker_keeps_to_one_cpu_core() -> None:
    torch.set_num_threads(2)
    single_threaded(0)
    assert torch.get_num_threads() == 1
