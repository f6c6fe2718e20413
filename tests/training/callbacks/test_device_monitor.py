"""DeviceMonitor: its metrics reach the logger under their names and steps, with any answer of the driver."""

from __future__ import annotations

import subprocess
import sys
import warnings
from functools import partial
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import DummyLogger
from torch import nn
from torch.utils.data import DataLoader

from imageseg.training.callbacks import device_monitor
from imageseg.training.callbacks.device_monitor import DeviceMonitor

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

CPU_METRICS = {"device/cpu_percent", "device/memory_percent", "device/process_memory_mib"}
GPU_METRICS = {
    "device/gpu_utilization_percent": 87,
    "device/gpu_memory_used_mib": 20480.0,
    "device/gpu_memory_percent": 25.0,
    "device/gpu_temperature_celsius": 61,
    "device/gpu_power_watts": 312.5,
    "device/gpu_fan_percent": 40,
}


class RecordingLogger(DummyLogger):
    """Keeps the device metrics that it is given, with their steps."""

    def __init__(self) -> None:
        super().__init__()
        self.readings: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if any(name.startswith("device/") for name in metrics):
            self.readings.append((step, dict(metrics)))


class TinyTask(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layer(batch).mean()  # type: ignore[no-any-return]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class FailingTask(TinyTask):
    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        raise ZeroDivisionError("the step fails")


class RefusedError(Exception):
    """What ``pynvml.NVMLError`` is to the fake."""


class FakeNvml(SimpleNamespace):
    """The part of ``pynvml`` that the monitor calls; the calls named in ``refused`` raise."""

    def __init__(self, *refused: str) -> None:
        super().__init__(NVMLError=RefusedError, NVML_TEMPERATURE_GPU=0, nvmlMemory_v2=2)
        self.refused = refused
        self.calls: list[tuple[Any, ...]] = []
        answers = {
            "nvmlInit": None,
            "nvmlShutdown": None,
            "nvmlDeviceGetHandleByPciBusId": "the card",
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=87, memory=50),
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=20 * 2**30, total=80 * 2**30),
            "nvmlDeviceGetTemperature": 61,
            "nvmlDeviceGetPowerUsage": 312_500,
            "nvmlDeviceGetFanSpeed": 40,
        }
        for call, answer in answers.items():
            setattr(self, call, partial(self._answer, call, answer))

    def _answer(self, call: str, answer: Any, *arguments: Any, **options: Any) -> Any:
        self.calls.append((call, *arguments, *options.values()))
        if call in self.refused:
            raise RefusedError("Not Supported")
        return answer

    @property
    def named(self) -> list[str]:
        return [call for call, *_ in self.calls]


class DeviceMonitorOnCuda(DeviceMonitor):
    """Takes the trainer's processor for the second visible CUDA device, since tests run without one."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._gpu = self._open(torch.device("cuda", 1))


@pytest.fixture
def slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second visible CUDA device sits in a slot that no count of cards would give."""

    def properties(device: torch.device) -> Any:
        assert device.index == 1
        return SimpleNamespace(pci_domain_id=1, pci_bus_id=0xC1, pci_device_id=0)

    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)


def fit(
    monitor: DeviceMonitor,
    *,
    task: TinyTask | None = None,
    max_steps: int = 3,
    **arguments: Any,
) -> RecordingLogger:
    """Train for three steps and return the logger."""
    logger = RecordingLogger()
    options: dict[str, Any] = {"log_every_n_steps": 1, "callbacks": [monitor], "logger": logger} | arguments
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=max_steps,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(task or TinyTask(), DataLoader(torch.ones(16, 2), batch_size=2))  # type: ignore[arg-type]
    return logger


def test_the_metrics_of_the_machine_are_logged_at_every_step() -> None:
    logger = fit(DeviceMonitor())
    assert [step for step, _ in logger.readings] == [1, 2, 3]
    for _, metrics in logger.readings:
        assert set(metrics) == CPU_METRICS
        assert 0 <= metrics["device/cpu_percent"] <= 100
        assert 0 < metrics["device/memory_percent"] <= 100
        assert 50 < metrics["device/process_memory_mib"] < psutil.virtual_memory().total / 2**20


def test_the_trainer_sets_the_interval() -> None:
    assert [step for step, _ in fit(DeviceMonitor(), log_every_n_steps=2, max_steps=5).readings] == [2, 4]
    assert fit(DeviceMonitor(), log_every_n_steps=0).readings == []


