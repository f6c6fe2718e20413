"""What happens beside the steps: counted randomness, the last validation, pictures in TensorBoard."""

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


class CountedRandomness(pl.Callback):
    """Seeds torch before every batch from (seed, batch, rank), so that dropout depends on nothing that a resumed run lacks."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seeds all of torch's generators."""
        torch.manual_seed(counted_seed(self._seed, batch_idx, trainer.global_rank))


class ValidateAtTheEnd(pl.Callback):
    """Runs the validation after the last step also when the steps are no multiple of its interval."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Lightning validates before it stops, when it is asked to stop."""
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True


class StreamEpoch(pl.Callback):
    """Logs how often the training split has been seen; to Lightning the stream is one epoch, numbered 0.

    Args:
        share: of an epoch that one batch is, over all processes.
    """

    def __init__(self, share: float) -> None:
        self._share = share

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Logs it as ``epoch``."""
        pl_module.log("epoch", (batch_idx + 1) * self._share)


class PredictionPictures(pl.Callback):
    """Shows the first pictures of the validation split in TensorBoard: picture, truth and prediction side by side.

    Args:
        count: how many.
        width: of each of the three, in pixels, at most.
    """

    def __init__(self, count: int = 4, *, width: int = 512) -> None:
        self._count = count
        self._width = width

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes one row of three pictures."""
        if trainer.sanity_checking or batch_idx >= self._count or not isinstance(trainer.logger, TensorBoardLogger):
            return
        assert isinstance(pl_module, SegmentationTask)
        palette = pl_module.labels.palette
        picture = batch["image"][0].permute(1, 2, 0).cpu().numpy()  # (H, W, 3)
        truth, predicted = (palette[mask.cpu().numpy()] for mask in (batch["mask"][0], outputs["classes"][0]))
        step = max(1, -(-picture.shape[1] // self._width))
        row = _row([panel[::step, ::step] for panel in (picture, truth, predicted)])
        trainer.logger.experiment.add_image(f"val/{batch['name'][0]}", row, trainer.global_step, dataformats="HWC")


def _row(panels: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    gap = np.full((panels[0].shape[0], 4, 3), 255, np.uint8)
    return np.hstack([panels[0], gap, panels[1], gap, panels[2]])
