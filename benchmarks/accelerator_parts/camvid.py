"""CamVid's recipe with a pretrained encoder at a batch size for GPUs: the wall time to a validation mIoU of 0.70."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from accelerator_parts.setting import ROOT, Row, Setting, attempt, imageseg_command

GOAL = 0.70
NAME = "CamVid, DeepLabv3_plus on tf_efficientnet_lite0, batch 32"


def run(setting: Setting) -> Iterator[Row]:
    """One row; skipped where no data were carried."""
    if setting.data is None or not setting.data.is_dir():
        yield Row(NAME, "skipped", {}, f"{setting.data or 'no folder'}: pass CamVid's folder as --data")
    elif not setting.on_cuda:
        yield Row(NAME, "skipped", {}, "takes minutes of a CUDA device")
    else:
        yield attempt(setting, NAME, partial(_trained, setting, setting.data))


def _trained(setting: Setting, data: Path) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        command = imageseg_command(
            *(
                "train",
                "--config",
                ROOT / "configs" / "camvid_deeplabv3_plus_lite0.yaml",
                "--data.root",
                data.resolve(),
            ),
            *("--data.batch_size", 32, "--data.num_workers", min(16, os.cpu_count() or 1)),
            *("--data.pack_folder", Path(folder) / "store", "--trainer.max_steps", 2000, "--trainer.val_every", 50),
            *("--trainer.progress_bar", "false", "--trainer.output", folder, "--trainer.name", "run"),
        )
        began = time.time()
        with (Path(folder) / "log").open("w+") as log:
            process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            try:
                # Some seconds are kept to read what the run has logged.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(1.0, setting.left() - 8))
            finally:
                process.kill()
                process.wait()
            log.seek(0)
            output = log.read()[-600:]
        curve = _curve(Path(folder) / "run")
    if not curve:
        return Row(NAME, "failed", {}, f"no validation within the time: {output}")
    reached = next((when - began for when, value in curve if value >= GOAL), None)
    values = {"best_val_miou": max(value for _, value in curve), "seconds": curve[-1][0] - began}
    note = f"{GOAL:.2f} not reached within the time" if reached is None else f"wall time to {GOAL:.2f}, start included"
    return Row(NAME, "measured", values | {"seconds_to_goal": reached}, note)


def _curve(folder: Path) -> list[tuple[float, float]]:
    """Time of the clock and value of every validation mIoU."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    if "val/miou" not in events.Tags()["scalars"]:
        return []
    return [(scalar.wall_time, scalar.value) for scalar in events.Scalars("val/miou")]
