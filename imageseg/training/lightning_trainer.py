"""Lightning's Trainer for a run: its callbacks, its number of steps, and where it stores checkpoints and logs."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

from imageseg.errors import InputError
from imageseg.pipeline.store.dataset import PackedSamples
from imageseg.training.callbacks.checkpoints import AtomicCheckpoints, BestCheckpoint, LastCheckpoint, RunRecord
from imageseg.training.callbacks.device_monitor import DeviceMonitor
from imageseg.training.callbacks.events import CountedRandomness, PredictionImages, StreamEpoch, ValidateAtTheEnd
from imageseg.training.callbacks.loading_meter import LoadingMeter
from imageseg.training.callbacks.progress import TrainingProgress
from imageseg.training.callbacks.seen_pixels import SeenPixels
from imageseg.training.data import StreamData
from imageseg.training.devices import has_accelerator, number_of_processes
from imageseg.training.sync_batchnorm import SyncedNorms
from imageseg.training.trainer_options import TrainerOptions


def build_trainer(
    options: TrainerOptions, data: StreamData, folder: Path, *, record: RunRecord, seen: SeenPixels
) -> tuple[pl.Trainer, BestCheckpoint]:
    """Build the trainer of a run, and the callback that knows its best checkpoint.

    Raises:
        InputError: Lightning rejects an option, or there are more processes than images to score.
    """
    processes = number_of_processes(options)
    if min(len(data.val_samples), len(data.test_samples)) < processes:
        raise InputError(f"there are {processes} processes but fewer images to score; pass a smaller --trainer.devices")
    epochs_per_batch = data.loading.batch_size * processes / data.draws_per_epoch
    steps_per_epoch = -(
        -data.draws_per_epoch // (data.loading.batch_size * processes * options.accumulate_grad_batches)
    )
    max_steps = options.max_steps or options.max_epochs * steps_per_epoch
    best = BestCheckpoint(folder / "checkpoints")
    meter = LoadingMeter(workers=data.loading.workers, packed=isinstance(data.train_samples, PackedSamples))
    callbacks: list[pl.Callback] = [
        record,
        CountedRandomness(options.seed),
        StreamEpoch(epochs_per_batch),
        ValidateAtTheEnd(),
        PredictionImages(),
        LearningRateMonitor("step"),
        DeviceMonitor(),
        meter,
        best,
        LastCheckpoint(folder / "checkpoints"),
    ]
    if options.patience is not None:
        callbacks.append(EarlyStopping("val/miou", mode="max", patience=options.patience))
    if options.progress_bar:
        callbacks.append(TrainingProgress(waiting=lambda: meter.waiting))
    callbacks.append(seen)  # after the progress bar, so that its last lines appear below the bar
    try:
        trainer = pl.Trainer(
            max_epochs=-1,
            max_steps=max_steps,
            # Lightning counts batches here. Its own epochs are disabled: an infinite stream has only one.
            val_check_interval=min(options.val_every or steps_per_epoch, max_steps) * options.accumulate_grad_batches,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0 if options.resume else 2,
            accumulate_grad_batches=options.accumulate_grad_batches,
            gradient_clip_val=options.gradient_clip_val,
            precision=options.precision,  # type: ignore[arg-type]
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.num_nodes,
            strategy=options.strategy,
            deterministic=("warn" if has_accelerator(options) else True) if options.deterministic else None,
            log_every_n_steps=options.log_every_n_steps,
            logger=TensorBoardLogger(folder, name="", version="", default_hp_metric=False),
            callbacks=callbacks,
            profiler=meter.watch,
            plugins=[AtomicCheckpoints(), *([SyncedNorms()] if options.sync_batchnorm else [])],
            enable_progress_bar=options.progress_bar,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except (
        MisconfigurationException,
        ValueError,
        TypeError,
    ) as error:  # an invalid accelerator, precision, strategy, ...
        raise InputError(f"trainer: {' '.join(str(error).split())}") from error
    return trainer, best
