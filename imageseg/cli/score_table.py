"""Scores on the terminal."""

from __future__ import annotations

import math

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from imageseg.labels import LabelSpace
from imageseg.scoring.scores import Scores


def print_scores(scores: Scores, labels: LabelSpace, title: str) -> None:
    """The figures of every class with a bar of its IoU in its colour, and those over all of them, to standard output."""
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    for name in ("IoU", "precision", "recall"):
        table.add_column(name, justify="right")
    table.add_column("")
    for label, *figures in zip(labels.labels, scores.iou, scores.precision, scores.recall, strict=True):
        bar = (
            f"[rgb({','.join(map(str, label.color))})]{'█' * round(30 * figures[0])}[/]"
            if not math.isnan(figures[0])
            else "[dim]not there[/]"
        )
        table.add_row(escape(label.name), *map(shown, figures), bar)
    console = Console(highlight=False)
    console.print(f"[bold]{escape(title)}[/]")
    console.print(table)
    for name, value in (
        ("mIoU", scores.miou),
        ("pixel accuracy", scores.pixel_accuracy),
        ("class accuracy", scores.class_accuracy),
        ("frequency-weighted IoU", scores.fw_iou),
        ("mean Dice", scores.mean_dice),
    ):
        console.print(f"{name:<24}{shown(value)}")
    for name, extra in scores.extra.items():
        if isinstance(extra, float) and not math.isnan(extra):
            console.print(f"{_EXTRA_NAMES.get(name, name):<24}{shown(extra)}")
    console.print(f"{'pictures':<24}{scores.images}")


_EXTRA_NAMES = {
    "category_miou": "category mIoU",
    "iiou": "iIoU",
    "category_iiou": "category iIoU",
    "score": "score (of both)",
}


def shown(value: float) -> str:
    """A figure with three digits; a dash where it is undefined."""
    return "-" if math.isnan(value) else f"{value:.3f}"
