"""StreamData: a dataset as a Lightning data module, whose training samples are packed, balanced, augmented and mixed."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from imageseg.batch import Sample
from imageseg.datasets.base import SegmentationDataset
from imageseg.datasets.samples import PairSamples
from imageseg.datasets.statistics.counts import count_per_image
from imageseg.errors import InputError
from imageseg.pipeline.augment import Augmentation
from imageseg.pipeline.balance import RareClassOrder, check_balance
from imageseg.pipeline.epoch_order import Order
from imageseg.pipeline.loader import Loading, evaluation_loader, training_loader
from imageseg.pipeline.store.build import StoreError
from imageseg.pipeline.store.dataset import PackedSamples
from imageseg.progress_bars import Update, file_progress

logger = logging.getLogger(__name__)


class StreamData(pl.LightningDataModule):
    """The loaders of the training, validation and test split.

    Training iterates over an infinite stream of batches, whose position is part of the checkpoint, so that a resumed run
    continues exactly.

    Args:
        dataset: Dataset that provides the samples.
        augmentation: Augmentation and mixing of the training samples.
        loading: Splits, batch size, class balance, packing and number of loader processes.
        seed: Random seed of sampling order and augmentation.
        show_progress: Whether packing and counting show a progress bar on standard error.

    Raises:
        InputError: The class balance was removed.
    """

    train_samples: PairSamples | PackedSamples
    """Training samples without augmentation, available after ``prepare_data`` or ``setup``, like the next three."""
    val_samples: PairSamples | PackedSamples
    test_samples: PairSamples | PackedSamples
    test_split: str
    """Split on which the best checkpoint is evaluated."""

    def __init__(
        self,
        dataset: SegmentationDataset,
        augmentation: Augmentation,
        loading: Loading,
        *,
        seed: int,
        show_progress: bool = False,
    ) -> None:
        super().__init__()
        check_balance(loading.balance)
        self.dataset = dataset
        self.augmentation = augmentation
        self.loading = loading
        self.class_pixels: npt.NDArray[np.int64] | None = None
        """(C,) labeled pixels of each class in the training split, if the class balance needs them; set by ``setup``."""
        self._seed = seed
        self._show_progress = show_progress
        self._order: Order | None = None  # one permutation per epoch
        self._first_batch = 0
        self._is_listed = self._is_set_up = False

    @property
    def draws_per_epoch(self) -> int:
        """Number of images per training epoch over all processes."""
        return len(self.train_samples if self._order is None else self._order)

    def prepare_data(self) -> None:
        """Prepare the dataset, and list the files of the three splits.

        Raises:
            InputError: A split is missing, or has an image without a mask.
        """
        if self._is_listed:
            return
        loading = self.loading
        test_split = loading.test_split or self.dataset.scored_split
        self.dataset.prepare(splits={loading.train_split, loading.val_split, test_split})
        self._list_samples()

    def setup(self, stage: str | None = None) -> None:
        """Pack the samples and determine the order of the training samples, as far as ``loading`` asks for it.

        Args:
            stage: "fit", or None for all stages. Other stages only list the files.

        Raises:
            InputError: A file cannot be read, or no mask of a balanced training split has a labeled pixel.
        """
        self._list_samples()
        if stage not in (None, "fit") or self._is_set_up:
            return
        if self.loading.pack:
            self._pack_samples()
        if self.loading.balance == "rcs":
            self._balance_classes()
        self._is_set_up = True

    def train_dataloader(self) -> DataLoader[Sample]:
        """An infinite loader that starts at the run's position in the stream."""
        assert self.trainer is not None
        return training_loader(
            self.train_samples,
            self.augmentation,
            loading=self.loading,
            seed=self._seed,
            order=self._order,
            first_batch=self._first_batch,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            mixing=self.augmentation.mixing,
        )

    def val_dataloader(self) -> DataLoader[Sample]:
        """Every sample of the validation split once."""
        return self._evaluation_loader(self.val_samples)

    def test_dataloader(self) -> DataLoader[Sample]:
        """Every sample of the test split once."""
        return self._evaluation_loader(self.test_samples)

    def state_dict(self) -> dict[str, Any]:
        """The position in the stream. Unlike a loader's own state, it is restored before Lightning asks for the loader."""
        assert self.trainer is not None
        done = self.trainer.fit_loop.epoch_loop.batch_progress.current.completed
        return {"batches_done": done, "processes": self.trainer.world_size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the position in the stream.

        Raises:
            InputError: The number of processes differs, so that a batch of the stream has another number of images.
        """
        assert self.trainer is not None
        if state_dict["processes"] != self.trainer.world_size:
            raise InputError(
                f"the checkpoint was trained by {state_dict['processes']} processes, this run has {self.trainer.world_size}; "
                "resume with the same number"
            )
        self._first_batch = int(state_dict["batches_done"])

    def _list_samples(self) -> None:
        if self._is_listed:
            return
        loading = self.loading
        self.test_split = loading.scored_split(self.dataset)
        self.train_samples = _with_masks(self.dataset, loading.train_split)
        self.val_samples = _with_masks(self.dataset, loading.val_split)
        same = self.test_split == loading.val_split
        self.test_samples = self.val_samples if same else _with_masks(self.dataset, self.test_split)
        self._is_listed = True

    def _pack_samples(self) -> None:
        """Pack the training and validation samples; the test samples are read once, unless they are the same."""
        same = self.test_samples is self.val_samples
        self.train_samples = self._packed(self.loading.train_split, self.train_samples)
        self.val_samples = self._packed(self.loading.val_split, self.val_samples)
        if same:
            self.test_samples = self.val_samples

    def _packed(self, split: str, samples: PairSamples | PackedSamples) -> PairSamples | PackedSamples:
        assert isinstance(samples, PairSamples)
        try:
            with self._progress("pack", lines_in_logs=True) as progress:
                return PackedSamples.build(
                    self.dataset, split, samples, pack_folder=self.loading.pack_folder, progress=progress
                )
        except StoreError as error:
            logger.warning(
                "%s; training continues without packing and decodes the files of '%s' each time", error, split
            )
            return samples

    def _balance_classes(self) -> None:
        split = self.loading.train_split
        with self._progress(f"classes of {split}") as progress:
            counts = count_per_image(self.dataset, self.train_samples.pairs, split=split, progress=progress)
        self._order = RareClassOrder(counts.pixels, seed=self._seed)
        self.class_pixels = counts.pixels.sum(axis=0)

    def _progress(self, name: str, *, lines_in_logs: bool = False) -> AbstractContextManager[Update | None]:
        return file_progress(name, lines_in_logs=lines_in_logs) if self._show_progress else nullcontext()

    def _evaluation_loader(self, samples: PairSamples | PackedSamples) -> DataLoader[Sample]:
        assert self.trainer is not None
        return evaluation_loader(
            samples,
            len(samples),
            num_workers=self.loading.workers,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )


def _with_masks(dataset: SegmentationDataset, split: str) -> PairSamples:
    samples = dataset.samples(split)
    without_mask = [pair for pair in samples.pairs if pair.mask is None]
    if without_mask:
        raise InputError(
            f"{without_mask[0].image}: the split '{split}' has no masks; it can be predicted, not trained on or scored"
        )
    return samples
