"""Scores on the terminal."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from imageseg.labels import LabelSpace
from imageseg.scoring.scores import Scores


def print_scores(scores: Scores, labels: LabelSpace, title: str) -> None:
    """The IoU of every class with a bar in its colour, and the figures over all of them, to standard output."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("class")
    table.add_column("IoU", justify="right")
    table.add_column("")
    for label, iou in zip(labels.labels, scores.iou, strict=True):
        bar = (
            f"[rgb({','.join(map(str, label.color))})]{'█' * round(30 * iou)}[/]"
            if not math.isnan(iou)
            else "[dim]not there[/]"
        )
        table.add_row(label.name, _figure(float(iou)), bar)
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"mIoU {_figure(scores.miou)}   pixel accuracy {_figure(scores.pixel_accuracy)}   "
        f"class accuracy {_figure(scores.class_accuracy)}   frequency-weighted IoU {_figure(scores.fw_iou)}   "
        f"({scores.images} pictures)"
    )


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
