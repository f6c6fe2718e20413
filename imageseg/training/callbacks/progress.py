"""Show how far training is: one live line in a terminal, plain lines in a log."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

_RATE_SECONDS = 30.0
_LOSS_STEPS = 20
_LINES_PER_RUN = 20
_TOLD_WAITING = 0.1
_SHORTEST_BAR = 6
_STEPS_OF_ENDLESS_RUN = 2000
# The loss is on the GPU, and reading it waits for the GPU: twice a second costs nothing, at every step it would.
_REFRESH_SECONDS = 0.5


class TrainingProgress(pl.callbacks.ProgressBar):
    """The progress of a run that is counted in optimizer steps, on standard error.

    In a terminal, one line, and below it another one while validating or testing::

        train  step 120/600 ━━━━━━━ loss 0.520  mIoU 0.431  12.3 images/s  0:01:20 left

    Elsewhere (a pipe, the log of a job) one such line without its bar after each validation and after each twentieth of
    the run. The loss is the mean over the last 20 steps, mIoU the last validation's ``val/miou``. Images per second,
    over all processes, and the time left count training only, not the pauses for validation.

    Where training waits for its pictures more than a tenth of the time, the line says so: ``waits 35 %``.

    Args:
        console: where to show it; default: standard error.
        waiting: gives the share of the time that training waits for pictures, None while unknown.
        clock: seconds, for tests.
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
        self._pace = Pace(step=0, clock=clock)
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
        """Show the progress from now on."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing from now on."""
        self._enabled = False
        self._stop()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin at the step that the trainer resumes from."""
        self._pace = Pace(step=trainer.global_step, clock=self._clock)
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
        """Count time again; in a log, print the line of the step before, unless a validation has just printed it."""
        self._pace.resume()
        interval = max(1, (self._total() or _STEPS_OF_ENDLESS_RUN) // _LINES_PER_RUN)
        if trainer.global_step - self._line_step >= interval:
            self._print_line()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch."""
        self._pace.count(images=batch["image"].shape[0] * trainer.world_size, step=trainer.global_step)
        if isinstance(outputs, Mapping) and "loss" in outputs:
            # Lightning has divided it by the number of batches that make a step.
            self._losses.append(outputs["loss"].detach() * trainer.accumulate_grad_batches)
        self._draw_training()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the last line on the screen."""
        self._draw_training(now=True)
        if trainer.global_step != self._line_step:
            self._print_line()
        self._stop()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop counting time."""
        if not trainer.sanity_checking:
            self._pace.pause()
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
        """Take the new mIoU."""
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
        """Begin a bar."""
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
        """Leave the full bar on the screen."""
        self._draw_evaluation("test", trainer.num_test_batches, now=True)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the terminal back: Lightning skips ``teardown`` when a run fails or is interrupted."""
        self._stop()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the terminal back."""
        self._stop()

    def _steps(self) -> str:
        return f"step {_counted(self.trainer.global_step, total=self._total())}"

    def _total(self) -> int | None:
        return self.trainer.max_steps if self.trainer.max_steps > 0 else None

    def _figures(self) -> str:
        loss = torch.stack(list(self._losses)).mean().item() if self._losses else None
        rate = self._pace.images_per_second
        parts = [
            f"loss {_shown(loss, '.3f')}",
            f"mIoU {_shown(self._miou, '.3f')}",
            f"{_shown(rate, '.1f' if rate is None or rate < 100 else '.0f')} images/s",
        ]
        total = self._total()
        if total is not None:
            parts.append(f"{_duration(self._pace.seconds_for(total - self.trainer.global_step))} left")
        return "  ".join(parts)

    def _waits(self) -> str:
        waiting = self._waiting()
        return "" if waiting is None or waiting <= _TOLD_WAITING else f"  waits {100 * waiting:.0f} %"

    def _print_line(self) -> None:
        self._line_step = self.trainer.global_step
        if self._enabled and not self._terminal.is_interactive:
            line = f"{self._steps()}  {self._figures()}{self._waits()}"
            self._terminal.print(line, soft_wrap=True, highlight=False, markup=False)

    def _draw_training(self, *, now: bool = False) -> None:
        if self._is_due(now=now):
            step, total, figures, waits = self.trainer.global_step, self._total(), self._figures(), self._waits()
            text = f"train  {self._steps()}"
            if len(text + figures + waits) + _SHORTEST_BAR <= self._terminal.width:  # rich would cut other figures too
                figures += waits
            self._draw("train", text=text, completed=step, total=total, figures=figures)

    def _draw_evaluation(self, row: str, batches: list[int | float], *, now: bool = False) -> None:
        if self._is_due(now=now):
            total = sum(batches) if math.isfinite(sum(batches)) else None
            text = f"{row}  {_counted(self._evaluated, total=total)}"
            self._draw(row, text=text, completed=self._evaluated, total=total)

    def _is_due(self, *, now: bool) -> bool:
        waited = self._clock() - self._drawn_at
        return self._enabled and self._terminal.is_interactive and (now or waited >= _REFRESH_SECONDS)

    def _draw(self, row: str, *, text: str, completed: int, total: float | None, figures: str = "") -> None:
        if self._progress is None:
            self._progress = self._start()
        if row not in self._rows:
            self._rows[row] = self._progress.add_task(text, total=total, figures=figures)
        self._progress.update(self._rows[row], description=text, completed=completed, figures=figures)
        self._progress.refresh()
        self._drawn_at = self._clock()

    def _erase(self, row: str) -> None:
        if self._progress is not None and row in self._rows:
            self._progress.remove_task(self._rows.pop(row))

    def _start(self) -> Progress:
        progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None, table_column=Column(max_width=40)),
            TextColumn("{task.fields[figures]}", markup=False),
            console=self._terminal,
            # A thread of rich's own could hold a lock at the moment at which a loader forks its workers.
            auto_refresh=False,
            # What goes to a file or a pipe on standard output must not land on standard error.
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
            # Job runners set FORCE_COLOR, which rich takes for a terminal; a bar would fill their log.
            self._console = Console(stderr=True, force_interactive=None if sys.stderr.isatty() else False)
        return self._console


