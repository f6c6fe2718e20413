"""LoadingMeter: what counts as waiting in tiny runs under a clock that only the loader and the task move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import Logger
from torch import nn
from torch.utils.data import DataLoader, Dataset

from imageseg.training.callbacks.loading_meter import LoadingMeter, _DeviceStopwatch, loading_advice

Logged = Callable[[], list[str]]

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

LINE = (
    "data loading takes 40 % of the training time; to reduce it, increase --data.num_workers (now 1 for 8 CPU cores) "
    "or use smaller images"
)


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class SlowBatches:
    """Batches of four without end, each of which takes its time; the first ones start the workers."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        self.clock.now += 500.0
        while True:
            yield {"image": torch.ones(4, 3, 2, 2)}
            self.clock.now += self.seconds


class Pictures(Dataset[dict[str, torch.Tensor]]):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"image": torch.ones(3, 2, 2)}


class TinyTask(pl.LightningModule):
    """A step computes for three seconds, the first one for long; so does validation."""

    def __init__(self, clock: Clock, *, loading_seconds: float = 2.0) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.clock = clock
        self.loading_seconds = loading_seconds

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        self.clock.now += 3.0 if batch_idx else 600.0
        return self.layer.weight.sum() * 0

    def on_validation_start(self) -> None:
        self.clock.now += 70.0

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        self.clock.now += 50.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self) -> Any:
        return SlowBatches(self.clock, self.loading_seconds)

    def val_dataloader(self) -> Any:
        return DataLoader(Pictures(), batch_size=1)


class Kept(Logger):
    """Keeps what is logged."""

    name = "kept"
    version = 0

    def __init__(self) -> None:
        super().__init__()
        self.metrics: dict[int, dict[str, float]] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.metrics.setdefault(step, {}).update(metrics)

    def log_hyperparams(self, *arguments: Any, **named: Any) -> None:
        pass


def run(
    clock: Clock, *, steps: int, loading_seconds: float, meter: LoadingMeter, val_interval: int = 1000, **options: Any
) -> dict[int, dict[str, float]]:
    logger = Kept()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        max_steps=steps,
        val_check_interval=val_interval,
        check_val_every_n_epoch=None,
        callbacks=[meter],
        profiler=meter.watch,
        logger=logger,
        log_every_n_steps=5,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        **options,
    )
    trainer.fit(TinyTask(clock, loading_seconds=loading_seconds))
    return logger.metrics


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)


def metered(clock: Clock, **named: Any) -> LoadingMeter:
    return LoadingMeter(**{"workers": 1, "clock": clock} | named)


def test_waiting_is_what_the_loader_takes_of_a_step(logged: Logged) -> None:
    clock = Clock()
    metrics = run(clock, steps=70, loading_seconds=2.0, meter=metered(clock))
    assert list(metrics) == list(range(5, 71, 5))
    for step in metrics:
        assert metrics[step] == pytest.approx({"speed/waiting": 0.4, "speed/images_per_second": 4 / 5})
    assert logged() == [LINE], "once"


def test_validation_and_the_batch_after_it_do_not_count() -> None:
    clock = Clock()
    metrics = run(clock, steps=20, loading_seconds=2.0, meter=metered(clock), val_interval=4)
    # Of six steps in the window of 30 s or a little more, every fourth one has a batch that does not count.
    assert all(0.2 < entry["speed/waiting"] < 0.4 for entry in metrics.values())
    assert metrics[5] == pytest.approx({"speed/waiting": 3 * 2 / (3 * 5 + 3), "speed/images_per_second": 4 * 4 / 18})


@pytest.mark.parametrize(
    ("steps", "seconds", "told"),
    [(49, 2.0, False), (50, 2.0, True), (70, 1.2, False), (70, 1.4, True), (300, 0.0, False)],
)
def test_the_advice_needs_steps_time_and_a_slow_loader(steps: int, seconds: float, told: bool, logged: Logged) -> None:
    clock = Clock()
    run(clock, steps=steps, loading_seconds=seconds, meter=metered(clock))
    assert bool(logged()) == told


