"""LoadingMeter: share of the training time spent waiting for data, and advice on how to reduce it."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers.base import PassThroughProfiler

from imageseg.training.callbacks.throughput import Throughput

logger = logging.getLogger(__name__)

_ADVICE_FROM = 0.3
_MIN_STEPS = 50
_MIN_SECONDS = 20.0


class LoadingMeter(pl.Callback):
    """Log ``speed/waiting`` (a share from 0 to 1) and ``speed/images_per_second``, both over the last 30 seconds.

    Waiting is the time during which the training loop requests the next batch from its loader. Anything else between two
    steps, such as logging a value that is still being computed on the GPU, does not count. Validation, the batch after it and
    the first step, which starts the workers, are excluded. Without workers, all loading is waiting.

    On CUDA the loop runs ahead of the device: while it waits for data, the device may still be busy with previous steps.
    Therefore CUDA events measure the time between the last kernel before the request and the first kernel after the batch
    has arrived, during which the device was idle. Reading these events does not synchronize.

    Once per run, after 50 steps and 20 seconds, advice is logged if waiting takes more than 30 % of the time.

    Args:
        workers: Number of loader workers per process.
        packed: Whether images are read from a packed store; None if packing does not apply.
        clock: Function that returns the current time in seconds; for tests.
    """

    def __init__(
        self,
        *,
        workers: int,
        packed: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workers = workers
        self._packed = packed
        self._clock = clock
        self._throughput = Throughput(step=0, clock=clock)
        self._stopwatch: _Stopwatch | _DeviceStopwatch = _Stopwatch(clock)
        self._first_step = self._logged_step = 0
        self._advised = False
        self.watch = _FetchWatch(self._begin, self._end)
        """Profiler for the Trainer, which Lightning notifies when it requests a batch."""

    @property
    def waiting(self) -> float | None:
        """Share of the recent time spent waiting for data; None while unknown."""
        return self._throughput.waiting

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start counting."""
        self._throughput = Throughput(step=trainer.global_step, clock=self._clock)
        if trainer.strategy.root_device.type == "cuda":
            self._stopwatch = _DeviceStopwatch()
        self._first_step = self._logged_step = trainer.global_step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Resume timing."""
        self._throughput.resume()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch; log every ``log_every_n_steps`` optimizer steps."""
        self._throughput.wait(self._stopwatch.taken())
        step, interval = trainer.global_step, trainer.log_every_n_steps  # type: ignore[attr-defined]
        self._throughput.count(images=batch["image"].shape[0] * trainer.world_size, step=step)
        waiting, rate = self._throughput.waiting, self._throughput.images_per_second
        if waiting is None or rate is None or not trainer.is_global_zero:
            return
        if interval > 0 and step % interval == 0 and step != self._logged_step:
            self._logged_step = step
            for experiment in trainer.loggers:
                experiment.log_metrics({"speed/waiting": waiting, "speed/images_per_second": rate}, step=step)
        enough = step - self._first_step >= _MIN_STEPS and self._throughput.seconds >= _MIN_SECONDS
        if enough and waiting > _ADVICE_FROM and not self._advised:
            self._advised = True
            here = max(1, trainer.world_size // trainer.num_nodes)
            advice = loading_advice(self._workers * here, cores=os.cpu_count() or 1, packed=self._packed)
            logger.info(f"data loading takes {100 * waiting:.0f} % of the training time; {advice}")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Pause timing."""
        if not trainer.sanity_checking:
            self._throughput.pause()

    def _begin(self) -> None:
        self._stopwatch.begin()

    def _end(self) -> None:
        self._stopwatch.end(counts=not self._throughput.paused)


def loading_advice(workers: int, *, cores: int, packed: bool | None) -> str:
    """Return a sentence on what to change to load data faster.

    Args:
        workers: Number of loader workers on this machine.
        cores: Number of CPU cores of this machine.
        packed: Same as for ``LoadingMeter``.
    """
    ways = []
    if workers < cores:
        ways.append(f"increase --data.num_workers (now {workers} for {cores} CPU cores)")
    if packed is False:
        ways.append("set --data.pack true")
    # A packed store holds decoded images, so that only augmentation remains.
    ways.append("set --data.color_jitter 0" if packed else "use smaller images")
    return f"to reduce it, {', '.join(ways[:-1])}{', or ' if len(ways) > 2 else ' or ' if ways[:-1] else ''}{ways[-1]}"


class _FetchWatch(PassThroughProfiler):
    """Report when the training loop requests and receives a batch: Lightning has no callback for it."""

    def __init__(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        super().__init__()
        self._begin = begin
        self._end = end

    def start(self, action_name: str) -> None:
        if action_name.endswith(".train_dataloader_next"):
            self._begin()

    def stop(self, action_name: str) -> None:
        if action_name.endswith(".train_dataloader_next"):
            self._end()


class _Stopwatch:
    """Sum of the seconds between ``begin`` and ``end``."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = 0.0
        self._seconds = 0.0

    def begin(self) -> None:
        self._began = self._clock()

    def end(self, *, counts: bool) -> None:
        if counts:
            self._seconds += self._clock() - self._began

    def taken(self) -> float:
        """Return the seconds measured since the previous call."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


class _DeviceStopwatch:
    """Stopwatch on CUDA events; measurements that the device has not reached yet are counted later."""

    def __init__(self, event: Callable[..., Any] = torch.cuda.Event) -> None:
        self._event = partial(event, enable_timing=True)
        self._began: Any = None
        self._pending: deque[tuple[Any, Any]] = deque()

    def begin(self) -> None:
        self._began = self._event()
        self._began.record()

    def end(self, *, counts: bool) -> None:
        if counts:
            ended = self._event()
            ended.record()
            self._pending.append((self._began, ended))

    def taken(self) -> float:
        seconds = 0.0
        while self._pending and self._pending[0][1].query():
            began, ended = self._pending.popleft()
            seconds += began.elapsed_time(ended) / 1000  # milliseconds
        return seconds