@dataclass(frozen=True)
class _Mark:
    seconds: float
    images: int
    step: int
    waited: float


class Pace:
    """Images and optimizer steps per second of training, over the most recent seconds.

    The count begins after the first step, which also pays for starting the loader's workers and choosing kernels.

    Args:
        step: the optimizer steps made so far.
        clock: seconds.
        seconds: what counts as recent.
    """

    def __init__(self, *, step: int, clock: Callable[[], float], seconds: float = _RATE_SECONDS) -> None:
        self._clock = clock
        self._seconds = seconds
        self._marks: deque[_Mark] = deque()  # one at the end of each step
        self._step = step
        self._images = 0
        self._waited = 0.0
        self._counted_at = clock()
        self._paused = False
        self._pauses = 0.0

    def count(self, *, images: int, step: int) -> None:
        """A batch of ``images`` has just been trained on; ``step`` optimizer steps have been made."""
        self._counted_at = self._clock()
        self._images += images
        if step == self._step:  # the gradients of more batches are still to come
            return
        self._step = step
        self._marks.append(_Mark(self._counted_at - self._pauses, self._images, step, self._waited))
        # One mark older than the window stays, so that a step slower than the window has a rate too.
        while len(self._marks) > 2 and self._marks[-1].seconds - self._marks[1].seconds >= self._seconds:
            self._marks.popleft()

    def wait(self, seconds: float) -> None:
        """Training has stood still for so long, outside a pause."""
        self._waited += seconds

    def pause(self) -> None:
        """Training stopped when the last batch was counted."""
        self._paused = True

    def resume(self) -> None:
        """Training goes on now."""
        if self._paused:
            self._pauses += self._clock() - self._counted_at
            self._paused = False

    @property
    def images_per_second(self) -> float | None:
        """None before the end of the second step."""
        return self._rate(lambda mark: mark.images)

    def seconds_for(self, steps: int) -> float | None:
        """The time that so many more optimizer steps will take; None while unknown."""
        rate = self._rate(lambda mark: mark.step)
        return steps / rate if rate else None

    @property
    def waiting(self) -> float | None:
        """The share of the time that training stood still, 0 to 1; None before the end of the second step."""
        rate = self._rate(lambda mark: mark.waited)
        return None if rate is None else min(1.0, rate)

    @property
    def seconds(self) -> float:
        """How much time of training the rates are taken from."""
        return self._marks[-1].seconds - self._marks[0].seconds if self._marks else 0.0

    @property
    def paused(self) -> bool:
        """Whether training has stopped."""
        return self._paused

    def _rate(self, quantity: Callable[[_Mark], float]) -> float | None:
        if len(self._marks) < 2 or self._marks[-1].seconds <= self._marks[0].seconds:
            return None
        first, last = self._marks[0], self._marks[-1]
        return (quantity(last) - quantity(first)) / (last.seconds - first.seconds)


def _log_handlers() -> list[logging.StreamHandler[Any]]:
    """Handlers took hold of standard error before rich did: without its proxy they would write into the bar."""
    loggers = [logging.getLogger(name) for name in (None, "pytorch_lightning", "lightning_fabric")]
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
