"""SeenPixels: how many labelled pixels of each class a run has been trained on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn

from imageseg.atomic_files import replacing
from imageseg.batch import Batch

_FEW = 0.001
_NAMED = 5


class SeenPixels(pl.Callback):
    """Adds up the ``pixels`` of the training batches, over all processes and over resumes.

    The sum stays on the device: adding to it waits for nothing. It is read after each validation, where ``seen/<class>``, the
    class's share of the labelled pixels so far, goes to the loggers, and at the end, where ``seen_pixels.json`` is written
    and the classes with less than 0.1 % are named.

    Args:
        folder: of the run.
        names: of the classes.
        in_dataset: (C,) pixels of the training split, where they are known.
        say: is told of classes that were hardly seen.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        *,
        in_dataset: npt.NDArray[np.int64] | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._folder = folder
        self._names = list(names)
        self._in_dataset = in_dataset
        self._say = say
        self._before = np.zeros(256, np.int64)  # of all processes, up to the last validation
        self._since: torch.Tensor | None = None  # of this process

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Adds one batch."""
        self._since = batch["pixels"].clone() if self._since is None else self._since + batch["pixels"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs the shares; before the checkpoint is written, which then holds the sum of all processes."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        self._gather(trainer)
        shares = _shares(self._pixels)
        if shares is not None:
            figures = {f"seen/{name}": float(share) for name, share in zip(self._names, shares, strict=True)}
            for logger in trainer.loggers:
                logger.log_metrics(figures, step=trainer.global_step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the file, and names what was hardly seen."""
        self._gather(trainer)
        shares = _shares(self._pixels)
        if not trainer.is_global_zero or shares is None:
            return
        with replacing(self._folder / "seen_pixels.json") as temporary:
            temporary.write_text(json.dumps(self._figures(shares), indent=2) + "\n", encoding="utf-8")
        few = sorted((share, name) for name, share in zip(self._names, shares, strict=True) if share < _FEW)
        if few:
            named = ", ".join(f"{name} ({_percent(share)})" for share, name in few[:_NAMED])
            others = f" and {len(few) - _NAMED} more" if len(few) > _NAMED else ""
            self._say(
                f"less than 0.1 % of the pixels that training saw: {named}{others}; seen_pixels.json has all classes"
            )

    def state_dict(self) -> dict[str, Any]:
        """What has been seen. Of several processes, what the others saw since the last validation is not in it."""
        return {"pixels": (self._before + self._own()).tolist()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there."""
        self._before = np.array(state_dict["pixels"], np.int64)
        self._since = None

    @property
    def _pixels(self) -> npt.NDArray[np.int64]:
        """(C,) of the classes."""
        return self._before[: len(self._names)]

    def _gather(self, trainer: pl.Trainer) -> None:
        if self._since is not None:
            self._since = trainer.strategy.reduce(self._since, reduce_op="sum")
            self._before = self._before + self._own()
            self._since = None

    def _own(self) -> npt.NDArray[np.int64]:
        return np.zeros(256, np.int64) if self._since is None else self._since.cpu().numpy()

    def _figures(self, shares: npt.NDArray[np.float64]) -> dict[str, Any]:
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
    """Of the labelled pixels; None where there is none."""
    valid = int(pixels.sum())
    return pixels / valid if valid else None


def _percent(share: float) -> str:
    """To the first digit that is not 0, without exponents."""
    digits = np.format_float_positional(100 * share, precision=1, fractional=False, trim="-")
    return f"{digits} %" if share else "never"
