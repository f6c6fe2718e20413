"""Compare the confusion matrix at Cityscapes' size with torchmetrics, and logits to classes with interpolate + argmax.

``python benchmarks/confusion_matrix.py`` prints the median of several runs of both sides in turn; ``--json`` prints a list of
{name, ours, theirs, ratio, unit}. It stops if counts or classes differ.
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
    small = (classes.to(torch.uint8), mask.to(torch.uint8))  # dtypes of our networks and loaders
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
    for layout in ("contiguous_format", "channels_last"):
        for stride in (4, 8):
            ours, theirs = bands(stride, layout), whole(stride, layout)
            if not torch.equal(ours(), theirs().to(torch.uint8)):
                raise SystemExit("the classes differ")
            rows.append(Row(f"logits at 1/{stride} to classes, {layout}", *in_turn(ours, theirs, repeats), "ms"))
            memory = [growth_in_megabytes(way, stride, layout) for way in (bands, whole)]
            rows.append(Row("the same, memory", *memory, "MB"))
    return rows


def bands(stride: int, layout: str) -> Callable[[], torch.Tensor]:
    logits = logits_at(stride, layout)
    return lambda: classes_at(logits, (HEIGHT, WIDTH))


def whole(stride: int, layout: str) -> Callable[[], torch.Tensor]:
    logits = logits_at(stride, layout)
    return lambda: F.interpolate(logits, size=(HEIGHT, WIDTH), mode="bilinear", align_corners=False).argmax(1)


def logits_at(stride: int, layout: str) -> torch.Tensor:
    logits = torch.randn(1, CLASSES, HEIGHT // stride, WIDTH // stride, generator=torch.Generator().manual_seed(stride))
    return logits.contiguous(memory_format=getattr(torch, layout))


if __name__ == "__main__":
    main()
