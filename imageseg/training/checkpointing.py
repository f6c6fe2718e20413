"""How Lightning's checkpoints are kept: in our own format, with the recipe and the labels inside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.plugins.io import CheckpointIO

from imageseg import __version__
from imageseg.checkpoint import RUN_KEY, read_checkpoint, write_checkpoint
from imageseg.errors import InputError
from imageseg.labels import LabelSpace
from imageseg.recipe import Recipe


class AtomicCheckpoints(CheckpointIO):
    """Writes every checkpoint whole or not at all, and reads it without pickle.

    Lightning's own way renames across file systems, which is a copy: a kill in between leaves a damaged file.
    """

    def save_checkpoint(self, checkpoint: Mapping[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Writes the checkpoint beside its target, then renames it."""
        write_checkpoint(checkpoint, path)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads a checkpoint to the processor's memory; Lightning moves what belongs elsewhere."""
        return read_checkpoint(path)

    def remove_checkpoint(self, path: Any) -> None:
        """Deletes a checkpoint."""
        Path(path).unlink(missing_ok=True)


class RunRecord(pl.Callback):
    """Puts into each checkpoint what it takes to use it: recipe, labels, and the version that wrote it."""

    def __init__(self, recipe: Recipe, labels: LabelSpace) -> None:
        self._record: dict[str, Any] = {"recipe": recipe.to_dict(), "labels": labels.to_dict(), "version": __version__}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds the record."""
        checkpoint[RUN_KEY] = self._record

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Raises:
        InputError: the checkpoint is of another network or other labels.
        """
        found: dict[str, Any] = checkpoint.get(RUN_KEY, {"recipe": {"model": "another program"}, "labels": None})
        if found["recipe"]["model"] != self._record["recipe"]["model"]:
            raise InputError(
                f"the checkpoint is of {found['recipe']['model']}, this run trains {self._record['recipe']['model']}"
            )
        if found["labels"] != self._record["labels"]:
            raise InputError("the checkpoint was trained on other labels than this run's dataset has")
