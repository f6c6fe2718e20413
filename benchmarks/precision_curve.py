"""Training in bfloat16 compared with float32: the loss of the first steps on CamVid, with several seeds.

``python benchmarks/precision_curve.py --root data/CamVid`` trains DeepLabv3_plus with a resnet18 encoder from random weights
(AdamW, 4 crops of 256 x 256 per step), and prints mean and standard deviation of the loss over the seeds for each fifth of the
steps.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

SEEDS, PRECISIONS, PARTS = (0, 1, 2), ("32-true", "bf16-mixed"), 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root",
        type=Path,
        default=os.environ.get("IMAGESEG_SAMPLES", "../shared/data") + "/camvid",
        help="folder of CamVid",
    )
    parser.add_argument("--steps", type=int, default=200, help="training steps per run (default: 200)")
    parser.add_argument("--jobs", type=int, default=2, help="number of parallel runs with one thread each (default: 2)")
    given = parser.parse_args()
    runs = [(precision, seed) for seed in SEEDS for precision in PRECISIONS]
    os.environ["OMP_NUM_THREADS"] = "1"
    with multiprocessing.get_context("spawn").Pool(given.jobs, maxtasksperchild=1) as pool:
        losses = pool.map(partial(curve, root=given.root, steps=given.steps), runs, chunksize=1)
    curves = np.array(losses).reshape(len(SEEDS), len(PRECISIONS), PARTS, -1).mean(axis=3)
    print(f"{'steps':<12}" + "".join(f"{precision:>24}" for precision in PRECISIONS) + f"{'difference':>14}")
    for part in range(PARTS):
        of_seeds = curves[:, :, part]
        mean, spread = of_seeds.mean(axis=0), of_seeds.std(axis=0, ddof=1)
        steps = f"{part * given.steps // PARTS + 1}-{(part + 1) * given.steps // PARTS}"
        scores = "".join(f"{m:>15.4f} +- {s:.4f}" for m, s in zip(mean, spread, strict=True))
        print(f"{steps:<12}{scores}{mean[1] - mean[0]:>+14.4f}")


def curve(run: tuple[str, int], *, root: Path, steps: int) -> list[float]:
    """Train once and return the loss of each step."""
    import pytorch_lightning as pl

    from imageseg import build_dataset, build_model
    from imageseg.pipeline.augment import Augmentation
    from imageseg.pipeline.loader import Loading, training_loader
    from imageseg.training.callbacks.events import CountedRandomness
    from imageseg.training.task import SegmentationTask

    class Losses(pl.Callback):
        def __init__(self) -> None:
            self.found: list[float] = []

        def on_train_batch_end(self, _trainer: Any, _module: Any, outputs: Any, *_: Any) -> None:
            self.found.append(float(outputs["loss"]))

    warnings.simplefilter("ignore")
    precision, seed = run
    dataset = build_dataset("CamVid", root)
    pl.seed_everything(seed, verbose=False)
    network = build_model("DeepLabv3_plus", len(dataset.labels), encoder="resnet18", pretrained=False, channels=128)
    task = SegmentationTask(network, dataset.labels, optimizer="adamw", lr=0.001, weight_decay=0.02, warmup_steps=20)
    augmentation = Augmentation(crop_size=(256, 256), scale=(0.75, 1.75))
    loading = Loading(batch_size=4, num_workers=0)
    losses = Losses()
    trainer = pl.Trainer(
        max_steps=steps,
        max_epochs=-1,
        precision=precision,  # type: ignore[arg-type]
        accelerator="cpu",
        callbacks=[losses, CountedRandomness(seed)],
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, training_loader(dataset.samples("train"), augmentation, loading=loading, seed=seed))
    return losses.found


if __name__ == "__main__":
    main()
