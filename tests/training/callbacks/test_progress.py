"""TrainingProgress: the lines and bars of tiny runs under a clock that only the task moves."""

from __future__ import annotations

import io
import logging
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytorch_lightning as pl
import torch
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader, Dataset

from imageseg.training.callbacks.progress import TrainingProgress

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Pictures(Dataset[dict[str, torch.Tensor]]):
    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"image": torch.ones(3, 2, 2)}


class TinyTask(pl.LightningModule):
    """Batches of four; a step lasts two seconds and its loss is its number, a validation batch lasts fifty."""

    def __init__(self, clock: Clock, *, step_seconds: float = 2.0, failure: BaseException | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.clock = clock
        self.step_seconds = step_seconds
        self.failure = failure

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        if self.failure is not None and self.global_step == 3:
            raise self.failure
        # The first step is slow: it must not count.
        self.clock.now += self.step_seconds if batch_idx else 600.0
        return self.layer.weight.sum() * 0 + self.global_step + 1

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        self.clock.now += 50.0
        self.log("val/miou", 0.25 + 0.001 * self.global_step)

    def test_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        self.clock.now += 50.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self) -> Any:
        return DataLoader(Pictures(1000), batch_size=4)

    def val_dataloader(self) -> Any:
        return DataLoader(Pictures(8), batch_size=4)

    def test_dataloader(self) -> Any:
        return DataLoader(Pictures(12), batch_size=4)


def build_trainer(progress: TrainingProgress, *, max_steps: int, val_interval: int, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        max_steps=max_steps,
        val_check_interval=val_interval,
        check_val_every_n_epoch=None,
        callbacks=[progress],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        **options,
    )


def log_console() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=40)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.setenv("TERM", "xterm")
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        force_interactive=True,
        color_system=None,
        width=90,
        legacy_windows=False,
    )


def written(console: Console) -> str:
    return cast(io.StringIO, console.file).getvalue()


