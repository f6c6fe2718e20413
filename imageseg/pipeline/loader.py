"""Loaders: batches for training and for scoring."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from imageseg.batch import Batch, Sample, stack
from imageseg.datasets.base import SegmentationDataset
from imageseg.errors import InputError, unknown_name
from imageseg.pipeline.balance import BALANCES, Balance
from imageseg.pipeline.mixing import Mixing
from imageseg.pipeline.regions import RegionSamples
from imageseg.pipeline.stream import AugmentedSamples, Order, PairTransform, StreamBatches


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How samples are loaded.

    Args:
        batch_size: pictures per training step and device.
        num_workers: loader processes; unset, half of the processors and at most 8. Results do not depend on it.
        train_split: what to train on.
        val_split: what to choose the best checkpoint by.
        test_split: what to score the best checkpoint on; unset, "test" where its masks are public, else
            "val", or val_split where there is no "val".
        balance: "none" takes every picture once per epoch; "rcs" draws a class, rare ones more often, then a picture and
            a window that show it; "repeat" takes pictures of rare classes several times; "focus" every picture
            once, half of them with a window on a rarer class; "auto" chooses, and says what and why.
        pack: decode the pictures and masks of train_split and val_split once, into a folder of 4 bytes per pixel (CamVid
            0.7 MB per picture, VOC 0.7, COCO 1.2, BDD100K 3.7, Cityscapes 8.4), and read windows from there.
        pack_folder: where to; unset, ``.imageseg`` in the dataset's root, or the user's cache folder where the root may not
            be written.
        prefetch_factor: batches that each loader process prepares ahead.
    """

    batch_size: int = 8
    num_workers: int | None = None
    balance: Balance = "none"
    train_split: str = "train"
    val_split: str = "val"
    test_split: str | None = None
    pack: bool = False
    pack_folder: str | None = None
    prefetch_factor: int = 2

    def __post_init__(self) -> None:
        if self.batch_size < 1 or (self.num_workers or 0) < 0:
            raise InputError(
                f"batch_size must be 1 or more and num_workers 0 or more, found {self.batch_size} and {self.num_workers}"
            )
        if self.balance not in BALANCES:
            raise unknown_name("balance", self.balance, BALANCES)
        if self.prefetch_factor < 1:
            raise InputError(f"prefetch_factor must be 1 or more, found {self.prefetch_factor}")

    def scored_split(self, dataset: SegmentationDataset) -> str:
        """The split that the best checkpoint is scored on: the one named, else the dataset's own if it is there."""
        own = dataset.scored_split
        return self.test_split or (own if own in dataset.splits else self.val_split)

    @property
    def workers(self) -> int:
        """The number of loader processes."""
        return min(8, (os.cpu_count() or 1) // 2) if self.num_workers is None else self.num_workers


def training_loader(
    samples: RegionSamples,
    transform: PairTransform,
    *,
    loading: Loading,
    seed: int,
    order: Order | None = None,
    first_batch: int = 0,
    rank: int = 0,
    world_size: int = 1,
    mixing: Mixing | None = None,
) -> DataLoader[Sample]:
    """Batches of augmented samples without end, starting at ``first_batch`` of the stream."""
    batches = StreamBatches(
        len(samples),
        batch_size=loading.batch_size,
        seed=seed,
        order=order,
        first_batch=first_batch,
        rank=rank,
        world_size=world_size,
    )
    augmented = AugmentedSamples(samples, transform, seed=seed, mixing=mixing)
    return _loader(augmented, batches, loading.workers, collate=stack_counted, prefetch_factor=loading.prefetch_factor)


def evaluation_loader(
    samples: Dataset[Sample], count: int, *, num_workers: int, rank: int = 0, world_size: int = 1
) -> DataLoader[Sample]:
    """Every sample once, one by one at its own size; several processes share them without repeating any."""
    return _loader(samples, _Share(count, rank, world_size), num_workers)


def stack_counted(samples: list[Sample]) -> Batch:
    """A batch with its ``pixels``: counted here, beside the training, and read nowhere before they are logged."""
    batch = stack(samples)
    batch["pixels"] = torch.bincount(batch["mask"].flatten(), minlength=256)
    return batch


class _Share(Sampler[list[int]]):
    """Every ``world_size``-th index. Torch's own sampler repeats samples so that all shares are equally long."""

    def __init__(self, count: int, rank: int, world_size: int) -> None:
        self._indices = range(rank, count, world_size)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[list[int]]:
        return ([index] for index in self._indices)


def _loader(
    samples: Dataset[Sample],
    batches: Sampler[list[int]] | StreamBatches,
    num_workers: int,
    *,
    collate: Callable[[list[Sample]], Batch] = stack,
    prefetch_factor: int = 2,
) -> DataLoader[Sample]:
    return DataLoader(
        samples,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=num_workers,
        worker_init_fn=single_threaded if num_workers else None,
        persistent_workers=num_workers > 0,
        prefetch_factor=prefetch_factor if num_workers else None,
        pin_memory=torch.cuda.is_available(),
        # Of its own, so that making an iterator draws nothing from torch's global generator.
        generator=torch.Generator().manual_seed(0),
    )


def single_threaded(worker: int) -> None:
    """Keeps a loader worker to one processor: there are as many workers as processors to feed."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
