"""Counting a prediction of Cityscapes' size beside torchmetrics, and going from logits to classes beside interpolate + argmax.

``python benchmarks/confusion_matrix.py`` prints the median of several runs of both sides in turn; ``--json`` prints a list of
{name, ours, theirs, ratio, unit}. Both sides hold the same counts and classes, or it stops.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from measuring import Row, growth_in_megabytes, in_turn, report
from torch.nn import functional as F
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from imageseg import ConfusionMatrix
from imageseg.models.base import classes_at

CLASSES, HEIGHT, WIDTH = 19, 1024, 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    report([*counting(given.repeats), *labelling(given.repeats)], as_json=given.json)


def counting(repeats: int) -> list[Row]:
    coarse = torch.randint(0, CLASSES, (1, HEIGHT // 32, WIDTH // 32))
    mask = coarse.repeat_interleave(32, 1).repeat_interleave(32, 2)
    mask[:, :40] = 255
    classes = torch.where(torch.rand(mask.shape) < 0.1, torch.randint(0, CLASSES, mask.shape), mask.clamp(max=18))
    ours = ConfusionMatrix(CLASSES)
    small = (classes.to(torch.uint8), mask.to(torch.uint8))  # as networks and loaders here give them
    rows = []
    for name, metric in (
        ("MulticlassConfusionMatrix", MulticlassConfusionMatrix(CLASSES, ignore_index=255)),
        ("MulticlassJaccardIndex", MulticlassJaccardIndex(CLASSES, ignore_index=255)),
        ("the same, validate_args=False", MulticlassConfusionMatrix(CLASSES, ignore_index=255, validate_args=False)),
    ):
        times = in_turn(lambda: ours.update(*small), lambda metric=metric: metric.update(classes, mask), repeats)
        rows.append(Row(f"count {HEIGHT} x {WIDTH}, torchmetrics {name}", *times, "ms"))
    alone = ConfusionMatrix(CLASSES)
    alone.update(*small)
    theirs = MulticlassConfusionMatrix(CLASSES, ignore_index=255)
    theirs.update(classes, mask)
    if alone.matrix.tolist() != theirs.compute().tolist():
        raise SystemExit("the counts differ")
    return rows


def labelling(repeats: int) -> list[Row]:
    rows = []
    for layout, name in ((torch.contiguous_format, "NCHW"), (torch.channels_last, "channels_last")):
        for stride in (4, 8):
            logits = torch.randn(1, CLASSES, HEIGHT // stride, WIDTH // stride).contiguous(memory_format=layout)
            ours, theirs = both_ways(logits)
            if not torch.equal(ours(), theirs().to(torch.uint8)):
                raise SystemExit("the classes differ")
            rows.append(Row(f"logits at 1/{stride} to classes, {name}", *in_turn(ours, theirs, repeats), "ms"))
            memory = [growth_in_megabytes(way) for way in (ours, theirs)]
            rows.append(Row("the same, memory", memory[0], memory[1], "MB"))
    return rows


def both_ways(logits: torch.Tensor) -> tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor]]:
    size = (HEIGHT, WIDTH)
    return (
        lambda: classes_at(logits, size),
        lambda: F.interpolate(logits, size=size, mode="bilinear", align_corners=False).argmax(1),
    )


if __name__ == "__main__":
    main()
