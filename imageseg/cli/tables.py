"""Scores on the terminal."""

from __future__ import annotations

import math

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from imageseg.labels import LabelSpace
from imageseg.scoring.scores import Scores


def print_scores(scores: Scores, labels: LabelSpace, title: str) -> None:
    """The IoU of every class with a bar in its colour, and the figures over all of them, to standard output."""
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    table.add_column("IoU", justify="right")
    table.add_column("")
    for label, iou in zip(labels.labels, scores.iou, strict=True):
        bar = (
            f"[rgb({','.join(map(str, label.color))})]{'█' * round(30 * iou)}[/]"
            if not math.isnan(iou)
            else "[dim]not there[/]"
        )
        table.add_row(escape(label.name), _figure(float(iou)), bar)
    console = Console(highlight=False)
    console.print(f"[bold]{escape(title)}[/]")
    console.print(table)
    for name, value in (
        ("mIoU", scores.miou),
        ("pixel accuracy", scores.pixel_accuracy),
        ("class accuracy", scores.class_accuracy),
        ("frequency-weighted IoU", scores.fw_iou),
    ):
        console.print(f"{name:<24}{_figure(value)}")
    console.print(f"{'pictures':<24}{scores.images}")


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