def test_accumulated_gradients_give_one_reading_per_optimizer_step() -> None:
    logger = fit(DeviceMonitor(), accumulate_grad_batches=2)
    assert [step for step, _ in logger.readings] == [1, 2, 3]


def test_a_run_without_a_logger_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: pytest.fail("a figure was read for nobody"))
    fit(DeviceMonitor(), logger=False)


def test_every_logger_gets_the_metrics() -> None:
    second = RecordingLogger()
    first = RecordingLogger()
    fit(DeviceMonitor(), logger=[first, second])
    assert first.readings == second.readings
    assert len(first.readings) == 3


@pytest.mark.usefixtures("slot")
def test_a_gpu_adds_its_own_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    logger = fit(DeviceMonitorOnCuda())
    assert [step for step, _ in logger.readings] == [1, 2, 3]
    for _, metrics in logger.readings:
        assert {name: value for name, value in metrics.items() if name not in CPU_METRICS} == GPU_METRICS
        assert set(metrics) > CPU_METRICS
    assert nvml.calls[1] == ("nvmlDeviceGetHandleByPciBusId", "00000001:c1:00.0")
    assert ("nvmlDeviceGetMemoryInfo", "the card", nvml.nvmlMemory_v2) in nvml.calls
    assert (nvml.named[0], nvml.named[-1]) == ("nvmlInit", "nvmlShutdown")


@pytest.mark.usefixtures("slot")
@pytest.mark.parametrize(
    ("refused", "absent"),
    [
        ("nvmlDeviceGetFanSpeed", {"device/gpu_fan_percent"}),
        ("nvmlDeviceGetUtilizationRates", {"device/gpu_utilization_percent"}),
        ("nvmlDeviceGetMemoryInfo", {"device/gpu_memory_used_mib", "device/gpu_memory_percent"}),
    ],
)
def test_a_figure_that_the_driver_refuses_is_left_out(
    refused: str,
    absent: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(refused))
    logger = fit(DeviceMonitorOnCuda(), max_steps=1)
    assert set(logger.readings[0][1]) == (CPU_METRICS | set(GPU_METRICS)) - absent


@pytest.mark.usefixtures("slot")
@pytest.mark.parametrize(
    ("nvml", "reason"),
    [
        (None, "nvidia-ml-py is not installed"),
        (FakeNvml("nvmlInit"), "NVML does not start: Not Supported"),
        (FakeNvml("nvmlDeviceGetHandleByPciBusId"), "NVML does not know cuda:1: Not Supported"),
    ],
)
def test_without_nvml_one_line_says_so_and_the_machine_is_still_logged(
    nvml: FakeNvml | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monitor = DeviceMonitorOnCuda()
    with pytest.warns(UserWarning, match=f"DeviceMonitor cannot log GPU metrics: {reason}"):
        logger = fit(monitor)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="DeviceMonitor")
        fit(monitor)
    assert [set(metrics) for _, metrics in logger.readings] == [CPU_METRICS] * 3
    if nvml is not None and "nvmlInit" not in nvml.refused:
        assert nvml.named.count("nvmlShutdown") == nvml.named.count("nvmlInit") == 2


@pytest.mark.usefixtures("slot")
def test_nvml_is_shut_down_when_training_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml("nvmlShutdown")
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with pytest.raises(ZeroDivisionError):
        fit(DeviceMonitorOnCuda(), task=FailingTask())
    assert (nvml.named[0], nvml.named[-1]) == ("nvmlInit", "nvmlShutdown")


def test_children_are_counted_listed_rarely_and_may_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(device_monitor, "time", SimpleNamespace(monotonic=lambda: now[0]))
    processes = device_monitor._Processes()
    alone = processes.read()["device/process_memory_mib"]
    # Other tests of this process may have left Python's own helper process of `multiprocessing`.
    here = [psutil.Process(), *psutil.Process().children(recursive=True)]
    assert alone == pytest.approx(sum(process.memory_info().rss for process in here) / 2**20, abs=4)

    waiting = [sys.executable, "-c", "held = b'1' * (100 * 2**20); print(); input()"]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin
        assert child.stdout
        child.stdout.readline()
        assert processes.read()["device/process_memory_mib"] == pytest.approx(alone, abs=50)
        now[0] += 30
        assert processes.read()["device/process_memory_mib"] > alone + 50
        child.stdin.close()
    assert processes.read()["device/process_memory_mib"] == pytest.approx(alone, abs=50)
