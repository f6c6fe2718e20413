"""Callbacks around training steps: counted randomness, the final validation, epochs, images in TensorBoard."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger

from imageseg.batch import Batch
from imageseg.pipeline.epoch_order import counted_seed
from imageseg.training.task import SegmentationTask

_SHOWN_IMAGES = 4
_PANEL_WIDTH = 512  # at most, in pixels


class CountedRandomness(pl.Callback):
    """Seed torch before every batch from (seed, batch, rank), so that dropout in a resumed run equals that of the original."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed all generators of torch."""
        torch.manual_seed(counted_seed(self._seed, batch_idx, trainer.global_rank))


class ValidateAtTheEnd(pl.Callback):
    """Validate after the last step, even if the number of steps is not a multiple of the validation interval."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Request a stop, before which Lightning validates."""
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True


class StreamEpoch(pl.Callback):
    """Log the number of passes over the training split as ``epoch``; for Lightning the infinite stream is a single epoch.

    Args:
        share: Fraction of an epoch that one batch of all processes makes up.
    """

    def __init__(self, share: float) -> None:
        self._share = share

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Log the epoch as a fraction."""
        pl_module.log("epoch", (batch_idx + 1) * self._share)


class PredictionImages(pl.Callback):
    """Show the first four images of the validation split in TensorBoard: image, ground truth and prediction side by side."""

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write one row of three panels."""
        if trainer.sanity_checking or batch_idx >= _SHOWN_IMAGES or not isinstance(trainer.logger, TensorBoardLogger):
            return
        assert isinstance(pl_module, SegmentationTask)
        palette = pl_module.labels.palette
        image = batch["image"][0].permute(1, 2, 0).cpu().numpy()  # (H, W, 3)
        truth, predicted = (palette[mask.cpu().numpy()] for mask in (batch["mask"][0], outputs["classes"][0]))
        step = max(1, -(-image.shape[1] // _PANEL_WIDTH))
        row = _row([panel[::step, ::step] for panel in (image, truth, predicted)])
        trainer.logger.experiment.add_image(f"val/{batch['name'][0]}", row, trainer.global_step, dataformats="HWC")


def _row(panels: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    gap = np.full((panels[0].shape[0], 4, 3), 255, np.uint8)
    return np.hstack([panels[0], gap, panels[1], gap, panels[2]])
