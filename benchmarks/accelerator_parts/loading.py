"""Input from a packed store of Cityscapes-sized images: the rate of the loader, the share of waiting, the overlap of copies."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

import imageseg
from accelerator_parts.setting import Row, Setting, attempt, run_imageseg


def run(setting: Setting) -> Iterator[Row]:
    """The loader alone by workers, a real run, its profile, and the loader by preset."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        size, crop, batch = ((128, 256), (64, 64), 2) if setting.small else ((1024, 2048), (512, 1024), 8)
        dataset = imageseg.build_dataset(
            "ToyScenes", root / "toys", size=size, counts=(4 if setting.small else 24, 2, 2)
        )
        dataset.prepare()
        for workers in (1,) if setting.small else (1, 4, 8, 16):
            name = f"packed store, {workers} workers"
            yield attempt(setting, name, partial(_rate, setting, name, dataset, root, crop, batch, workers, None))
        flags = _flags(setting, root, size, crop, batch)
        name = "training of DeepLabv3_plus, share of waiting"
        yield attempt(setting, name, partial(_real_run, setting, name, flags, root))
        name = "training of DeepLabv3_plus, copies to the device"
        yield attempt(setting, name, partial(_overlap, setting, name, root, size, crop, batch))
        for preset in _presets():
            name = f"packed store, augment {preset}"
            workers = 1 if setting.small else min(8, os.cpu_count() or 1)
            yield attempt(setting, name, partial(_rate, setting, name, dataset, root, crop, batch, workers, preset))
            if setting.small:
                break


def _presets() -> list[str]:
    from imageseg.pipeline.augment import PRESETS as KNOWN

    return list(KNOWN)


def _rate(
    setting: Setting,
    name: str,
    dataset: Any,
    root: Path,
    crop: tuple[int, int],
    batch: int,
    workers: int,
    preset: str | None,
) -> Row:
    """Images per second that arrive on the device, from batches after the first ones."""
    from imageseg.pipeline.augment import Augmentation
    from imageseg.pipeline.loader import Loading, training_loader
    from imageseg.pipeline.store.dataset import PackedSamples

    if workers > (os.cpu_count() or 1):
        return Row(name, "skipped", {}, f"this machine has {os.cpu_count()} CPU cores")
    samples = PackedSamples.build(dataset, "train", dataset.samples("train"), pack_folder=str(root / "store"))
    loading = Loading(batch_size=batch, num_workers=workers)
    batches: Any = iter(
        training_loader(samples, Augmentation(crop_size=crop, augment=preset), loading=loading, seed=0)  # type: ignore[arg-type]
    )
    # As many as the workers had prepared before the clock starts must not count.
    for _ in range(2 * workers):
        next(batches)
    start, count = time.perf_counter(), 0
    most = 2.5
    for found in islice(batches, 4 if setting.small else 400):
        found["image"].to(setting.device, non_blocking=True)
        count += 1
        if time.perf_counter() - start > most:
            break
    if setting.on_cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    del batches
    return Row(name, "measured", {"images_per_second": count * batch / seconds, "batches": count})


def _flags(setting: Setting, root: Path, size: tuple[int, int], crop: tuple[int, int], batch: int) -> dict[str, Any]:
    return {
        "data.root": root / "toys",
        "data.size": list(size),
        "data.counts": [4 if setting.small else 24, 2, 2],
        "data.pack": "true",
        "data.pack_folder": root / "store",
        "data.crop_size": list(crop),
        "data.batch_size": batch,
        "data.num_workers": 0 if setting.small else min(8, os.cpu_count() or 1),
        "network.encoder": "resnet10t" if setting.small else "resnet50",
        "network.pretrained": "false",
        "trainer.accelerator": setting.device.type,
        "trainer.devices": 1,
        "trainer.progress_bar": "false",
        "trainer.images": 0,
        "trainer.log_every_n_steps": 1 if setting.small else 10,
        "trainer.precision": "bf16-mixed" if setting.on_cuda else "32-true",
        "trainer.output": root,
    }


def _real_run(setting: Setting, name: str, flags: dict[str, Any], root: Path) -> Row:
    """What the loading meter of a run has logged after its first steps."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    steps = 2 if setting.small else 60
    values = flags | {"trainer.max_steps": steps, "trainer.val_every": steps, "trainer.name": "real"}
    words = [word for key, value in values.items() for word in (f"--{key}", value)]
    run_imageseg(setting, "train", "--use", "ToyScenesModule", "--model", "DeepLabv3_plus", *words)
    events = EventAccumulator(str(root / "real"))
    events.Reload()
    found: dict[str, float] = {}
    for tag in events.Tags()["scalars"]:
        if tag.startswith("speed/"):
            scalars = [scalar.value for scalar in events.Scalars(tag)]
            found[tag] = statistics.median(scalars[len(scalars) // 2 :])
    return Row(name, "measured", found)


def _overlap(setting: Setting, name: str, root: Path, size: tuple[int, int], crop: tuple[int, int], batch: int) -> Row:
    """The share of the time of copies during which a kernel runs, from a profile of a real run."""
    if not setting.on_cuda:
        return Row(name, "skipped", {}, "needs a CUDA device")
    flags = _flags(setting, root, size, crop, batch)
    sections: dict[str, dict[str, Any]] = {"data": {}, "network": {}, "trainer": {}}
    for key, value in flags.items():
        section, _, argument = key.partition(".")
        plain = {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value
        sections[section][argument] = str(plain) if isinstance(plain, Path) else plain
    sections["trainer"] |= {"max_steps": 20, "val_every": 20, "name": "profiled"}
    recipe = imageseg.Recipe("ToyScenesModule", "DeepLabv3_plus", task={}, **sections)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        imageseg.train(recipe)
    trace = root / "trace.json"
    profile.export_chrome_trace(str(trace))
    spans: dict[str, list[tuple[float, float]]] = {"copies": [], "kernels": []}
    for event in json.loads(trace.read_text("utf-8"))["traceEvents"]:
        if event.get("cat") == "kernel":
            spans["kernels"].append((event["ts"], event["ts"] + event["dur"]))
        elif event.get("cat") == "gpu_memcpy" and "HtoD" in event["name"] and event["args"].get("bytes", 0) > 2**20:
            spans["copies"].append((event["ts"], event["ts"] + event["dur"]))
    copies = sum(end - start for start, end in spans["copies"])
    shared = overlap(spans["copies"], spans["kernels"])
    values = {
        "copies": len(spans["copies"]),
        "copy_ms": copies / 1000,
        "overlapped_share": shared / copies if copies else None,
    }
    return Row(name, "measured", values, "copies of more than 1 MiB")


def overlap(spans: list[tuple[float, float]], others: list[tuple[float, float]]) -> float:
    """The total length of the spans during which any of the others runs."""
    merged: list[list[float]] = []
    for start, end in sorted(others):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return sum(max(0.0, min(end, last) - max(start, first)) for start, end in spans for first, last in merged)
