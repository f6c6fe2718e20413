"""What every part of the accelerator run is given, what it yields, and how it measures."""

from __future__ import annotations

import contextlib
import gc
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
CLASSES = 19


@dataclass(frozen=True)
class Setting:
    """Where and how large a part runs.

    Args:
        small: use sizes that the CPU handles in seconds.
        deadline: value of `time.monotonic()` after which no further measurement begins.
        data: CamVid folder of the real run, if given.
    """

    small: bool
    deadline: float
    data: Path | None = None

    @property
    def device(self) -> torch.device:
        """The CUDA device if there is one, else the CPU."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def on_cuda(self) -> bool:
        """Whether the part runs on a CUDA device."""
        return self.device.type == "cuda"

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()


@dataclass
class Row:
    """One result of a part.

    Args:
        name: what was checked or measured.
        result: "ok", "failed", "measured" or "skipped".
        values: numbers by name, units in the names.
        note: reason of a failure or a skip, or what the numbers mean.
    """

    name: str
    result: str
    values: dict[str, Any]
    note: str = ""


def attempt(setting: Setting, name: str, work: Callable[[], Row]) -> Row:
    """The row that `work` returns; a missing package, a lack of time and an error become rows too."""
    if setting.left() <= 0:
        return Row(name, "skipped", {}, "no time left in the budget of this part")
    try:
        return work()
    except ModuleNotFoundError as error:
        missing = "" if (error.name or "").startswith(("imageseg", "accelerator_parts")) else "missing package: "
        return Row(name, "skipped" if missing else "failed", {}, f"{missing}{error}")
    except Exception as error:  # one measurement must not end the others
        return Row(name, "failed", {}, f"{type(error).__name__}: {' '.join(str(error).split())[:400]}")
    finally:
        release()


def release() -> None:
    """Frees what earlier measurements left behind."""
    gc.collect()
    if "torch._dynamo" in sys.modules:  # its import takes seconds
        torch.compiler.reset()
    if torch.cuda.is_available():
        with contextlib.suppress(RuntimeError):  # after a sticky CUDA error
            torch.cuda.empty_cache()


def measured(setting: Setting, once: Callable[[], Any], *, repeats: int, warmups: int = 3) -> dict[str, float]:
    """Median milliseconds of `once`, and on CUDA the peak of allocated memory in MiB, weights and inputs included."""
    if not setting.on_cuda:
        once()
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            once()
            times.append(1000 * (time.perf_counter() - start))
        return {"ms": statistics.median(times)}
    for _ in range(warmups):
        once()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    events[0].record()
    for event in events[1:]:
        once()
        event.record()
    torch.cuda.synchronize()
    times = [start.elapsed_time(end) for start, end in itertools.pairwise(events)]
    return {"ms": statistics.median(times), "peak_mib": torch.cuda.max_memory_allocated() / 2**20}


@contextlib.contextmanager
def backends(*, benchmark: bool, tf32: bool) -> Iterator[None]:
    """Sets cuDNN's search for the fastest kernels and TF32 for the length of a block."""
    found = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = benchmark, tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = found[:2]
        torch.set_float32_matmul_precision(found[2])


def imageseg_command(*words: Any) -> list[str]:
    """An `imageseg` command of this checkout."""
    return [sys.executable, "-m", "imageseg", *map(str, words)]


def run_imageseg(setting: Setting, *words: Any) -> str:
    """Runs an `imageseg` command within the part's time; returns its standard error.

    Raises:
        RuntimeError: it failed.
    """
    done = subprocess.run(
        imageseg_command(*words), cwd=ROOT, capture_output=True, text=True, timeout=max(1.0, setting.left())
    )
    if done.returncode:
        raise RuntimeError(f"imageseg {words[0]} ended with {done.returncode}: {done.stderr[-600:]}")
    return done.stderr
