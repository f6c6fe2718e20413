"""SeenPixels: number of labeled pixels of each class that a run has trained on."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn

from imageseg.atomic_files import replacing
from imageseg.batch import Batch

logger = logging.getLogger(__name__)

_FEW = 0.001
_NAMED = 5


class SeenPixels(pl.Callback):
    """Sum the ``pixels`` of all training batches, over all processes and across resumed runs.

    The sum stays on the device, so that counting does not synchronize. After each validation, the share of each class among
    the labeled pixels is logged as ``seen/<class>``. At the end of training, ``seen_pixels.json`` is written and classes with
    less than 0.1 % are reported.

    Args:
        folder: Folder of the run.
        names: Class names.
        in_dataset: (C,) number of pixels of each class in the training split, if known.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        *,
        in_dataset: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self._folder = folder
        self._names = list(names)
        self._in_dataset = in_dataset
        self._before = np.zeros(256, np.int64)  # all processes, up to the last validation
        self._since: torch.Tensor | None = None  # this process, since then

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Add one batch."""
        self._since = batch["pixels"].clone() if self._since is None else self._since + batch["pixels"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the shares, before the checkpoint is written, which then contains the sum over all processes."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        self._gather(trainer)
        shares = _shares(self._pixels)
        if shares is not None:
            metrics = {f"seen/{name}": float(share) for name, share in zip(self._names, shares, strict=True)}
            for experiment in trainer.loggers:
                experiment.log_metrics(metrics, step=trainer.global_step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file and report classes that were hardly seen."""
        self._gather(trainer)
        shares = _shares(self._pixels)
        if not trainer.is_global_zero or shares is None:
            return
        with replacing(self._folder / "seen_pixels.json") as temporary:
            temporary.write_text(json.dumps(self._summary(shares), indent=2) + "\n", encoding="utf-8")
        few = sorted((share, name) for name, share in zip(self._names, shares, strict=True) if share < _FEW)
        if few:
            named = ", ".join(f"{name} ({_percent(share)})" for share, name in few[:_NAMED])
            others = f" and {len(few) - _NAMED} more" if len(few) > _NAMED else ""
            logger.info(f"less than 0.1 % of the training pixels: {named}{others}; seen_pixels.json lists all classes")

    def state_dict(self) -> dict[str, Any]:
        """Return the counts; those of other processes since the last validation are not included."""
        return {"pixels": (self._before + self._own()).tolist()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from saved counts."""
        self._before = np.array(state_dict["pixels"], np.int64)
        self._since = None

    @property
    def _pixels(self) -> npt.NDArray[np.int64]:
        """(C,) pixel counts of the classes."""
        return self._before[: len(self._names)]

    def _gather(self, trainer: pl.Trainer) -> None:
        if self._since is not None:
            self._since = trainer.strategy.reduce(self._since, reduce_op="sum")
            self._before = self._before + self._own()
            self._since = None

    def _own(self) -> npt.NDArray[np.int64]:
        return np.zeros(256, np.int64) if self._since is None else self._since.cpu().numpy()

    def _summary(self, shares: npt.NDArray[np.float64]) -> dict[str, Any]:
        in_dataset = None if self._in_dataset is None else _shares(self._in_dataset)
        classes = {
            name: {
                "pixels": int(self._pixels[index]),
                "share": float(shares[index]),
                "share_in_dataset": None if in_dataset is None else float(in_dataset[index]),
            }
            for index, name in enumerate(self._names)
        }
        valid = int(self._pixels.sum())
        return {"valid_pixels": valid, "ignored_pixels": int(self._before.sum()) - valid, "classes": classes}


def _shares(pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
    """Return the share of each class among the labeled pixels; None if there are none."""
    valid = int(pixels.sum())
    return pixels / valid if valid else None


def _percent(share: float) -> str:
    """Format a share in percent with one significant digit and no exponent."""
    digits = np.format_float_positional(100 * share, precision=1, fractional=False, trim="-")
    return f"{digits} %" if share else "never"
