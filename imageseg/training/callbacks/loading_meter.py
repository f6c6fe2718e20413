"""LoadingMeter: how much of the time training waits for its pictures, and what would help."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers.base import PassThroughProfiler

from imageseg.training.callbacks.progress import Pace

_SAID_FROM = 0.3
_LEAST_STEPS = 50
_LEAST_SECONDS = 20.0


class LoadingMeter(pl.Callback):
    """Logs ``speed/waiting``, a share from 0 to 1, and ``speed/images_per_second``, both over the last 30 seconds.

    What counts as waiting is the time in which the training loop asks its loader for the next batch, and nothing else of what
    lies between two steps: a figure that is logged there waits for the GPU, not for pictures. Pauses for validation, the batch
    after each, and the first step, which starts the workers, count neither as waiting nor as time. Without workers, all loading
    is waiting.

    On CUDA the loop runs ahead of the device: while it waits for pictures, the device may still be busy with the steps before.
    So there the device's own clock is read, when it leaves the last kernel before the request and when it comes to the first
    after the batch has come: what lies in between is the part of the wait in which the device had nothing to do. Reading
    those times waits for nothing.

    Once in a run, after 50 steps and 20 seconds, a line says what would help, when waiting takes more than 30 %.

    Args:
        workers: loader processes of each process.
        packed: whether the pictures are read from a packed store; None where there is no such choice.
        say: is told the line.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        *,
        workers: int,
        packed: bool | None = None,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workers = workers
        self._packed = packed
        self._say = say
        self._clock = clock
        self._pace = Pace(step=0, clock=clock)
        self._stopwatch: _Stopwatch | _DeviceStopwatch = _Stopwatch(clock)
        self._first_step = self._logged_step = 0
        self._said = False
        self.watch = _FetchWatch(self._begin, self._end)
        """Lightning's profiler, which it tells when it asks for a batch."""

    @property
    def waiting(self) -> float | None:
        """The share of the recent time that training waited for pictures; None while unknown."""
        return self._pace.waiting

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts to count."""
        self._pace = Pace(step=trainer.global_step, clock=self._clock)
        if trainer.strategy.root_device.type == "cuda":
            self._stopwatch = _DeviceStopwatch()
        self._first_step = self._logged_step = trainer.global_step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Counts time again."""
        self._pace.resume()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the batch; logs when an optimizer step that is due has just been made."""
        self._pace.wait(self._stopwatch.taken())
        step, interval = trainer.global_step, trainer.log_every_n_steps  # type: ignore[attr-defined]
        self._pace.count(images=batch["image"].shape[0] * trainer.world_size, step=step)
        waiting, rate = self._pace.waiting, self._pace.images_per_second
        if waiting is None or rate is None or not trainer.is_global_zero:
            return
        if interval > 0 and step % interval == 0 and step != self._logged_step:
            self._logged_step = step
            for logger in trainer.loggers:
                logger.log_metrics({"speed/waiting": waiting, "speed/images_per_second": rate}, step=step)
        enough = step - self._first_step >= _LEAST_STEPS and self._pace.seconds >= _LEAST_SECONDS
        if enough and waiting > _SAID_FROM and not self._said:
            self._said = True
            here = max(1, trainer.world_size // trainer.num_nodes)
            help_ = remedy(self._workers * here, processors=os.cpu_count() or 1, packed=self._packed)
            self._say(f"training waits {100 * waiting:.0f} % of the time for pictures; {help_}")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops counting time."""
        if not trainer.sanity_checking:
            self._pace.pause()

    def _begin(self) -> None:
        self._stopwatch.begin()

    def _end(self) -> None:
        self._stopwatch.end(counts=not self._pace.paused)


def remedy(workers: int, *, processors: int, packed: bool | None) -> str:
    """What would make loading faster, in words.

    Args:
        workers: loader processes on this machine.
        processors: of this machine.
        packed: as ``LoadingMeter`` takes it.
    """
    ways = []
    if workers < processors:
        ways.append(f"more --data.num_workers (now {workers} of {processors} processors)")
    if packed is False:
        ways.append("--data.pack true")
    # A packed store holds decoded pictures: what is left is to change them.
    ways.append("--data.color_jitter 0" if packed else "smaller pictures")
    return f"{', '.join(ways[:-1])}{', or ' if len(ways) > 2 else ' or ' if ways[:-1] else ''}{ways[-1]} would help"


class _FetchWatch(PassThroughProfiler):
    """Tells when the training loop begins and ends to ask for a batch: Lightning has no callback there."""

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
    """Adds up seconds between ``begin`` and ``end``."""

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
        """The seconds since this was last asked."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


class _DeviceStopwatch:
    """The same by the clock of the CUDA device, as far as it has come by now."""

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
