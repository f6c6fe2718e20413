"""The parts of `benchmarks/accelerator.py`, most important first: one module each, whose `run(setting)` yields rows."""

from __future__ import annotations

from typing import NamedTuple


class Part(NamedTuple):
    """A part, as the driver needs to know it before it imports anything of it."""

    title: str
    seconds: int
    """Time budget in a run of eight minutes over all parts."""
    needs: tuple[str, ...] = ()
    """Modules besides the dependencies of imageseg."""


PARTS = {
    "tests": Part("tests marked `accelerator`", 60, ("pytest", "hypothesis")),
    "networks": Part("20 steps of every network in three precisions; CUDA logits against CPU logits", 90),
    "steps": Part("training step against plain torchvision, SMP and timm loops: time and memory", 120),
    "losses": Part("losses on coarse logits against their plain forms: time and memory", 30),
    "loading": Part("input: images/s by number of workers, share of waiting, overlap of copies", 70),
    "inference": Part("predict_classes of every network at 1024 x 2048 against its twin", 50),
    "resume": Part("20 steps, killed and resumed: are the weights bit-identical?", 45),
    "camvid": Part("CamVid to a validation mIoU of 0.70 (needs --data; takes the minutes that remain)", 10),
}
