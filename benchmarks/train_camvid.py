"""Training speed on CamVid: ``imageseg train`` compared with the CamVid example of segmentation_models_pytorch (SMP).

``python benchmarks/train_camvid.py --root data/CamVid`` trains the same network and encoder with both. The reference is the
example as in SMP's notebook: FPN, Dice loss, Adam, cosine schedule, its list of augmentations, Lightning's Trainer in float32,
and one loader worker per CPU core. To finish in minutes, both use a smaller encoder (resnet18) and batch (8 crops of 320 x 320)
than the notebook. Both run alternately in processes of their own; the first quarter of the steps, in which workers start and
kernels are selected, is not timed.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import Row, report

BATCH, SIDE, ENCODER = 8, 320, "resnet18"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root",
        type=Path,
        default=os.environ.get("IMAGESEG_SAMPLES", "../shared/data") + "/camvid",
        help="folder of CamVid",
    )
    parser.add_argument("--steps", type=int, default=20, help="training steps per run (default: 20)")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each side; the median is reported (default: 2)")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    parser.add_argument("--theirs", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.theirs:
        print(train_theirs(given.root, given.steps))
        return
    ours, theirs = [], []
    for _ in range(given.rounds):
        ours.append(1000 / _rate_of_ours(given.root, given.steps))
        theirs.append(1000 / _rate_of_theirs(given.root, given.steps))
    row = Row(f"training on CamVid, FPN {ENCODER}, per image", statistics.median(ours), statistics.median(theirs), "ms")
    report([row], as_json=given.json)


def _rate_of_ours(root: Path, steps: int) -> float:
    """Return the images per second that the last progress line of the command reports."""
    with tempfile.TemporaryDirectory() as output:
        flags: dict[str, Any] = {
            "data.root": root,
            "data.crop_size": [SIDE, SIDE],
            "data.batch_size": BATCH,
            "network.encoder": ENCODER,
            "network.pretrained": "false",
            # The variant of this network in SMP.
            "network.smooth": "false",
            "network.align_corners": "true",
            "task.optimizer": "adamw",
            "task.lr": 0.0002,
            "task.schedule": "cosine",
            "trainer.max_steps": steps,
            "trainer.val_every": steps,
            "trainer.images": 0,
            "trainer.output": output,
        }
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "imageseg", "train", "--use", "CamVid", "--model", "FPN", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(re.findall(r"([\d.]+) images/s", done.stderr)[-1])


def _rate_of_theirs(root: Path, steps: int) -> float:
    command = [sys.executable, __file__, "--theirs", "--root", str(root), "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def train_theirs(root: Path, steps: int) -> float:
    """Train the example for some steps and return its images per second."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations as A
    import cv2
    import numpy as np
    import pytorch_lightning as pl
    import segmentation_models_pytorch as smp
    import torch
    from torch.utils.data import DataLoader, Dataset

    augmentation = A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.Affine(scale=(0.5, 1.5), translate_percent=0.1, rotate=0, shear=0, p=1),
            A.PadIfNeeded(SIDE, SIDE, border_mode=0),
            A.RandomCrop(SIDE, SIDE),
            A.GaussNoise(p=0.2),
            A.Perspective(p=0.5),
            A.OneOf([A.CLAHE(p=1), A.RandomBrightnessContrast(p=1), A.RandomGamma(p=1)], p=0.9),
            A.OneOf([A.Sharpen(p=1), A.Blur(blur_limit=3, p=1), A.MotionBlur(blur_limit=3, p=1)], p=0.9),
            A.OneOf([A.RandomBrightnessContrast(p=1), A.HueSaturationValue(p=1)], p=0.9),
        ]
    )

    class Frames(Dataset[Any]):
        def __init__(self) -> None:
            self.images = sorted((root / "images" / "train").iterdir())
            self.masks = sorted((root / "masks" / "train").iterdir())

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> Any:
            image = cv2.cvtColor(cv2.imread(str(self.images[index])), cv2.COLOR_BGR2RGB)
            mask = cv2.imread(str(self.masks[index]), cv2.IMREAD_GRAYSCALE)
            mask[mask == 11] = 255
            changed = augmentation(image=image, mask=mask)
            return changed["image"].transpose(2, 0, 1).astype(np.float32), changed["mask"].astype(np.int64)

    class Example(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = smp.create_model("FPN", encoder_name=ENCODER, encoder_weights=None, classes=11)
            self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
            self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
            self.loss = smp.losses.DiceLoss(smp.losses.MULTICLASS_MODE, from_logits=True, ignore_index=255)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            image, mask = batch
            loss = self.loss(self.model((image / 255 - self.mean) / self.std), mask)
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.Adam(self.parameters(), lr=2e-4)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps, eta_min=1e-5)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    class Clock(pl.Callback):
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_train_batch_end(self, *_: Any) -> None:
            self.ends.append(time.perf_counter())

    clock = Clock()
    loader: DataLoader[Any] = DataLoader(
        Frames(), batch_size=BATCH, shuffle=True, drop_last=True, num_workers=os.cpu_count() or 1
    )
    trainer = pl.Trainer(
        max_steps=steps, max_epochs=-1, callbacks=[clock], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
    )  # fmt: skip
    trainer.fit(Example(), loader)
    first = len(clock.ends) // 4
    return BATCH * (len(clock.ends) - 1 - first) / (clock.ends[-1] - clock.ends[first])


if __name__ == "__main__":
    main()
