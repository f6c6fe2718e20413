"""Train every network on ToyScenes and compare its test mIoU with a minimum.

``python benchmarks/toyscenes_networks.py`` trains all networks, or those named as arguments, from random weights for 400 steps
each (DeConvNet: 700), with the command of the README. The exit code is 1 if a network stays below its minimum. The encoders are
small, so that the complete benchmark takes one hour on two CPU cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
# The settings of configs/toyscenes_deeplabv3_plus.yaml, except those of the network.
SETTINGS = (
    "--data.crop_size [128,192] --data.scale [0.8,1.25] --data.color_jitter 0.2 --data.batch_size 8 --task.optimizer adamw "
    "--task.weight_decay 0.01 --task.warmup_steps 20 --task.class_weights [1,1,1,1.5,1,1,4,4] --trainer.val_every 100"
)

# For networks that compute many channels at full image size.
LIGHT = "--data.crop_size [96,128] --data.batch_size 4 --trainer.precision bf16-mixed"


class Trained(NamedTuple):
    """Training settings of a network, and the test mIoU that it must reach."""

    flags: str
    floor: float
    lr: float = 3e-3
    """Peak learning rate; smaller for transformers."""
    steps: int = 400


NETWORKS = {
    "FCN": Trained(f"--network.encoder vgg11_bn --network.channels 256 {LIGHT}", 0.4),
    "DeConvNet": Trained(f"--network.encoder vgg11_bn --network.bottleneck lite {LIGHT}", 0.4, steps=700),
    "UNet": Trained("--network.encoder resnet10t", 0.5),
    "UNetClassic": Trained(f"--network.channels [16,32,64,128,256] {LIGHT}", 0.4),
    "SegNet": Trained(f"--network.encoder vgg11_bn {LIGHT}", 0.4),
    "FPN": Trained("--network.encoder resnet10t", 0.5),
    "PSPNet": Trained("--network.encoder resnet10t --network.channels 128", 0.4),
    "DeepLabV3": Trained(f"--network.encoder resnet10t --network.output_stride 8 --network.channels 64 {LIGHT}", 0.4),
    "DeepLabv3_plus": Trained("--network.encoder resnet10t --network.channels 64", 0.5),
    "UPerNet": Trained("--network.encoder resnet10t --network.channels 64", 0.5),
    "LRASPP": Trained("--network.encoder mobilenetv3_small_100", 0.4),
    "SegFormer": Trained("--network.encoder pvt_v2_b0", 0.4, lr=1e-3),
    "EfficientViT": Trained("--network.encoder efficientvit_b0", 0.4),
    "ViTLinear": Trained("--network.encoder vit_tiny_patch16_224 --network.frozen false", 0.2, lr=1e-3),
    "EoMT": Trained(
        "--network.encoder vit_tiny_patch16_224 --network.num_queries 24 --network.num_blocks 3", 0.2, lr=1e-3
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="networks to train (default: all)")
    parser.add_argument("--steps", type=int, help="number of training steps (default: that of each network)")
    parser.add_argument(
        "--root",
        default="data/ToyScenes",
        help="folder of ToyScenes, created if it does not exist (default: data/ToyScenes)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    given = parser.parse_args()
    if unknown := set(given.names) - set(NETWORKS):
        parser.error(f"no network is called {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    below = False
    found = []
    for name in given.names or NETWORKS:
        trained = NETWORKS[name]
        miou, minutes = train(name, trained, given.steps or trained.steps, given.root)
        below |= miou < trained.floor
        found.append({"name": name, "flags": trained.flags, "miou": miou, "floor": trained.floor, "minutes": minutes})
        if not given.json:
            print(
                f"{name:<16}{miou:>7.3f}  minimum {trained.floor:.2f}  {minutes:>5.1f} min  {trained.flags}", flush=True
            )
    if given.json:
        print(json.dumps(found))
    sys.exit(int(below))


def train(name: str, trained: Trained, steps: int, root: str) -> tuple[float, float]:
    """Train a network and return the test mIoU of its best checkpoint and the minutes it took."""
    takes_weights = [] if name == "UNetClassic" else ["--network.pretrained", "false"]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "run.py", "--use", "ToyScenesModule", "--model", name, *SETTINGS.split()]
        command += ["--data.root", str(Path(root).resolve()), "--task.lr", str(trained.lr), *trained.flags.split()]
        command += [
            "--trainer.max_steps",
            str(steps),
            "--trainer.output",
            folder,
            "--trainer.name",
            "run",
            *takes_weights,
        ]
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        scores = json.loads((Path(folder) / "run" / "scores.json").read_text())
    return scores["miou"], (time.perf_counter() - start) / 60


if __name__ == "__main__":
    main()