def test_accumulated_gradients_count_optimizer_steps() -> None:
    clock = Clock()
    metrics = run(clock, steps=10, loading_seconds=2.0, meter=metered(clock), accumulate_grad_batches=3)
    assert list(metrics) == [5, 10]
    assert metrics[10] == pytest.approx({"speed/waiting": 0.4, "speed/images_per_second": 4 / 5})


def test_the_first_step_and_the_start_of_the_workers_do_not_count() -> None:
    clock = Clock()
    meter = metered(clock)
    assert meter.waiting is None
    run(clock, steps=1, loading_seconds=2.0, meter=meter)
    assert meter.waiting is None
    run(clock, steps=2, loading_seconds=3.0, meter=meter)
    assert meter.waiting == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("workers", "packed", "line"),
    [
        (0, None, "increase --data.num_workers (now 0 for 8 CPU cores) or use smaller images"),
        (3, False, "increase --data.num_workers (now 3 for 8 CPU cores), set --data.pack true, or use smaller images"),
        (3, True, "increase --data.num_workers (now 3 for 8 CPU cores) or set --data.color_jitter 0"),
        (8, False, "set --data.pack true or use smaller images"),
        (8, None, "use smaller images"),
        (9, True, "set --data.color_jitter 0"),
    ],
)
def test_the_advice_fits(workers: int, packed: bool | None, line: str) -> None:
    assert loading_advice(workers, cores=8, packed=packed) == f"to reduce it, {line}"


class FakeDevice:
    """A device that runs what it is given in order, on a clock of its own, behind the processor's."""

    def __init__(self) -> None:
        self.processor = 0.0
        self.busy_until = 0.0

    def launch(self, milliseconds: float) -> None:
        self.busy_until = max(self.busy_until, self.processor) + milliseconds

    def event(self, *, enable_timing: bool) -> FakeEvent:
        assert enable_timing
        return FakeEvent(self)


class FakeEvent:
    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.at = 0.0

    def record(self) -> None:
        self.at = max(self.device.busy_until, self.device.processor)

    def query(self) -> bool:
        return self.device.processor >= self.at

    def elapsed_time(self, other: FakeEvent) -> float:
        return other.at - self.at


@pytest.mark.parametrize(
    ("step", "wait", "idle"),
    [(100, 80, 0), (100, 100, 0), (100, 130, 30), (20, 80, 60), (0, 80, 80)],
)
def test_a_device_waits_only_while_it_has_nothing_to_do(step: float, wait: float, idle: float) -> None:
    """The processor launches a step in no time; the device takes ``step`` ms for it, the loader ``wait`` ms for a batch."""
    device = FakeDevice()
    stopwatch = _DeviceStopwatch(device.event)
    device.launch(step)
    stopwatch.begin()
    device.processor += wait
    stopwatch.end(counts=True)
    assert stopwatch.taken() == (0 if device.busy_until > device.processor else idle / 1000)
    device.processor += 1000
    late = 0 if device.busy_until <= wait else idle / 1000
    assert stopwatch.taken() == late
    assert stopwatch.taken() == 0


def test_a_device_may_lag_by_many_steps() -> None:
    device = FakeDevice()
    stopwatch = _DeviceStopwatch(device.event)
    total = 0.0
    for _ in range(10):  # the loader takes 50 ms, the device 100: it is never idle but before the first
        device.launch(100)
        stopwatch.begin()
        device.processor += 50
        stopwatch.end(counts=True)
        total += stopwatch.taken()
    device.processor += 1000
    assert total + stopwatch.taken() == 0
    stopwatch.begin()
    device.processor += 70
    stopwatch.end(counts=False)
    assert stopwatch.taken() == 0


@pytest.mark.accelerator
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_device_that_waits_for_nothing_has_no_waits() -> None:
    stopwatch = _DeviceStopwatch()
    stopwatch.begin()
    stopwatch.end(counts=True)
    torch.cuda.synchronize()
    assert 0 <= stopwatch.taken() < 1
