"""Tables of scores for the terminal."""

from __future__ import annotations

import math

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from imageseg.labels import LabelSpace
from imageseg.scoring.calibration import CalibrationScores
from imageseg.scoring.scores import Scores


def print_scores(scores: Scores, labels: LabelSpace, title: str) -> None:
    """Print the scores of every class, with a bar of its IoU in its color, and the averages to standard output."""
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    for name in ("IoU", "precision", "recall"):
        table.add_column(name, justify="right")
    table.add_column("")
    for label, *values in zip(labels.labels, scores.iou, scores.precision, scores.recall, strict=True):
        bar = (
            f"[rgb({','.join(map(str, label.color))})]{'█' * round(30 * values[0])}[/]"
            if not math.isnan(values[0])
            else "[dim]absent[/]"
        )
        table.add_row(escape(label.name), *map(shown, values), bar)
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
    console.print(f"{'images':<24}{scores.images}")


def print_calibration(scores: CalibrationScores) -> None:
    """Print calibration errors and the reliability table to standard output."""
    console = Console(highlight=False)
    console.print("\n[bold]Calibration[/]")
    for name, value in (
        ("ECE", scores.ece),
        ("adaptive ECE", scores.adaptive_ece),
        ("maximum gap of a bin", scores.mce),
        ("classwise ECE", scores.classwise_ece),
        ("Brier score", scores.brier),
        ("negative log-likelihood", scores.nll),
    ):
        if not math.isnan(value):
            console.print(f"{name:<24}{shown(value)}")
    console.print(f"{'mean confidence':<24}{shown(scores.confidence)} at an accuracy of {shown(scores.accuracy)}")
    table = Table(box=None, pad_edge=False)
    for name in ("confidence", "mean", "accuracy", "pixels"):
        table.add_column(name, justify="right")
    for row in scores.reliability.to_rows():
        if row["count"]:
            low, high = row["low"], row["high"]
            table.add_row(
                f"{low:.2f} to {high:.2f}", shown(row["confidence"]), shown(row["accuracy"]), f"{row['count']:,}"
            )
    console.print(table)


_EXTRA_NAMES = {
    "category_miou": "category mIoU",
    "iiou": "iIoU",
    "category_iiou": "category iIoU",
    "score": "mean of mIoU and acc.",
}


def shown(value: float) -> str:
    """Format a score with three digits, or a dash if it is undefined."""
    return "-" if math.isnan(value) else f"{value:.3f}"
