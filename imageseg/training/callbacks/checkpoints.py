"""Checkpoints of a run in the package's own format, with its recipe and its labels, for Lightning's trainer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.plugins.io import CheckpointIO
from pytorch_lightning.trainer.states import TrainerFn

from imageseg._version import __version__
from imageseg.checkpoint import RUN_KEY, read_checkpoint, read_record, write_checkpoint
from imageseg.errors import InputError
from imageseg.labels import LabelSpace
from imageseg.recipe import Recipe
from imageseg.training.resolve import with_defaults


class AtomicCheckpoints(CheckpointIO):
    """Writes checkpoints atomically and reads them without pickle.

    Lightning's own implementation renames across file systems, which copies: a kill in between leaves a damaged file.
    """

    def save_checkpoint(self, checkpoint: Mapping[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint to a temporary file next to its target, then rename it."""
        write_checkpoint(checkpoint, path)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint to CPU memory; Lightning moves tensors to their device."""
        return read_checkpoint(path)

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint with the best val/miou.

    Args:
        folder: Folder of the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder.absolute(),
            filename="best-step{step}-miou{val/miou:.4f}",
            monitor="val/miou",
            mode="max",
            save_top_k=1,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best checkpoint so far, also if the run's folder has been moved."""
        best = self._here(state_dict["best_model_path"])
        if not Path(best).is_file():
            return  # the best checkpoint is in another folder: this folder starts anew
        here: dict[str, Any] = {"dirpath": self.dirpath, "best_model_path": best}
        here |= {key: self._here(state_dict[key]) for key in ("kth_best_model_path", "last_model_path")}
        here["best_k_models"] = {self._here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | here)

    def _here(self, path: str) -> str:
        assert self.dirpath is not None
        return str(Path(self.dirpath) / Path(path).name) if path else path


class LastCheckpoint(Checkpoint):
    """Keeps the state after each validation as ``last.ckpt``. Lightning's ``save_last`` copies the best checkpoint only.

    Args:
        folder: Folder of the checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "last.ckpt"

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace the previous checkpoint."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            trainer.save_checkpoint(self._path)


class RunRecord(pl.Callback):
    """Adds to each checkpoint what is needed to use it: recipe, labels, and the version of the package.

    Args:
        recipe: Complete recipe of the run.
        labels: Classes of the dataset.
    """

    def __init__(self, recipe: Recipe, labels: LabelSpace) -> None:
        self._record: dict[str, Any] = {"recipe": recipe.to_dict(), "labels": labels.to_dict(), "version": __version__}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the record."""
        checkpoint[RUN_KEY] = self._record


def check_resumable(path: str | Path, recipe: Recipe, labels: LabelSpace) -> None:
    """Check that a recipe continues the run of a checkpoint exactly.

    Args:
        path: Checkpoint to resume from.
        recipe: Complete recipe of the run that resumes.
        labels: Classes of the dataset.

    Raises:
        InputError: The checkpoint cannot be read, or data, network or training differ from those of its recipe.
    """
    trained_by, trained_on = read_record(path)
    for what, theirs, ours in _compared(trained_by, recipe):
        if theirs != ours:
            raise InputError(
                f"{path}: was trained with {what} {theirs}, this run has {ours}; resume a run with its own config.yaml"
            )
    if trained_on != labels:
        raise InputError(
            f"{path}: was trained on {', '.join(trained_on.names)}; this run has {', '.join(labels.names)}"
        )


def _compared(theirs: Recipe, ours: Recipe) -> Iterator[tuple[str, Any, Any]]:
    """Yield what must be equal to resume exactly, in both recipes. Location and loading of the data may differ."""
    yield "use", theirs.use, ours.use
    yield "model", theirs.model, ours.model
    theirs = with_defaults(theirs)  # a run had the defaults of options that are newer than its checkpoint
    loading = {f"data.{name}" for name in ("root", "num_workers", "pack_folder", "prefetch_factor")}
    free = {*loading, "task.channels_last"}
    if ours.data["scale"][0] >= 0.5:  # otherwise JPEGs may be decoded at a reduced size, unless they are packed
        free.add("data.pack")
    kept = ("seed", "accumulate_grad_batches", "precision", "gradient_clip_val", "compile")
    for section, names in (("network", None), ("data", None), ("task", None), ("trainer", kept)):
        one, other = getattr(theirs, section), getattr(ours, section)
        for name in names or other:
            if f"{section}.{name}" not in free:
                yield f"{section}.{name}", one.get(name), other[name]
