"""The statistics of a dataset as tables on the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from imageseg.cli.stats.statistics import RULES, Statistics
from imageseg.errors import counted
from imageseg.labels import LabelSpace

_BAR_WIDTH = 20  # characters
_HEADINGS = {"median_frequency": "median freq.", "enet": "ENet", "effective_number": "eff. number"}


def print_statistics(statistics: Statistics, labels: LabelSpace, *, rule: str) -> None:
    """Print the splits, the classes, and the class weights as a flag of ``imageseg train``."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=100)
    console.print(f"[bold]{escape(statistics.name)}[/] in {escape(str(statistics.root))}", soft_wrap=True)
    console.print(_splits(statistics))
    counts = statistics.counts
    if counts is None:
        return
    total = counts.valid + counts.ignored
    ignored = counts.ignored / total if total else 0.0
    console.print(
        f"\n[bold]{escape(statistics.split or '')}[/]: {counted(counts.masks, 'mask', 'masks')}, "
        f"{_large(counts.valid)} valid pixels, {_percent(ignored)} of all pixels ignored"
    )
    console.print(_classes(statistics, labels))
    absent = [label.name for label, pixels in zip(labels.labels, counts.pixels, strict=True) if not pixels]
    if absent:
        console.print(
            f"[dim]No pixel is {escape(', '.join(absent[:5]))}{f' or {len(absent) - 5} more' if len(absent) > 5 else ''}: "
            "its weight below is 1.[/]"
        )
    console.print(f"\n[dim]class weights for imageseg train, rule {rule} (choose another with --weights):[/]")
    # Not through rich, which would break the line.
    print(f"--task.class_weights '{_as_flag_value(statistics.weights[rule])}'")


def _as_flag_value(weights: Sequence[float]) -> str:
    """Return weights as ``--task.class_weights`` accepts them. A class that does not occur gets 1, which is never used."""
    return f"[{','.join(f'{1.0 if math.isnan(weight) else weight:.4g}' for weight in weights)}]"


def _splits(statistics: Statistics) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading, side in (("split", "left"), ("images", "right"), ("objects", "right"), ("", "left")):
        table.add_column(heading, justify="right" if side == "right" else "left")
    for split, listing in statistics.listings.items():
        objects = statistics.objects[split]
        notes = []
        if objects is not None and objects.images < len(listing.pairs):
            notes.append(f"objects of {objects.images} images")
        if listing.pairs and not any(pair.mask for pair in listing.pairs):
            notes.append("no masks")
        if listing.by_choice:
            notes.append(f"left out: {listing.by_choice}")
        left_out = len(listing.without_mask) + len(listing.without_image)
        if left_out:
            notes.append(f"{left_out} left out: no image or no mask")
        count = "-" if objects is None else str(objects.count)
        table.add_row(escape(split), str(len(listing.pairs)), count, f"[dim]{', '.join(notes)}[/]")
    return table


def _classes(statistics: Statistics, labels: LabelSpace) -> Table:
    counts = statistics.counts
    assert counts is not None
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    table.add_column("pixels", justify="right")
    table.add_column("")
    table.add_column("images", justify="right")
    for rule in RULES:
        table.add_column(_HEADINGS[rule], justify="right")
    shares = counts.pixels / max(counts.valid, 1)
    largest = max(float(shares.max()), np.finfo(float).tiny)
    for index, label in enumerate(labels.labels):
        bar = "█" * round(_BAR_WIDTH * shares[index] / largest) or ("▏" if shares[index] else "")
        table.add_row(
            escape(label.name),
            _percent(float(shares[index])),
            f"[rgb({','.join(map(str, label.color))})]{bar}[/]",
            _percent(counts.images[index] / counts.masks),
            *(_weight(statistics.weights[rule][index]) for rule in RULES),
        )
    return table


def _percent(share: float) -> str:
    """Return a share in percent, with at least two significant digits below 10 %, so that no rare class shows as 0."""
    if share <= 0:
        return "0 %"
    digits = min(max(1 - math.floor(math.log10(100 * share)), 0), 4) if share < 0.1 else 1
    return f"{100 * share:.{digits}f} %"


def _weight(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _large(count: int) -> str:
    for size, word in ((10**9, "billion"), (10**6, "million")):
        if count >= size:
            return f"{count / size:.1f} {word}"
    return str(count)
