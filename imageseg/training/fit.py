"""train: the course of a training run, from a recipe to the scores of its best checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytorch_lightning as pl

from imageseg.datasets import DATASETS, build_dataset
from imageseg.errors import InputError
from imageseg.inference.predictor import Predictor
from imageseg.labels import LabelSpace
from imageseg.models import build_untrained
from imageseg.models.base import Network
from imageseg.pipeline.augment import Augmentation
from imageseg.pipeline.loader import Loading
from imageseg.recipe import Recipe
from imageseg.scoring.folders.benchmarks import benchmark_of
from imageseg.training.callbacks.checkpoints import RunRecord, check_resumable
from imageseg.training.callbacks.seen_pixels import SeenPixels
from imageseg.training.data import StreamData
from imageseg.training.devices import device_of, is_main_process, number_of_processes
from imageseg.training.lightning_trainer import build_trainer
from imageseg.training.precision import chosen_precision
from imageseg.training.process_state import restored_process_state
from imageseg.training.resolve import ResolvedRecipe, resolve
from imageseg.training.run_folder import (
    TrainedRun,
    repeatable,
    run_folder,
    write_predictions,
    write_recipe,
    write_results,
)
from imageseg.training.task import SegmentationTask
from imageseg.training.trainer_options import TrainerOptions
from imageseg.weights.build import build_model, is_pretrained


@restored_process_state()
def train(recipe: Recipe) -> TrainedRun:
    """Train the network of a recipe, then score the best checkpoint.

    Raises:
        InputError: A name, an argument, a file or a label does not fit. Nothing is written before the data are found.
    """
    resolved = resolve(recipe)
    options = TrainerOptions(**resolved.arguments(TrainerOptions))
    pl.seed_everything(options.seed, verbose=False)

    # Build. What can be refused at once comes before what takes long or writes files.
    data = _data(resolved, options)
    labels = data.dataset.labels
    data.prepare_data()
    if options.resume is not None:
        check_resumable(options.resume, resolved.recipe, labels)
    task = SegmentationTask(_network(resolved, labels), labels, **resolved.arguments(SegmentationTask))
    folder = run_folder(resolved.recipe, options)
    options = replace(options, precision=_precision(task, resolved.recipe, options))
    if options.compile:
        task.compile_network()  # after the trial of precisions, which copies the network
    recipe = repeatable(resolved.recipe, options)
    del resolved  # and the tensors of a weights file
    data.setup()
    seen = SeenPixels(folder, labels.names, in_dataset=data.class_pixels)
    trainer, best = build_trainer(options, data, folder, record=RunRecord(recipe, labels), seen=seen)

    # Fit.
    if is_main_process():
        write_recipe(recipe, folder, trainer)
    _fit(trainer, task, data, folder, options.resume)

    # Test.
    if not best.best_model_path:
        raise InputError(f"{options.resume}: no steps are left; pass a larger --trainer.max_steps or max_epochs")
    checkpoint = folder / "checkpoints" / Path(best.best_model_path).name
    trainer.test(task, datamodule=data, ckpt_path=str(checkpoint), weights_only=True, verbose=False)
    scores = task.scores(benchmark_of(recipe.use).dialect)

    # Record.
    run = TrainedRun(folder, checkpoint, labels, data.test_split, scores, trainer.is_global_zero)
    if run.main_process:
        write_results(run, recipe, trainer)
        predictor = Predictor(task.network, labels)
        write_predictions(predictor, data, folder / "predictions", count=options.images)
    return run


def _data(resolved: ResolvedRecipe, options: TrainerOptions) -> StreamData:
    dataset = build_dataset(resolved.recipe.use, **resolved.arguments(DATASETS[resolved.recipe.use]))
    augmentation = Augmentation(**resolved.arguments(Augmentation))
    loading = Loading(**resolved.arguments(Loading))
    shown = options.progress_bar and is_main_process()
    return StreamData(dataset, augmentation, loading, seed=options.seed, show_progress=shown)


def _network(resolved: ResolvedRecipe, labels: LabelSpace) -> Network:
    recipe = resolved.recipe
    if recipe.network.get("in_channels", 3) != 3:
        raise InputError(
            f"network.in_channels is {recipe.network['in_channels']}, but all images here have 3 channels; leave it out"
        )
    if recipe.trainer["resume"] is not None:
        # The checkpoint contains the weights: neither published ones nor files of them are needed again.
        network = build_untrained(recipe.model, len(labels), recipe.network)
        network.pretrained = is_pretrained(recipe.network)
        return network
    if resolved.weights is not None:
        return resolved.weights.build(len(labels), class_names=labels.names)
    return build_model(recipe.model, len(labels), class_names=labels.names, **recipe.network)


def _precision(task: SegmentationTask, recipe: Recipe, options: TrainerOptions) -> str:
    """Return the precision of the run, chosen for this network and machine if the recipe leaves it open."""
    if options.precision != "auto":
        return options.precision
    return chosen_precision(
        task.network,
        described=[recipe.model, recipe.network, len(task.labels)],
        device=device_of(options),
        processes=number_of_processes(options),
        crop_size=recipe.data["crop_size"],
        batch_size=recipe.data["batch_size"],
        channels_last=recipe.task["channels_last"],
    )


def _fit(trainer: pl.Trainer, task: SegmentationTask, data: StreamData, folder: Path, resume: str | None) -> None:
    try:
        trainer.fit(task, datamodule=data, ckpt_path=resume, weights_only=True)
    except SystemExit:  # Lightning exits on Ctrl-C
        last = folder / "checkpoints" / "last.ckpt"
        advice = f"resume with --config {folder / 'config.yaml'} --trainer.resume {last}"
        raise KeyboardInterrupt(advice if last.exists() else "") from None
