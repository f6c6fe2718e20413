"""DeviceMonitor: utilization, memory and temperature of the GPU (NVML), CPU and memory usage (psutil)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn

_MIB = 2**20
# Finding the children means reading every process of the machine, which costs far more than all other readings.
_CHILDREN_SECONDS = 30.0


class DeviceMonitor(pl.Callback):
    """Log device metrics every ``log_every_n_steps`` optimizer steps of the trainer.

    On a CUDA device, as its driver reports them: ``device/gpu_utilization_percent``, ``device/gpu_memory_used_mib``,
    ``device/gpu_memory_percent``, ``device/gpu_temperature_celsius``, ``device/gpu_power_watts`` and
    ``device/gpu_fan_percent``. Metrics that the driver does not provide (the fan of a server GPU) are omitted.

    Always: ``device/cpu_percent`` and ``device/memory_percent`` of the machine, and ``device/process_memory_mib``, the
    resident memory of this process and its children: loader workers, and other processes of the run if Lightning started
    them. Shared pages count once for each process.

    Loggers write in the main process only, so that only its device is read.
    """

    def __init__(self) -> None:
        self._gpu: _Gpu | None = None
        self._processes: _Processes | None = None
        self._logged_step = 0
        self._warned = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the device."""
        if not trainer.is_global_zero or not trainer.loggers:
            return
        self._logged_step = trainer.global_step
        self._processes = _Processes()
        # psutil measures since the previous call; the first call returns 0 and only starts the interval.
        psutil.cpu_percent()
        if trainer.strategy.root_device.type == "cuda":
            self._gpu = self._open(trainer.strategy.root_device)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the metrics every ``log_every_n_steps`` optimizer steps."""
        step, interval = trainer.global_step, trainer.log_every_n_steps  # type: ignore[attr-defined]
        # With accumulated gradients several batches end at the same step.
        due = interval > 0 and step % interval == 0 and step != self._logged_step
        if self._processes is None or not due:
            return
        self._logged_step = step
        metrics = self._processes.read() | (self._gpu.read() if self._gpu else {})
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=step)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Release the device: Lightning skips ``teardown`` when a run fails."""
        self._close()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Release the device."""
        self._close()

    def _open(self, device: torch.device) -> _Gpu | None:
        try:
            return _Gpu(device)
        except _NoNvmlError as error:
            if not self._warned:
                rank_zero_warn(f"DeviceMonitor cannot log GPU metrics: {error}")
            self._warned = True
            return None

    def _close(self) -> None:
        self._processes = None
        if self._gpu is not None:
            gpu, self._gpu = self._gpu, None
            gpu.close()


class _Processes:
    """CPU and memory usage of the machine, and memory of this process and its children."""

    def __init__(self) -> None:
        self._own = psutil.Process()
        self._children: list[psutil.Process] = []
        self._listed_at = -float("inf")

    def read(self) -> dict[str, float]:
        return {
            "device/cpu_percent": psutil.cpu_percent(),
            "device/memory_percent": psutil.virtual_memory().percent,
            "device/process_memory_mib": self._memory() / _MIB,
        }

    def _memory(self) -> int:
        if time.monotonic() - self._listed_at >= _CHILDREN_SECONDS:
            self._children = self._own.children(recursive=True)
            self._listed_at = time.monotonic()
        total = int(self._own.memory_info().rss)
        for child in self._children:
            try:
                total += int(child.memory_info().rss)
            except psutil.Error:  # a worker that has ended since the listing
                continue
        return total


class _NoNvmlError(RuntimeError):
    """NVML is not installed, or it does not answer for this device."""


class _Gpu:
    """One CUDA device as NVML sees it.

    Raises:
        _NoNvmlError: nvidia-ml-py is not installed, there is no driver, or it does not answer for this device.
    """

    def __init__(self, device: torch.device) -> None:
        try:
            import pynvml
        except ImportError as error:
            raise _NoNvmlError("nvidia-ml-py is not installed (pip install nvidia-ml-py)") from error
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise _NoNvmlError(f"NVML does not start: {error}") from error
        try:
            # NVML numbers all GPUs of the machine, CUDA only those of CUDA_VISIBLE_DEVICES; the PCI bus id is the same in both.
            self._handle = pynvml.nvmlDeviceGetHandleByPciBusId(_pci_bus_id(device))
        except pynvml.NVMLError as error:
            self.close()
            raise _NoNvmlError(f"NVML does not know {device}: {error}") from error

    def read(self) -> dict[str, float]:
        metrics: dict[str, float] = {}
        for query in _GPU_QUERIES:
            try:
                metrics.update(query(self._nvml, self._handle))
            except self._nvml.NVMLError:  # not available on this GPU or to this user
                continue
        return metrics

    def close(self) -> None:
        with contextlib.suppress(self._nvml.NVMLError):  # the driver is gone, so that nothing is left to release
            self._nvml.nvmlShutdown()


def _pci_bus_id(device: torch.device) -> str:
    properties: Any = torch.cuda.get_device_properties(device)  # torch's type stub lacks the PCI ids
    return f"{properties.pci_domain_id:08x}:{properties.pci_bus_id:02x}:{properties.pci_device_id:02x}.0"


def _utilization(nvml: Any, handle: Any) -> dict[str, float]:
    return {"device/gpu_utilization_percent": nvml.nvmlDeviceGetUtilizationRates(handle).gpu}


def _memory(nvml: Any, handle: Any) -> dict[str, float]:
    # Version 2 equals nvidia-smi; version 1 counts memory reserved by the driver as used.
    memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    return {
        "device/gpu_memory_used_mib": memory.used / _MIB,
        "device/gpu_memory_percent": 100 * memory.used / memory.total,
    }


def _temperature(nvml: Any, handle: Any) -> dict[str, float]:
    return {"device/gpu_temperature_celsius": nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)}


def _power(nvml: Any, handle: Any) -> dict[str, float]:
    return {"device/gpu_power_watts": nvml.nvmlDeviceGetPowerUsage(handle) / 1000}  # milliwatts


def _fan(nvml: Any, handle: Any) -> dict[str, float]:
    return {"device/gpu_fan_percent": nvml.nvmlDeviceGetFanSpeed(handle)}


_GPU_QUERIES: tuple[Callable[[Any, Any], dict[str, float]], ...] = (_utilization, _memory, _temperature, _power, _fan)
