"""Kills a training run after a few steps, resumes it, and compares its weights with those of a run that was not killed."""

from __future__ import annotations

import contextlib
import io
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from accelerator_parts.setting import ROOT, Row, Setting, attempt, imageseg_command, run_imageseg


def run(setting: Setting) -> Iterator[Row]:
    """With deterministic algorithms, where the weights must be the same bits, and without."""
    for deterministic in (True,) if setting.small else (True, False):
        name = f"resumed run, trainer.deterministic {str(deterministic).lower()}"
        yield attempt(setting, name, partial(_compared, setting, name, deterministic=deterministic))


def _compared(setting: Setting, name: str, *, deterministic: bool) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        flags = partial(_flags, setting, Path(folder), deterministic)
        if setting.small:
            _train_in_this_process(flags("complete"))  # saves the imports of another one
        else:
            run_imageseg(setting, "train", *flags("complete"))
        killed = Path(folder) / "runs" / "killed"
        _killed_at_the_first_checkpoint(setting, flags("killed"), killed / "checkpoints" / "last.ckpt")
        steps_before = _step(killed)
        run_imageseg(setting, "train", *flags("killed"), "--trainer.resume", killed / "checkpoints" / "last.ckpt")
        complete, resumed = (_weights(Path(folder) / "runs" / run) for run in ("complete", "killed"))
    largest = max(float((value.double() - resumed[key].double()).abs().max()) for key, value in complete.items())
    scale = max(float(value.double().abs().max()) for value in complete.values())
    equal = all(torch.equal(value, resumed[key]) for key, value in complete.items())
    return Row(
        name,
        "measured" if not deterministic else "ok" if equal else "failed",
        {
            "bit_identical": equal,
            "largest_difference": largest,
            "largest_weight": scale,
            "killed_at_step": steps_before,
        },
        "" if equal or not deterministic else "the weights differ",
    )


def _train_in_this_process(flags: list[Any]) -> None:
    from imageseg.cli import main

    with contextlib.redirect_stdout(io.StringIO()):
        code = main(["train", *map(str, flags)])
    if code:
        raise RuntimeError(f"imageseg train ended with {code}")


def _flags(setting: Setting, folder: Path, deterministic: bool, name: str) -> list[Any]:
    side, steps, every = (64, 6, 3) if setting.small else (256, 20, 10)
    values = {
        "data.root": folder / "toys",
        "data.size": [side, side],
        "data.counts": [8, 1, 1],
        "data.crop_size": [side, side],
        "data.batch_size": 2 if setting.small else 8,
        "data.num_workers": 0 if setting.small else 4,
        "network.encoder": "resnet10t" if setting.small else "resnet18",
        "network.pretrained": "false",
        "trainer.max_steps": steps,
        "trainer.val_every": every,
        "trainer.deterministic": str(deterministic).lower(),
        "trainer.accelerator": setting.device.type,
        "trainer.devices": 1,
        "trainer.progress_bar": "false",
        "trainer.images": 0,
        "trainer.precision": "bf16-mixed" if setting.on_cuda else "32-true",
        "trainer.output": folder / "runs",
        "trainer.name": name,
    }
    words = [word for key, value in values.items() for word in (f"--{key}", value)]
    return ["--use", "ToyScenesModule", "--model", "DeepLabv3_plus", *words]


def _killed_at_the_first_checkpoint(setting: Setting, flags: list[Any], checkpoint: Path) -> None:
    process = subprocess.Popen(
        imageseg_command("train", *flags), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        while not checkpoint.exists():
            if process.poll() is not None:
                assert process.stderr is not None
                raise RuntimeError(f"the run ended before its first checkpoint: {process.stderr.read()[-600:]}")
            if setting.left() <= 0:
                raise TimeoutError("no checkpoint within the time of this part")
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _weights(run: Path) -> dict[str, torch.Tensor]:
    from imageseg.checkpoint import read_checkpoint

    weights: dict[str, torch.Tensor] = read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
    return weights


def _step(run: Path) -> int:
    from imageseg.checkpoint import read_checkpoint

    return int(read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"])
