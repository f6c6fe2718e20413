"""TrainingProgress: one live line in a terminal, plain lines in a log file."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from imageseg.training.callbacks.throughput import Throughput

_LOSS_STEPS = 20
_LINES_PER_RUN = 20
_REPORTED_WAITING = 0.1
_SHORTEST_BAR = 6
_STEPS_OF_ENDLESS_RUN = 2000
# Reading the loss synchronizes with the GPU: twice a second costs nothing, at every step it would.
_REFRESH_SECONDS = 0.5


class TrainingProgress(pl.callbacks.ProgressBar):
    """Show the progress of a training run in optimizer steps, on standard error.

    In a terminal, one line is shown, and a second one during validation or testing::

        train  step 120/600 ━━━━━━━ loss 0.520  mIoU 0.431  12.3 images/s  0:01:20 left

    Elsewhere (a pipe, the log of a job) one such line without the bar is printed after each validation and after every 5 %
    of the run. The loss is the mean over the last 20 steps and mIoU the ``val/miou`` of the last validation. Images per
    second (over all processes) and the remaining time consider training only, not validation.

    If data loading takes more than 10 % of the step time, the line reports it: ``data loading 35 %``.

    Args:
        console: Console to print to (default: standard error).
        waiting: Function that returns the share of time that training waits for data, or None while unknown.
        clock: Function that returns the current time in seconds; for tests.
    """

    def __init__(
        self,
        *,
        console: Console | None = None,
        waiting: Callable[[], float | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._waiting = waiting
        self._console = console
        self._clock = clock
        self._enabled = True
        self._throughput = Throughput(step=0, clock=clock)
        self._losses: deque[torch.Tensor] = deque(maxlen=_LOSS_STEPS)
        self._miou: float | None = None
        self._line_step = 0
        self._evaluated = 0
        self._progress: Progress | None = None
        self._rows: dict[str, TaskID] = {}
        self._handlers: list[logging.StreamHandler[Any]] = []
        self._drawn_at = -float("inf")

    @property
    def is_enabled(self) -> bool:
        """Whether anything is shown."""
        return self._enabled

    def enable(self) -> None:
        """Enable the display."""
        self._enabled = True

    def disable(self) -> None:
        """Disable the display."""
        self._enabled = False
        self._stop()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start at the step from which the trainer resumes."""
        self._throughput = Throughput(step=trainer.global_step, clock=self._clock)
        self._losses = deque(maxlen=_LOSS_STEPS * trainer.accumulate_grad_batches)
        self._miou = None
        self._line_step = trainer.global_step
        self._draw_training(now=True)

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Resume timing; in a log, print the line of the previous step unless a validation has just printed it."""
        self._throughput.resume()
        interval = max(1, (self._total() or _STEPS_OF_ENDLESS_RUN) // _LINES_PER_RUN)
        if trainer.global_step - self._line_step >= interval:
            self._print_line()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch."""
        self._throughput.count(images=batch["image"].shape[0] * trainer.world_size, step=trainer.global_step)
        if isinstance(outputs, Mapping) and "loss" in outputs:
            # Lightning has divided the loss by the number of accumulated batches.
            self._losses.append(outputs["loss"].detach() * trainer.accumulate_grad_batches)
        self._draw_training()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the final state."""
        self._draw_training(now=True)
        if trainer.global_step != self._line_step:
            self._print_line()
        self._stop()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Pause timing."""
        if not trainer.sanity_checking:
            self._throughput.pause()
            self._evaluated = 0
            if trainer.state.fn == TrainerFn.FITTING:
                self._draw_training(now=True)
            self._draw_evaluation("validate", trainer.num_val_batches, now=True)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the batch."""
        if not trainer.sanity_checking:
            self._evaluated += 1
            self._draw_evaluation("validate", trainer.num_val_batches)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the new mIoU."""
        if trainer.sanity_checking:
            return
        self._draw_evaluation("validate", trainer.num_val_batches, now=True)
        if trainer.state.fn == TrainerFn.FITTING:
            miou = trainer.callback_metrics.get("val/miou")
            self._miou = None if miou is None else float(miou)
            self._erase("validate")
            self._draw_training(now=True)
            self._print_line()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start a progress bar."""
        self._evaluated = 0
        self._draw_evaluation("test", trainer.num_test_batches, now=True)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the batch."""
        self._evaluated += 1
        self._draw_evaluation("test", trainer.num_test_batches)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the completed bar."""
        self._draw_evaluation("test", trainer.num_test_batches, now=True)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Release the terminal: Lightning skips ``teardown`` when a run fails or is interrupted."""
        self._stop()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Release the terminal."""
        self._stop()

    def _steps(self) -> str:
        return f"step {_counted(self.trainer.global_step, total=self._total())}"

    def _total(self) -> int | None:
        return self.trainer.max_steps if self.trainer.max_steps > 0 else None

    def _metrics(self) -> str:
        loss = torch.stack(list(self._losses)).mean().item() if self._losses else None
        rate = self._throughput.images_per_second
        parts = [
            f"loss {_shown(loss, '.3f')}",
            f"mIoU {_shown(self._miou, '.3f')}",
            f"{_shown(rate, '.1f' if rate is None or rate < 100 else '.0f')} images/s",
        ]
        total = self._total()
        if total is not None:
            parts.append(f"{_duration(self._throughput.seconds_for(total - self.trainer.global_step))} left")
        return "  ".join(parts)

    def _waits(self) -> str:
        waiting = self._waiting()
        return "" if waiting is None or waiting <= _REPORTED_WAITING else f"  data loading {100 * waiting:.0f} %"

    def _print_line(self) -> None:
        self._line_step = self.trainer.global_step
        if self._enabled and not self._terminal.is_interactive:
            line = f"{self._steps()}  {self._metrics()}{self._waits()}"
            self._terminal.print(line, soft_wrap=True, highlight=False, markup=False)

    def _draw_training(self, *, now: bool = False) -> None:
        if self._is_due(now=now):
            step, total, metrics, waits = self.trainer.global_step, self._total(), self._metrics(), self._waits()
            text = f"train  {self._steps()}"
            if (
                len(text + metrics + waits) + _SHORTEST_BAR <= self._terminal.width
            ):  # rich would truncate other columns too
                metrics += waits
            self._draw("train", text=text, completed=step, total=total, metrics=metrics)

    def _draw_evaluation(self, row: str, batches: list[int | float], *, now: bool = False) -> None:
        if self._is_due(now=now):
            total = sum(batches) if math.isfinite(sum(batches)) else None
            text = f"{row}  {_counted(self._evaluated, total=total)}"
            self._draw(row, text=text, completed=self._evaluated, total=total)

    def _is_due(self, *, now: bool) -> bool:
        waited = self._clock() - self._drawn_at
        return self._enabled and self._terminal.is_interactive and (now or waited >= _REFRESH_SECONDS)

    def _draw(self, row: str, *, text: str, completed: int, total: float | None, metrics: str = "") -> None:
        if self._progress is None:
            self._progress = self._start()
        if row not in self._rows:
            self._rows[row] = self._progress.add_task(text, total=total, metrics=metrics)
        self._progress.update(self._rows[row], description=text, completed=completed, metrics=metrics)
        self._progress.refresh()
        self._drawn_at = self._clock()

    def _erase(self, row: str) -> None:
        if self._progress is not None and row in self._rows:
            self._progress.remove_task(self._rows.pop(row))

    def _start(self) -> Progress:
        progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None, table_column=Column(max_width=40)),
            TextColumn("{task.fields[metrics]}", markup=False),
            console=self._terminal,
            # A refresh thread could hold a lock at the moment a loader forks its workers.
            auto_refresh=False,
            # Output to a file or pipe on standard output must not be redirected to standard error.
            redirect_stdout=sys.stdout.isatty(),
            get_time=self._clock,
        )
        stderr = sys.stderr
        progress.start()
        self._handlers = [handler for handler in _log_handlers() if handler.stream is stderr]
        for handler in self._handlers:
            handler.setStream(sys.stderr)
        return progress

    def _stop(self) -> None:
        self._rows = {}
        if self._progress is not None:
            progress, self._progress = self._progress, None
            progress.stop()
            for handler in self._handlers:
                handler.setStream(sys.stderr)

    @property
    def _terminal(self) -> Console:
        if self._console is None:
            # Job runners set FORCE_COLOR, which makes rich assume a terminal; a bar would fill their log.
            self._console = Console(stderr=True, force_interactive=None if sys.stderr.isatty() else False)
        return self._console


def _log_handlers() -> list[logging.StreamHandler[Any]]:
    """Return log handlers that were created before rich replaced standard error and would write into the bar."""
    loggers = [logging.getLogger(name) for name in (None, "imageseg", "pytorch_lightning", "lightning_fabric")]
    return [handler for logger in loggers for handler in logger.handlers if isinstance(handler, logging.StreamHandler)]


def _counted(done: int, *, total: float | None) -> str:
    return f"{done}" if total is None else f"{done}/{total}"


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-:--:--"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
