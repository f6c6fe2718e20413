"""StreamData: a dataset's splits as Lightning asks for them, and the place in the stream as checkpoints keep it."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from imageseg.batch import Sample
from imageseg.datasets.base import SegmentationDataset
from imageseg.datasets.samples import PairSamples
from imageseg.errors import InputError
from imageseg.pipeline.loader import Loading, evaluation_loader, training_loader
from imageseg.pipeline.mixing import Mixing
from imageseg.pipeline.store.dataset import PackedSamples
from imageseg.pipeline.stream import Order, PairTransform
from imageseg.training.packed_splits import Packing


class StreamData(pl.LightningDataModule):
    """Loaders of the three splits.

    Args:
        dataset: where the samples come from.
        transform: augments training samples.
        loading: how.
        seed: of order and augmentation.
        mixing: how often training samples are mixed.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        transform: PairTransform,
        loading: Loading,
        *,
        seed: int,
        mixing: Mixing | None = None,
    ) -> None:
        super().__init__()
        self.loading = loading
        self.test_split = loading.scored_split(dataset)
        # Read now, so that a missing file is found before anything is built.
        self.train_samples: PairSamples | PackedSamples = _with_masks(dataset, loading.train_split)
        self.val_samples: PairSamples | PackedSamples = _with_masks(dataset, loading.val_split)
        same = self.test_split == loading.val_split
        self.test_samples: PairSamples | PackedSamples = (
            self.val_samples if same else _with_masks(dataset, self.test_split)
        )
        self.order: Order | None = None
        """Of the training samples; None takes each once per epoch."""
        self._dataset = dataset
        self._transform = transform
        self._seed = seed
        self._mixing = mixing
        self._first_batch = 0

    @property
    def draws_per_epoch(self) -> int:
        """Pictures that one epoch trains on, over all processes."""
        return len(self.train_samples if self.order is None else self.order)

    def pack(self, packing: Packing) -> None:
        """Packs what is trained on and what is validated on, where the loading asks for it."""
        loading, same = self.loading, self.test_samples is self.val_samples
        self.train_samples = packing.samples(self._dataset, loading.train_split, self.train_samples, loading)
        self.val_samples = packing.samples(self._dataset, loading.val_split, self.val_samples, loading)
        if same:
            self.test_samples = self.val_samples

    def train_dataloader(self) -> DataLoader[Sample]:
        """The stream from where this run starts."""
        assert self.trainer is not None
        return training_loader(
            self.train_samples,
            self._transform,
            loading=self.loading,
            seed=self._seed,
            order=self.order,
            first_batch=self._first_batch,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            mixing=self._mixing,
        )

    def val_dataloader(self) -> DataLoader[Sample]:
        """Every sample of the validation split once."""
        return self._evaluation(self.val_samples)

    def test_dataloader(self) -> DataLoader[Sample]:
        """Every sample of the scored split once."""
        return self._evaluation(self.test_samples)

    def state_dict(self) -> dict[str, Any]:
        """The place in the stream. Restored before Lightning asks for the loader, unlike a loader's own state."""
        assert self.trainer is not None
        done = self.trainer.fit_loop.epoch_loop.batch_progress.current.completed
        return {"batches_done": done, "processes": self.trainer.world_size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the place over.

        Raises:
            InputError: a batch of the stream is another number of pictures with this number of processes.
        """
        assert self.trainer is not None
        if state_dict["processes"] != self.trainer.world_size:
            raise InputError(
                f"the checkpoint was trained by {state_dict['processes']} processes, this run has {self.trainer.world_size}; "
                "a run goes on with as many"
            )
        self._first_batch = int(state_dict["batches_done"])

    def _evaluation(self, samples: Any) -> DataLoader[Sample]:
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
    lonely = [pair for pair in samples.pairs if pair.mask is None]
    if lonely:
        raise InputError(
            f"{lonely[0].image}: the split '{split}' has no masks; it can be predicted, not trained on or scored"
        )
    return samples
