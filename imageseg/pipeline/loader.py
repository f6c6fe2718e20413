"""Data loaders: batches for training and for evaluation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from imageseg.batch import Batch, Sample, stack
from imageseg.datasets.base import SegmentationDataset
from imageseg.errors import InputError
from imageseg.pipeline.balance import REMOVED_BALANCES, Balance, check_balance
from imageseg.pipeline.epoch_order import Order
from imageseg.pipeline.mixing import Mixing
from imageseg.pipeline.stream import AugmentedSamples, OpenableSamples, PairTransform, StreamBatches


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How training and evaluation samples are loaded.

    Args:
        batch_size: Number of images per training step and device.
        num_workers: Number of loader processes (default: half of the CPU cores, at most 8). Results do not depend on it.
        train_split: Split to train on.
        val_split: Split by which the best checkpoint is selected.
        test_split: Split on which the best checkpoint is evaluated. If not set, "test" if its masks are public, otherwise
            "val", or val_split if there is no "val".
        balance: Class balance. "none" uses every image once per epoch; "rcs" (rare class sampling) draws a class, rare
            classes more often, then an image and a crop that show it.
        pack: Whether images and masks of train_split and val_split are decoded once into a folder (4 bytes per pixel: CamVid
            0.7 MB per image, VOC 0.7, COCO 1.2, BDD100K 3.7, Cityscapes 8.4), from which crops are then read.
        pack_folder: Folder for the decoded files. If not set, ``.imageseg`` in the dataset's root, or the user's cache folder
            if the root is not writable.
        prefetch_factor: Number of batches that each loader process prepares in advance.

    Raises:
        InputError: A number is out of its range, or the class balance is unknown.
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
        if self.balance not in REMOVED_BALANCES:  # old checkpoints name them, and are evaluated all the same
            check_balance(self.balance)
        if self.prefetch_factor < 1:
            raise InputError(f"prefetch_factor must be 1 or more, found {self.prefetch_factor}")

    def scored_split(self, dataset: SegmentationDataset) -> str:
        """The split on which the best checkpoint is evaluated: ``test_split``, or the dataset's default if it exists."""
        own = dataset.scored_split
        return self.test_split or (own if own in dataset.splits else self.val_split)

    @property
    def workers(self) -> int:
        """Number of loader processes."""
        return min(8, (os.cpu_count() or 1) // 2) if self.num_workers is None else self.num_workers


def training_loader(
    samples: OpenableSamples,
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
    """An infinite loader of augmented batches; see ``AugmentedSamples`` and ``StreamBatches`` for the arguments."""
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
    """Every sample once, in batches of one at the original size; processes share the samples without repetition."""
    return _loader(samples, _RankSampler(count, rank, world_size), num_workers)


def stack_counted(samples: list[Sample]) -> Batch:
    """A batch with its ``pixels`` per class, counted in the loader process."""
    batch = stack(samples)
    batch["pixels"] = torch.bincount(batch["mask"].flatten(), minlength=256)
    return batch


class _RankSampler(Sampler[list[int]]):
    """Every ``world_size``-th index. Torch's DistributedSampler would repeat samples to make all shares equally long."""

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
        # Its own generator, so that creating an iterator does not advance torch's global generator
        generator=torch.Generator().manual_seed(0),
    )


def single_threaded(worker: int) -> None:
    """Limit a loader process to one CPU core, because there are several such processes."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
