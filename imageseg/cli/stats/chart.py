"""The classes of a dataset as a chart: share of pixels, share of images, and class weights."""

from __future__ import annotations

import importlib.util
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imageseg.atomic_files import replacing
from imageseg.errors import InputError

if TYPE_CHECKING:
    from imageseg.cli.stats.statistics import Statistics
    from imageseg.labels import LabelSpace

_INK, _GRID, _GRAY = "#222222", "#e4e4e4", "#9aa3ad"
_MARKS = {
    "median_frequency": ("median frequency", "o", "#0b6e99"),
    "enet": ("ENet", "D", "#c2571a"),
    "effective_number": ("effective number", "s", "#5b8c3a"),
}


def require_matplotlib(target: str) -> None:
    """Check that a chart can be written to the target.

    Raises:
        InputError: The target is not a PNG file, or matplotlib is not installed.
    """
    if Path(target).suffix.lower() != ".png":
        raise InputError(f"{target}: charts are written as PNG only; pass a name such as chart.png")
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError("--chart requires matplotlib; run: pip install 'matplotlib>=3.9'")


def write_chart(path: Path, statistics: Statistics, labels: LabelSpace) -> None:
    """Write a PNG of three panels (pixels, images, weights) with one row per class."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = statistics.counts
    assert counts is not None
    rows = list(range(len(labels)))
    height = 1.35 + 0.27 * len(rows)  # inches
    figure = Figure(figsize=(11, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    pixels, images, weights = figure.subplots(1, 3, sharey=True, gridspec_kw={"width_ratios": [4, 3, 4]})
    shares = [float(count) / max(counts.valid, 1) for count in counts.pixels]
    _draw_pixels(pixels, rows, shares, labels)
    _draw_images(images, rows, [float(count) / counts.masks for count in counts.images])
    _draw_weights(weights, rows, statistics.weights)
    pixels.set_yticks(rows, [_plain(label.name) for label in labels.labels])
    pixels.set_ylim(len(rows) - 0.4, -0.6)  # first class at the top
    figure.suptitle(
        f"{_plain(statistics.name)} {_plain(statistics.split or '')}: {counts.masks} masks, "
        f"{counts.valid:,} valid pixels",
        x=0.01,
        ha="left",
        color=_INK,
        fontsize=13,
        fontweight="bold",
    )
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a class name with characters that the font lacks
        figure.savefig(temporary, dpi=144, format="png")


def _draw_pixels(axes: Any, rows: list[int], shares: list[float], labels: LabelSpace) -> None:
    _style(axes, "share of valid pixels (log scale)")
    smallest = min((share for share in shares if share > 0), default=1.0)
    start = 10 ** math.floor(math.log10(smallest / 1.5))
    colors = [tuple(channel / 255 for channel in label.color) for label in labels.labels]
    widths = [max(share - start, 0) for share in shares]
    axes.barh(rows, widths, left=start, height=0.72, color=colors, edgecolor=_INK, linewidth=0.4)
    axes.set_xscale("log")
    axes.set_xlim(start, 5)  # space for the numbers next to the bars
    ticks = [10.0**power for power in range(round(math.log10(start)), 1)]
    axes.set_xticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
    axes.minorticks_off()
    for row, share in zip(rows, shares, strict=True):
        text = f"{100 * share:.3g} %" if share > 0 else "none"
        axes.text(max(share, start) * 1.12, row, text, va="center", fontsize=8, color=_INK)


def _draw_images(axes: Any, rows: list[int], shares: list[float]) -> None:
    _style(axes, "share of images that contain the class")
    axes.barh(rows, shares, height=0.72, color=_GRAY)
    axes.set_xlim(0, 1.22)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    for row, share in zip(rows, shares, strict=True):
        axes.text(share + 0.015, row, f"{100 * share:.3g} %", va="center", fontsize=8, color=_INK)


def _draw_weights(axes: Any, rows: list[int], weights: dict[str, list[float]]) -> None:
    from matplotlib.ticker import LogLocator

    _style(axes, "class weight (log scale)")
    axes.axvline(1, color=_GRAY, linewidth=1)
    for rule, values in weights.items():
        name, marker, color = _MARKS[rule]
        known = [(value, row) for value, row in zip(values, rows, strict=True) if not math.isnan(value)]
        across, down = zip(*known, strict=True) if known else ((), ())
        axes.plot(across, down, marker, color=color, markersize=5, label=name)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, fontsize=8, handletextpad=0.1)


def _style(axes: Any, title: str) -> None:
    axes.set_xlabel(title, fontsize=9, color=_INK)
    axes.tick_params(length=0, labelsize=8.5, colors=_INK)
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)


def _plain(text: str) -> str:
    """Return text with dollar signs escaped, which matplotlib would typeset as a formula."""
    return text.replace("$", r"\$")
