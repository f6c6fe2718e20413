"""Report of `imageseg score`: scores, their uncertainty, all metric protocols, and a comparison of two predictions."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from imageseg.cli.score_table import print_calibration, print_scores, shown
from imageseg.labels import LabelSpace
from imageseg.scoring.dialects import DIALECTS, miou_over
from imageseg.scoring.explain import explain
from imageseg.scoring.folders.score_files import ScoredFiles
from imageseg.scoring.scores import json_number
from imageseg.scoring.significance import bootstrap_miou, paired_test

_COMPARED = ("miou", "pixel_accuracy", "class_accuracy")


class ScoreReport:
    """Scores of one set of predictions, for the terminal and as JSON.

    Args:
        scored: Counts of the predictions.
        labels: Label space of the classes.
        dialect: Metric protocol of the main scores.
        against: Counts of other predictions of the same images.
        explained: Whether to add the scores of every protocol and why they differ.
    """

    def __init__(
        self,
        scored: ScoredFiles,
        labels: LabelSpace,
        dialect: str,
        *,
        against: ScoredFiles | None = None,
        explained: bool = False,
    ) -> None:
        self._labels = labels
        self._dialect = dialect
        self._scored = scored
        counts = scored.confusion.counts()
        self._scores = DIALECTS[dialect].score(counts)
        # The mean over images is not an mIoU over a set, so it cannot be resampled.
        rule = partial(miou_over, DIALECTS[dialect].mean_over)
        resampled = dialect != "per_image"
        self._interval = bootstrap_miou(scored.per_image, mean_over=rule) if resampled else None
        self._comparison = (
            paired_test(against.per_image, scored.per_image, mean_over=rule)
            if against is not None and resampled
            else None
        )
        self._by_dialect = {name: entry.score(counts) for name, entry in DIALECTS.items()} if explained else {}
        self._reasons = explain(counts, labels.names) if explained else []

    def to_dict(self) -> dict[str, Any]:
        """Return one object for JSON."""
        names = self._labels.names
        report = {"version": 1, **self._scores.to_dict(names)}
        if self._interval is not None:
            report["interval"] = self._interval.to_dict()
        if self._scored.boundary is not None:
            report |= self._scored.boundary.to_dict(names)
        if self._scored.calibration is not None:
            report["calibration"] = self._scored.calibration.scores().to_dict(names)
        if self._comparison is not None:
            report["against"] = self._comparison.to_dict()
        if self._by_dialect:
            report["dialects"] = {
                name: {metric: json_number(getattr(scores, metric)) for metric in _COMPARED}
                | {"rule": DIALECTS[name].rule, "source": DIALECTS[name].source}
                for name, scores in self._by_dialect.items()
            }
            report["reasons"] = self._reasons
        return report

    def show(self, predictions: str, against: str | None = None) -> None:
        """Print the report to standard output."""
        console = Console(highlight=False)
        print_scores(self._scores, self._labels, f"{predictions} (metric protocol: {self._dialect})")
        if self._interval is not None and not math.isnan(self._interval.low):
            low, high, share = self._interval.low, self._interval.high, self._interval.confidence
            console.print(f"{f'{share:.0%} interval of mIoU':<24}{low:.3f} to {high:.3f} (bootstrap over images)")
        self._show_boundary(console)
        if self._scored.calibration is not None:
            print_calibration(self._scored.calibration.scores())
        if self._comparison is not None:
            self._show_comparison(console, predictions, str(against))
        if self._by_dialect:
            self._show_dialects(console)

    def _show_boundary(self, console: Console) -> None:
        boundary = self._scored.boundary
        if boundary is None:
            return
        trimap = boundary.trimap.scores()
        console.print("\n[bold]Boundaries[/]")
        console.print(f"{'boundary mIoU':<24}{shown(boundary.iou.scores().miou)}")
        console.print(f"{'boundary F':<24}{shown(boundary.f.scores().mean_f)}")
        for radius, miou in zip(trimap.radii, trimap.miou, strict=True):
            console.print(f"{f'mIoU within {radius} px':<24}{shown(miou)}")

    def _show_comparison(self, console: Console, predictions: str, against: str) -> None:
        test = self._comparison
        assert test is not None
        gap = test.difference
        console.print(f"\n[bold]{escape(predictions)} against {escape(against)}[/]")
        console.print(f"{'mIoU':<24}{shown(test.miou_b)} against {shown(test.miou_a)}")
        console.print(
            f"{'difference (1st - 2nd)':<24}{gap.estimate:+.3f} ({gap.low:+.3f} to {gap.high:+.3f}, {gap.confidence:.0%})"
        )
        ways = "all swaps" if test.exact else f"{test.permutations:,} random swaps"
        console.print(f"{'p':<24}{test.p_value:.4f} (paired permutation, {ways})")

    def _show_dialects(self, console: Console) -> None:
        table = Table(box=None, pad_edge=False)
        for name in ("protocol", "mIoU", "pixel acc.", "class acc."):
            table.add_column(name, justify="left" if name == "protocol" else "right")
        table.add_column("rule")
        for name, scores in self._by_dialect.items():
            values = [shown(getattr(scores, metric)) for metric in _COMPARED]
            table.add_row(name, *values, f"[dim]{escape(DIALECTS[name].rule)}[/]")
        console.print("\n[bold]The same predictions under every metric protocol[/]")
        console.print(table)
        console.print("\n[bold]Why they differ[/]" if self._reasons else "\nAll protocols agree on these predictions.")
        for reason in self._reasons:
            table = Table.grid(padding=(0, 1))
            table.add_row("-", escape(reason))
            console.print(table)
