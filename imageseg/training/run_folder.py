"""The folder of a training run: where it is, and the recipe, scores and predictions in it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger

from imageseg.atomic_files import replacing
from imageseg.errors import InputError
from imageseg.inference.predictor import Predictor
from imageseg.labels import LabelSpace
from imageseg.recipe import Recipe
from imageseg.scoring.scores import Scores
from imageseg.training.data import StreamData
from imageseg.training.devices import is_main_process
from imageseg.training.trainer_options import TrainerOptions

_FOLDER_VARIABLE = "IMAGESEG_RUN_FOLDER"


@dataclass(frozen=True)
class TrainedRun:
    """Results of a training run."""

    folder: Path
    """Contains config.yaml, scores.json, checkpoints, predictions and the TensorBoard files."""
    checkpoint: Path
    """Checkpoint with the best val/miou."""
    labels: LabelSpace
    split: str
    """Split that the best checkpoint was scored on."""
    scores: Scores
    main_process: bool
    """False in all processes but one if the run uses several devices."""


def run_folder(recipe: Recipe, options: TrainerOptions) -> Path:
    """Return the folder of a new run, or that of the run that is resumed. Nothing is created.

    Raises:
        InputError: The folder already contains a run, or nothing determines its name.
    """
    if options.resume is not None:
        checkpoints = Path(options.resume).resolve().parent
        is_own = options.name is None or Path(options.output, options.name).resolve() == checkpoints.parent
        if checkpoints.name == "checkpoints" and is_own:
            return checkpoints.parent
        if options.name is None:
            raise InputError(f"{options.resume}: is not in the folder of a run; pass --trainer.name for a new one")
    if not is_main_process():
        # Lightning starts the other processes with the environment of the first one; other launchers start all at once.
        if (decided := os.environ.get(_FOLDER_VARIABLE) or options.name) is None:
            raise InputError("processes that another program has started need a common --trainer.name")
        return Path(options.output) / decided
    name = options.name or f"{recipe.use}-{recipe.model}-{datetime.now():%Y%m%d-%H%M%S}"
    os.environ[_FOLDER_VARIABLE] = name
    folder = Path(options.output) / name
    if folder.exists() and any(folder.iterdir()):
        raise InputError(
            f"{folder}: already contains a run; pass another --trainer.name, or resume the run: "
            f"--config {folder / 'config.yaml'} --trainer.resume {folder / 'checkpoints' / 'last.ckpt'}"
        )
    return folder


def repeatable(recipe: Recipe, options: TrainerOptions) -> Recipe:
    """Return the recipe that repeats the run: with its precision, and without the name and the checkpoint of this run."""
    return replace(recipe, trainer=recipe.trainer | {"precision": options.precision, "name": None, "resume": None})


def write_recipe(recipe: Recipe, folder: Path, trainer: pl.Trainer) -> None:
    """Write config.yaml, and the recipe as hyperparameters for TensorBoard.

    Raises:
        InputError: The folder cannot be written.
    """
    try:
        recipe.to_yaml(folder / "config.yaml")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); pass another --trainer.output") from error
    _tensorboard(trainer).log_hyperparams(_hyperparameters(recipe))


def write_results(run: TrainedRun, recipe: Recipe, trainer: pl.Trainer) -> None:
    """Write scores.json, and the scores for TensorBoard."""
    scores = {"split": run.split, "checkpoint": str(run.checkpoint), **run.scores.to_dict(run.labels.names)}
    with replacing(run.folder / "scores.json") as temporary:
        temporary.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    metrics = {"score/miou": run.scores.miou, "score/pixel_accuracy": run.scores.pixel_accuracy}
    logger = _tensorboard(trainer)
    logger.log_hyperparams(_hyperparameters(recipe), metrics)
    logger.save()
    logger.finalize("success")


def write_predictions(predictor: Predictor, data: StreamData, folder: Path, *, count: int) -> None:
    """Write class maps and overlays of the first images of the scored split."""
    for index in range(min(count, len(data.test_samples))):
        image, _ = data.test_samples.read(index)
        prediction = predictor(image)
        name = data.test_samples.name(index)
        prediction.save(folder / f"{name}.png")
        prediction.save_overlay(folder / f"{name}_overlay.png", image)


def _tensorboard(trainer: pl.Trainer) -> TensorBoardLogger:
    assert isinstance(trainer.logger, TensorBoardLogger)
    return trainer.logger


def _hyperparameters(recipe: Recipe) -> dict[str, str]:
    """Return the recipe as the flat table that TensorBoard shows."""
    sections = {key: value for key, value in recipe.to_dict().items() if isinstance(value, dict)}
    values = {f"{section}/{name}": str(value) for section, values in sections.items() for name, value in values.items()}
    return {"use": recipe.use, "model": recipe.model} | values
