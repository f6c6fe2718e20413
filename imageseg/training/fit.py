"""train: builds the parts that a recipe names, trains, and scores the best checkpoint."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

from imageseg.atomic_files import replacing
from imageseg.datasets import DATASETS, build_dataset
from imageseg.errors import InputError
from imageseg.inference.predictor import Predictor
from imageseg.labels import LabelSpace
from imageseg.models import build_untrained
from imageseg.models.base import Network
from imageseg.pipeline.augment import Augmentation
from imageseg.pipeline.loader import Loading
from imageseg.pipeline.store.dataset import PackedSamples
from imageseg.recipe import Recipe
from imageseg.scoring.folders.benchmarks import benchmark_of
from imageseg.scoring.scores import Scores
from imageseg.training.callbacks.checkpoints import (
    AtomicCheckpoints,
    BestCheckpoint,
    LastCheckpoint,
    RunRecord,
    check_resumable,
    recorded_precision,
)
from imageseg.training.callbacks.device_monitor import DeviceMonitor
from imageseg.training.callbacks.events import CountedRandomness, PredictionImages, StreamEpoch, ValidateAtTheEnd
from imageseg.training.callbacks.loading_meter import LoadingMeter
from imageseg.training.callbacks.progress import TrainingProgress
from imageseg.training.callbacks.seen_pixels import SeenPixels
from imageseg.training.data import StreamData
from imageseg.training.precision import chosen_precision
from imageseg.training.resolve import arguments_by_taker, completed
from imageseg.training.sync_batchnorm import SyncedNorms
from imageseg.training.task import SegmentationTask
from imageseg.training.trainer_options import Training
from imageseg.weights.build import InitialWeights, build_model, is_pretrained, read_initial_weights

logger = logging.getLogger(__name__)
_FOLDER_VARIABLE = "IMAGESEG_RUN_FOLDER"


@dataclass(frozen=True)
class TrainedRun:
    """What a run left behind."""

    folder: Path
    """Holds config.yaml, scores.json, checkpoints, predictions and the TensorBoard files."""
    checkpoint: Path
    """The best one by val/miou."""
    labels: LabelSpace
    split: str
    """What the best checkpoint was scored on."""
    scores: Scores
    main_process: bool
    """False in all but one of the processes of a run over several devices."""


def train(recipe: Recipe) -> TrainedRun:
    """Trains what the recipe says, then scores the best checkpoint.

    Raises:
        InputError: a name, an argument, a file or a label that does not fit; nothing is written before the data are found.
    """
    whole, weights = completed(recipe), None
    if whole.trainer["resume"] is None:
        # Of what was given, before defaults are written out; and before anything is built: what is written down of this
        # run must make the same network without the file.
        weights = read_initial_weights(recipe.model, recipe.network)
        if weights is not None:
            whole = completed(replace(recipe, network=weights.arguments))
    recipe = whole
    parts = arguments_by_taker(recipe)
    training = Training(**parts[Training])
    pl.seed_everything(training.seed, verbose=False)
    _quiet()
    dataset = build_dataset(recipe.use, **parts[DATASETS[recipe.use]])
    loading, augmentation = Loading(**parts[Loading]), Augmentation(**parts[Augmentation])
    shown = training.progress_bar and _is_main_process()
    data = StreamData(dataset, augmentation, loading, seed=training.seed, show_progress=shown)
    data.prepare_data()
    if (checkpoint := training.resume) is not None:
        recipe, training = _with_precision(recipe, training, partial(recorded_precision, checkpoint))
        check_resumable(checkpoint, recipe, dataset.labels)
    task = SegmentationTask(
        _network(recipe, dataset.labels, training, weights), dataset.labels, **parts[SegmentationTask]
    )
    folder = _run_folder(recipe, training)
    recipe, training = _with_precision(recipe, training, partial(_chosen_precision, task, recipe, training))
    if training.compile:
        task.compile_network()  # after the trial of precisions, which copies the network
    recipe = _repeatable(recipe)
    # After all that can be refused at once, what may take long.
    data.setup()
    seen = SeenPixels(folder, dataset.labels.names, in_dataset=data.class_pixels)
    trainer, best = _trainer(recipe, training, data, folder, dataset.labels, seen)
    if _is_main_process():
        _write_recipe(recipe, folder)
        trainer.logger.log_hyperparams(_flat(recipe))  # type: ignore[union-attr]
    try:
        trainer.fit(task, datamodule=data, ckpt_path=training.resume, weights_only=True)
    except SystemExit:  # Lightning's answer to Ctrl-C
        last = folder / "checkpoints" / "last.ckpt"
        how = f"go on with --config {folder / 'config.yaml'} --trainer.resume {last}"
        raise KeyboardInterrupt(how if last.exists() else "") from None
    if not best.best_model_path:
        raise InputError(
            f"{training.resume}: nothing is left to train; pass a larger --trainer.max_steps or max_epochs"
        )
    kept = folder / "checkpoints" / Path(best.best_model_path).name
    trainer.test(task, datamodule=data, ckpt_path=str(kept), weights_only=True, verbose=False)
    scores = task.scores(benchmark_of(recipe.use).dialect)
    run = TrainedRun(folder, kept, dataset.labels, data.test_split, scores, trainer.is_global_zero)
    if run.main_process:
        _record(run, recipe, trainer)
        _predict_some(Predictor(task.network, dataset.labels), data, folder / "predictions", count=training.pictures)
    return run


def _with_precision(recipe: Recipe, training: Training, precision: Callable[[], str]) -> tuple[Recipe, Training]:
    """Both with what the run takes in place of "auto", so that a repeated run is the same."""
    if training.precision != "auto":
        return recipe, training
    settled = precision()
    return replace(recipe, trainer=recipe.trainer | {"precision": settled}), replace(training, precision=settled)


def _chosen_precision(task: SegmentationTask, recipe: Recipe, training: Training) -> str:
    return chosen_precision(
        task.network,
        described=[recipe.model, recipe.network, len(task.labels)],
        device=_device(training),
        processes=_world_size(training),
        crop_size=recipe.data["crop_size"],
        batch_size=recipe.data["batch_size"],
        channels_last=recipe.task["channels_last"],
    )


def _device(training: Training) -> torch.device:
    if training.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu" if training.accelerator in ("auto", "cpu") and not _has_accelerator(training) else "mps")


def _network(recipe: Recipe, labels: LabelSpace, training: Training, weights: InitialWeights | None) -> Network:
    if recipe.network.get("in_channels", 3) != 3:
        raise InputError(
            f"network.in_channels is {recipe.network['in_channels']}, and all pictures here have 3; leave it out"
        )
    if training.resume is None:
        if weights is not None:
            return weights.build(len(labels), class_names=labels.names)
        return build_model(recipe.model, len(labels), class_names=labels.names, **recipe.network)
    # The checkpoint holds the weights: neither published ones nor files of them are needed again.
    network = build_untrained(recipe.model, len(labels), recipe.network)
    network.pretrained = is_pretrained(recipe.network)
    return network


def _say() -> Callable[[str], None]:
    return logger.info if _is_main_process() else lambda line: None


def _run_folder(recipe: Recipe, training: Training) -> Path:
    if training.resume is not None:
        checkpoints = Path(training.resume).resolve().parent
        is_own = training.name is None or Path(training.output, training.name).resolve() == checkpoints.parent
        if checkpoints.name == "checkpoints" and is_own:
            return checkpoints.parent
        if training.name is None:
            raise InputError(f"{training.resume}: lies in no run's folder; pass --trainer.name for a new one")
    if not _is_main_process():
        # Lightning starts the other processes from the first one's environment; other launchers start all at once.
        if (decided := os.environ.get(_FOLDER_VARIABLE) or training.name) is None:
            raise InputError("several processes that were started from outside need one --trainer.name")
        return Path(training.output) / decided
    name = training.name or f"{recipe.use}-{recipe.model}-{datetime.now():%Y%m%d-%H%M%S}"
    os.environ[_FOLDER_VARIABLE] = name
    folder = Path(training.output) / name
    if folder.exists() and any(folder.iterdir()):
        raise InputError(
            f"{folder}: already holds a run; pass another --trainer.name, or go on with it: "
            f"--config {folder / 'config.yaml'} --trainer.resume {folder / 'checkpoints' / 'last.ckpt'}"
        )
    return folder


def _repeatable(recipe: Recipe) -> Recipe:
    """The recipe without what belongs to one run of it only."""
    trainer = recipe.trainer | {"name": None, "resume": None}
    return replace(recipe, trainer=trainer)


def _is_main_process() -> bool:
    return int(getattr(rank_zero_only, "rank", 0) or 0) == 0


def _write_recipe(recipe: Recipe, folder: Path) -> None:
    try:
        recipe.to_yaml(folder / "config.yaml")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); pass another --trainer.output") from error


def _trainer(
    recipe: Recipe, training: Training, data: StreamData, folder: Path, labels: LabelSpace, seen: SeenPixels
) -> tuple[pl.Trainer, BestCheckpoint]:
    pictures, processes = data.draws_per_epoch, _world_size(training)
    if min(len(data.val_samples), len(data.test_samples)) < processes:
        raise InputError(f"there are {processes} processes and fewer pictures to score; pass fewer --trainer.devices")
    pictures_per_batch = data.loading.batch_size * processes
    steps_per_epoch = -(-pictures // (pictures_per_batch * training.accumulate_grad_batches))
    best = BestCheckpoint(folder / "checkpoints")
    meter = LoadingMeter(workers=data.loading.workers, packed=isinstance(data.train_samples, PackedSamples))
    callbacks: list[pl.Callback] = [
        RunRecord(recipe, labels),
        CountedRandomness(training.seed),
        StreamEpoch(pictures_per_batch / pictures),
        ValidateAtTheEnd(),
        PredictionImages(),
        LearningRateMonitor("step"),
        DeviceMonitor(),
        meter,
        best,
        LastCheckpoint(folder / "checkpoints"),
    ]
    if training.patience is not None:
        callbacks.append(EarlyStopping("val/miou", mode="max", patience=training.patience))
    if training.progress_bar:
        callbacks.append(TrainingProgress(waiting=lambda: meter.waiting))
    callbacks.append(seen)  # after the progress, so that what it says at the end comes below it
    max_steps = training.max_steps or training.max_epochs * steps_per_epoch
    try:
        trainer = pl.Trainer(
            max_epochs=-1,
            max_steps=max_steps,
            # Lightning counts batches here, its own epochs (of which an endless stream has one) switched off.
            val_check_interval=min(training.val_every or steps_per_epoch, max_steps) * training.accumulate_grad_batches,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0 if training.resume else 2,
            accumulate_grad_batches=training.accumulate_grad_batches,
            gradient_clip_val=training.gradient_clip_val,
            precision=training.precision,  # type: ignore[arg-type]
            accelerator=training.accelerator,
            devices=training.devices,
            num_nodes=training.num_nodes,
            strategy=training.strategy,
            deterministic=("warn" if _has_accelerator(training) else True) if training.deterministic else None,
            log_every_n_steps=training.log_every_n_steps,
            logger=TensorBoardLogger(folder, name="", version="", default_hp_metric=False),
            callbacks=callbacks,
            profiler=meter.watch,
            plugins=[AtomicCheckpoints(), *([SyncedNorms()] if training.sync_batchnorm else [])],
            enable_progress_bar=training.progress_bar,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:  # a wrong accelerator, precision, strategy, ...
        raise InputError(f"trainer: {' '.join(str(error).split())}") from error
    return trainer, best


def _world_size(training: Training) -> int:
    """How many processes Lightning will start, which it says only when the number of steps is already settled."""
    if isinstance(training.devices, str) and "," in training.devices:
        devices = len([device for device in training.devices.split(",") if device.strip()])
    elif training.devices in ("auto", "-1", -1):
        devices = max(1, torch.cuda.device_count()) if training.accelerator in ("auto", "gpu", "cuda") else 1
    elif str(training.devices).isdecimal() and int(training.devices) > 0:
        devices = int(training.devices)
    else:
        raise InputError(
            f"trainer.devices must be a number above 0, 'auto' or a list '0,1', found {training.devices!r}"
        )
    return max(1, devices) * training.num_nodes


def _has_accelerator(training: Training) -> bool:
    return training.accelerator != "cpu" and (torch.cuda.is_available() or torch.backends.mps.is_available())


def _record(run: TrainedRun, recipe: Recipe, trainer: pl.Trainer) -> None:
    figures = {"split": run.split, "checkpoint": str(run.checkpoint), **run.scores.to_dict(run.labels.names)}
    with replacing(run.folder / "scores.json") as temporary:
        temporary.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    metrics = {"score/miou": run.scores.miou, "score/pixel_accuracy": run.scores.pixel_accuracy}
    assert isinstance(trainer.logger, TensorBoardLogger)
    trainer.logger.log_hyperparams(_flat(recipe), metrics)
    trainer.logger.save()
    trainer.logger.finalize("success")


def _flat(recipe: Recipe) -> dict[str, str]:
    """The recipe as TensorBoard's table of runs shows it."""
    sections = {key: value for key, value in recipe.to_dict().items() if isinstance(value, dict)}
    values = {
        f"{section}/{name}": str(value) for section, entries in sections.items() for name, value in entries.items()
    }
    return {"use": recipe.use, "model": recipe.model} | values


def _predict_some(predictor: Predictor, data: StreamData, folder: Path, *, count: int) -> None:
    for index in range(min(count, len(data.test_samples))):
        image, _ = data.test_samples.read(index)
        prediction = predictor(image)
        name = data.test_samples.name(index)
        prediction.save(folder / f"{name}.png")
        prediction.save_overlay(folder / f"{name}_overlay.png", image)


def _quiet() -> None:
    """Silences what Lightning says of things that are as they should be here."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated", category=FutureWarning)  # Lightning's own
    # Scores come from counts that are summed over processes before they are logged.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    # A frozen encoder stays in evaluation mode.
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
    # Loader workers: the number is the user's choice, and half of a small machine is few by Lightning's lights.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