def lines(console: Console) -> list[str]:
    """Every line that was ever written, without the terminal's control codes and the bar."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written(console))
    return [re.sub(r"[━╸╺ ]{4,}", "   ", line).strip() for line in re.split(r"[\r\n]+", plain) if line.strip()]


def test_a_log_gets_a_line_after_each_twentieth_and_each_validation() -> None:
    clock, console = Clock(), log_console()
    trainer = build_trainer(TrainingProgress(console=console, clock=clock), max_steps=40, val_interval=5)
    trainer.fit(TinyTask(clock))

    shown = lines(console)
    # Every second step, except where a validation has just given a line; none twice; the last is the last validation's.
    steps = [int(line.split()[1].split("/")[0]) for line in shown]
    assert steps == [2, 4, 5, 7, 9, 10, 12, 14, 15, 17, 19, 20, 22, 24, 25, 27, 29, 30, 32, 34, 35, 37, 39, 40]
    # Four images in two seconds, whatever the first step and the validations take; 38 steps of two seconds are left.
    assert shown[0] == "step 2/40  loss 1.500  mIoU -  2.0 images/s  0:01:16 left"
    assert shown[2] == "step 5/40  loss 3.000  mIoU 0.255  2.0 images/s  0:01:10 left"
    assert shown[3] == "step 7/40  loss 4.000  mIoU 0.255  2.0 images/s  0:01:06 left"
    # The mean of the losses 21 to 40.
    assert shown[-1] == "step 40/40  loss 30.500  mIoU 0.290  2.0 images/s  0:00:00 left"


def test_the_last_step_has_a_line_without_a_validation() -> None:
    clock, console = Clock(), log_console()
    trainer = build_trainer(TrainingProgress(console=console, clock=clock), max_steps=45, val_interval=100)
    trainer.fit(TinyTask(clock))
    assert [line.split()[1] for line in lines(console)][-2:] == ["44/45", "45/45"]


def test_a_run_without_an_end_gets_a_line_now_and_then() -> None:
    clock, console = Clock(), log_console()
    progress = TrainingProgress(console=console, clock=clock)
    build_trainer(progress, max_steps=-1, val_interval=300, max_epochs=1).fit(TinyTask(clock))
    shown = lines(console)
    assert [line.split("  ")[0] for line in shown] == ["step 100", "step 200", "step 250"]
    assert shown[0] == "step 100  loss 90.500  mIoU -  2.0 images/s"


def test_accumulated_gradients_count_optimizer_steps_and_whole_losses() -> None:
    clock, console = Clock(), log_console()
    trainer = build_trainer(
        TrainingProgress(console=console, clock=clock), max_steps=20, val_interval=100, accumulate_grad_batches=3
    )
    trainer.fit(TinyTask(clock))
    shown = lines(console)
    assert len(shown) == 20
    assert shown[0] == "step 1/20  loss 1.000  mIoU -  - images/s  -:--:-- left"
    # Three batches of two seconds each make a step.
    assert shown[9] == "step 10/20  loss 5.500  mIoU -  2.0 images/s  0:01:00 left"


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_a_resumed_run_goes_on_at_its_step(tmp_path: Path) -> None:
    clock = Clock()
    first = build_trainer(TrainingProgress(console=log_console(), clock=clock), max_steps=4, val_interval=100)
    first.fit(TinyTask(clock))
    first.save_checkpoint(tmp_path / "run.ckpt")

    console = log_console()
    second = build_trainer(TrainingProgress(console=console, clock=clock), max_steps=7, val_interval=100)
    second.fit(TinyTask(clock), ckpt_path=tmp_path / "run.ckpt")
    assert lines(console) == [
        "step 5/7  loss 5.000  mIoU -  - images/s  -:--:-- left",
        "step 6/7  loss 5.500  mIoU -  2.0 images/s  0:00:02 left",
        "step 7/7  loss 6.000  mIoU -  2.0 images/s  0:00:00 left",
    ]


def test_a_terminal_gets_a_bar_and_another_one_while_validating(terminal: Console) -> None:
    clock = Clock()
    trainer = build_trainer(TrainingProgress(console=terminal, clock=clock), max_steps=6, val_interval=4)
    trainer.fit(TinyTask(clock))

    shown = lines(terminal)
    assert shown[0] == "train  step 0/6   loss -  mIoU -  - images/s  -:--:-- left"
    assert "train  step 3/6   loss 2.000  mIoU -  2.0 images/s  0:00:06 left" in shown
    assert [line for line in dict.fromkeys(shown) if "validate" in line] == [
        "validate  0/2",
        "validate  1/2",
        "validate  2/2",
    ]
    assert "train  step 5/6   loss 3.000  mIoU 0.254  2.0 images/s  0:00:02 left" in shown
    assert shown[-1] == "train  step 6/6   loss 3.500  mIoU 0.254  2.0 images/s  0:00:00 left"
    before = "train  step 4/6   loss 2.500  mIoU -  2.0 images/s  0:00:04 left"
    assert shown.index("validate  0/2") > shown.index(before)
    assert written(terminal).rindex(SHOW_CURSOR) > written(terminal).rindex(HIDE_CURSOR)


def test_the_bar_fits_a_narrow_terminal(terminal: Console) -> None:
    terminal.width = 80
    clock = Clock()
    progress = TrainingProgress(console=terminal, clock=clock)
    build_trainer(progress, max_steps=80000, val_interval=4, max_epochs=1, limit_train_batches=8).fit(TinyTask(clock))
    assert "train  step 8/80000   loss 4.500  mIoU 0.258  2.0 images/s  44:26:24 left" in lines(terminal)


@pytest.mark.parametrize(
    ("width", "shown"), [(80, ""), (94, ""), (95, "  data loading 35 %"), (120, "  data loading 35 %")]
)
def test_what_a_narrow_terminal_cannot_hold_is_the_waiting(width: int, shown: str, terminal: Console) -> None:
    terminal.width = width
    clock = Clock()
    progress = TrainingProgress(console=terminal, waiting=lambda: 0.35, clock=clock)
    build_trainer(progress, max_steps=80000, val_interval=4, max_epochs=1, limit_train_batches=8).fit(TinyTask(clock))
    last = [line for line in lines(terminal) if "step 8/" in line][-1]
    assert last == f"train  step 8/80000   loss 4.500  mIoU 0.258  2.0 images/s  44:26:24 left{shown}"


@pytest.mark.parametrize(
    ("share", "shown"), [(None, ""), (0.1, ""), (0.104, "  data loading 10 %"), (0.354, "  data loading 35 %")]
)
def test_a_slow_loader_is_shown(share: float | None, shown: str) -> None:
    clock, console = Clock(), log_console()
    progress = TrainingProgress(console=console, waiting=lambda: share, clock=clock)
    build_trainer(progress, max_steps=20, val_interval=100).fit(TinyTask(clock))
    assert lines(console)[-1] == f"step 20/20  loss 10.500  mIoU -  2.0 images/s  0:00:00 left{shown}"


def test_fast_steps_are_not_all_drawn(terminal: Console) -> None:
    clock = Clock()
    trainer = build_trainer(TrainingProgress(console=terminal, clock=clock), max_steps=101, val_interval=200)
    trainer.fit(TinyTask(clock, step_seconds=0.125))
    steps = [line.split()[2] for line in dict.fromkeys(lines(terminal))]
    # The first step takes 600 s; then four steps of 1/8 s fill half a second.
    assert steps == ["0/101", "1/101", *(f"{step}/101" for step in range(5, 102, 4))]


def test_testing_has_a_bar_of_its_own(terminal: Console) -> None:
    clock = Clock()
    trainer = build_trainer(TrainingProgress(console=terminal, clock=clock), max_steps=1, val_interval=1)
    trainer.test(TinyTask(clock), verbose=False)
    assert list(dict.fromkeys(lines(terminal))) == ["test  0/3", "test  1/3", "test  2/3", "test  3/3"]
    assert written(terminal).rindex(SHOW_CURSOR) > written(terminal).rindex(HIDE_CURSOR)


def test_validating_alone_has_a_bar_and_no_line_of_training(terminal: Console) -> None:
    for console in (terminal, log_console()):
        clock = Clock()
        trainer = build_trainer(TrainingProgress(console=console, clock=clock), max_steps=1, val_interval=1)
        trainer.validate(TinyTask(clock), verbose=False)
        expected = ["validate  0/2", "validate  1/2", "validate  2/2"] if console is terminal else []
        assert list(dict.fromkeys(lines(console))) == expected


@pytest.fixture
def _interrupts() -> Iterator[None]:
    """Lightning ignores further interrupts after the first one; other tests must not inherit that."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.usefixtures("_interrupts")
