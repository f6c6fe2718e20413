"""Train a recipe on CamVid with several seeds, and optionally with single settings changed (an ablation).

``python benchmarks/camvid_accuracy.py configs/camvid_deeplabv3_plus.yaml --root data/CamVid`` trains the recipe with three seeds
and prints the mIoU on val with mean and standard deviation, and the mean IoU of each class. ``--changes --steps 900`` trains
shorter runs of the unchanged recipe and of the recipe with one setting changed at a time. Changes that the recipe already
contains are omitted, and a larger batch or crop trains for fewer steps, so that all rows process the same number of pixels.
``--jobs`` runs share the CPU cores. Finished runs are not repeated; interrupted runs are resumed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from imageseg.cli.arguments import recipe_from
from imageseg.errors import InputError
from imageseg.recipe import Recipe
from imageseg.training.resolve import resolve

HEAVY = [0.6, 0.6, 3.0, 0.5, 1.2, 0.7, 3.0, 2.0, 1.0, 3.0, 3.5]
MILD = [0.8, 0.8, 1.7, 0.7, 1.1, 0.8, 1.7, 1.4, 1.0, 1.7, 1.9]
CHANGES: dict[str, dict[str, Any]] = {
    "lr 0.001": {"task.lr": 0.001},
    "lr 0.002": {"task.lr": 0.002},
    "lr 0.004": {"task.lr": 0.004},
    "no class weights": {"task.class_weights": None},
    "mild class weights": {"task.class_weights": MILD},
    "heavy class weights": {"task.class_weights": HEAVY},
    "cross-entropy + Lovasz": {"task.loss": "cross_entropy_lovasz"},
    "cross-entropy + Dice": {"task.loss": "cross_entropy_dice"},
    "balance none": {"data.balance": "none"},
    "balance rcs": {"data.balance": "rcs"},
    "augment street": {"data.augment": "street"},
    "scale 0.5 to 2": {"data.scale": [0.5, 2.0]},
    "crop 320": {"data.crop_size": [320, 320]},
    "batch 8": {"data.batch_size": 8},
    "class_mix 0.5": {"data.class_mix": 0.5},
    "schedule cosine": {"task.schedule": "cosine"},
}


class Run(NamedTuple):
    """One training run: the recipe with these settings changed."""

    row: str
    seed: int
    settings: dict[str, Any]


class Result(NamedTuple):
    """Result of a run: mIoU, IoU of each class, and wall time of the complete command."""

    miou: float
    iou: dict[str, float]
    minutes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="recipe (YAML) to train")
    parser.add_argument(
        "--root",
        type=Path,
        default=os.environ.get("IMAGESEG_SAMPLES", "../shared/data") + "/camvid",
        help="folder of CamVid",
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="random seeds, one run each (default: 0 1 2)"
    )
    parser.add_argument("--steps", type=int, help="number of optimizer steps (default: that of the recipe)")
    parser.add_argument(
        "--changes", nargs="*", choices=CHANGES, help="settings to change, one at a time (without names: all)"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="number of parallel runs (default: one per CPU core)"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/camvid_accuracy"), help="folder for the runs")
    given = parser.parse_args()
    if not given.recipe.is_file():
        parser.error(f"{given.recipe} is not a file; pass a recipe such as configs/camvid_deeplabv3_plus.yaml")
    if not given.root.is_dir():
        parser.error(f"{given.root} is not a folder; pass the folder of CamVid as --root")
    try:
        recipe = resolve(recipe_from(["--config", str(given.recipe)], program=parser.prog)).recipe
    except InputError as error:
        parser.error(str(error))
    named = [] if given.changes is None else given.changes or list(CHANGES)
    changes = {name: CHANGES[name] for name in named if not holds(recipe, CHANGES[name])}
    rows: dict[str, dict[str, Any]] = {"as it is": {}, **changes}
    runs = [
        Run(row, seed, {**settings, **length(recipe, settings, given.steps)})
        for seed in given.seeds
        for row, settings in rows.items()
    ]
    with ThreadPoolExecutor(given.jobs) as pool:
        train = partial(trained, recipe=given.recipe, root=given.root, output=given.output, jobs=given.jobs)
        results = list(pool.map(train, runs))
    for row in rows:
        print_row(row, [result for run, result in zip(runs, results, strict=True) if run.row == row])


def holds(recipe: Recipe, settings: dict[str, Any]) -> bool:
    """Whether the recipe already contains these settings."""
    split = {flag: flag.split(".") for flag in settings}
    return all(getattr(recipe, section)[name] == settings[flag] for flag, (section, name) in split.items())


def length(recipe: Recipe, settings: dict[str, Any], steps: int | None) -> dict[str, int]:
    """Return the number of steps that process as many pixels as the recipe, or as ``steps`` steps of the recipe."""
    batch = settings.get("data.batch_size", recipe.data["batch_size"])
    crop = settings.get("data.crop_size", recipe.data["crop_size"])
    share = recipe.data["batch_size"] * math.prod(recipe.data["crop_size"]) / (batch * math.prod(crop))
    if steps is None and share == 1:
        return {}
    counts = {name: steps or recipe.trainer[name] for name in ("max_steps", "val_every")}
    return {f"trainer.{name}": max(1, round(count * share)) for name, count in counts.items() if count}


def trained(run: Run, *, recipe: Path, root: Path, output: Path, jobs: int) -> Result:
    """Run ``imageseg train`` in a process of its own, unless this run is already finished."""
    steps = f"-{run.settings['trainer.max_steps']}-steps" if "trainer.max_steps" in run.settings else ""
    name = f"{recipe.stem}{steps}-{run.row.replace(' ', '_')}-{run.seed}"
    folder, clock = output / name, output / f"{name}.seconds"
    if not (folder / "scores.json").exists():
        last = folder / "checkpoints" / "last.ckpt"
        flags: dict[str, Any] = {
            "config": recipe,
            "data.root": root,
            "data.num_workers": 0,
            "data.pack_folder": output / "packed",
            "trainer.output": output,
            "trainer.seed": run.seed,
            **({"trainer.resume": last} if last.exists() else {"trainer.name": name}),
            **run.settings,
        }
        words = [word for flag, value in flags.items() for word in (f"--{flag}", flag_text(value))]
        threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}
        output.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        try:
            with (output / f"{name}.log").open("a") as log:
                command = [sys.executable, "-m", "imageseg", "train", *words]
                subprocess.run(command, env={**os.environ, **threads}, stdout=log, stderr=log, check=True)
        finally:
            with clock.open("a") as file:
                file.write(f"{time.perf_counter() - start:.0f}\n")
    scores = json.loads((folder / "scores.json").read_text())
    return Result(scores["miou"], scores["iou"], sum(map(float, clock.read_text().split())) / 60)


def flag_text(value: Any) -> str:
    return str(value) if isinstance(value, (Path, str)) else json.dumps(value)


def print_row(name: str, results: list[Result]) -> None:
    """Print mean, sample standard deviation and each run's mIoU, then the mean IoU of each class."""
    mious = [result.miou for result in results]
    spread = f" +- {statistics.stdev(mious):.4f}" if len(mious) > 1 else ""
    each = ", ".join(f"{miou:.4f}" for miou in mious)
    minutes = statistics.mean(result.minutes for result in results)
    print(f"{name:<24} mIoU {statistics.mean(mious):.4f}{spread} ({each}), {minutes:.1f} min")
    classes = results[0].iou
    print("  " + ", ".join(f"{key} {statistics.mean(result.iou[key] for result in results):.3f}" for key in classes))


if __name__ == "__main__":
    main()