@pytest.mark.parametrize(
    ("failure", "outcome"), [(ZeroDivisionError("a fault"), ZeroDivisionError), (KeyboardInterrupt(), SystemExit)]
)
def test_a_failure_gives_the_terminal_back(
    failure: BaseException,
    outcome: type[BaseException],
    terminal: Console,
) -> None:
    clock = Clock()
    progress = TrainingProgress(console=terminal, clock=clock)
    with pytest.raises(outcome):
        build_trainer(progress, max_steps=6, val_interval=100).fit(TinyTask(clock, failure=failure))
    assert written(terminal).rindex(SHOW_CURSOR) > written(terminal).rindex(HIDE_CURSOR)
    assert "step 3/6" in lines(terminal)[-1]
    with terminal.capture() as captured:
        terminal.print("free")
    assert captured.get() == "free\n"


def test_a_disabled_progress_shows_nothing(terminal: Console) -> None:
    for console in (terminal, log_console()):
        clock = Clock()
        progress = TrainingProgress(console=console, clock=clock)
        progress.disable()
        assert not progress.is_enabled
        trainer = build_trainer(progress, max_steps=3, val_interval=2)
        trainer.fit(TinyTask(clock))
        assert written(console) == ""
        progress.enable()
        trainer.validate(TinyTask(clock), verbose=False)
        assert (written(console) == "") == (console is not terminal)


def test_disabling_in_the_middle_clears_the_way(terminal: Console) -> None:
    clock = Clock()
    progress = TrainingProgress(console=terminal, clock=clock)

    class Disabler(pl.Callback):
        def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if not trainer.sanity_checking:
                progress.disable()

    trainer = build_trainer(progress, max_steps=6, val_interval=3)
    trainer.callbacks.append(Disabler())  # type: ignore[attr-defined]
    trainer.fit(TinyTask(clock))
    assert not any("step 4/6" in line for line in lines(terminal))
    assert written(terminal).endswith(SHOW_CURSOR)


def test_only_the_first_process_shows_anything() -> None:
    progress = TrainingProgress(console=log_console())
    progress.setup(cast(pl.Trainer, SimpleNamespace(is_global_zero=False)), TinyTask(Clock()), "fit")
    assert not progress.is_enabled


def test_lines_go_to_standard_error_even_when_a_job_forces_colours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    clock = Clock()
    build_trainer(TrainingProgress(clock=clock), max_steps=2, val_interval=100).fit(TinyTask(clock))
    captured = capsys.readouterr()
    assert "step 2/2  loss 1.500  mIoU -  2.0 images/s  0:00:00 left\n" in captured.err
    assert "step" not in captured.out
    assert "\x1b" not in captured.err


def test_printing_to_a_pipe_stays_on_standard_output(capsys: pytest.CaptureFixture[str], terminal: Console) -> None:
    class PrintingTask(TinyTask):
        def on_train_batch_end(self, *arguments: Any) -> None:
            print("{}")

    clock = Clock()
    trainer = build_trainer(TrainingProgress(console=terminal, clock=clock), max_steps=2, val_interval=100)
    trainer.fit(PrintingTask(clock))
    assert capsys.readouterr().out.count("{}\n") == 2
    assert "{}" not in written(terminal)


def test_a_log_message_does_not_break_the_bar(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, terminal: Console
) -> None:
    handler = logging.StreamHandler(sys.stderr)
    logger = logging.getLogger("pytorch_lightning")
    monkeypatch.setattr(logger, "handlers", [handler])
    level = logger.level
    logger.setLevel(logging.INFO)  # train() asks for less
    request.addfinalizer(lambda: logger.setLevel(level))
    clock, stream = Clock(), handler.stream
    build_trainer(TrainingProgress(console=terminal, clock=clock), max_steps=2, val_interval=100).fit(TinyTask(clock))
    assert "`Trainer.fit` stopped: `max_steps=2` reached." in lines(terminal)
    assert handler.stream is stream
