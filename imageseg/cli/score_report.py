"""What `imageseg score` says: figures, their spread, all dialects side by side, and a comparison of two predictions."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from imageseg.cli.tables import print_scores, shown
from imageseg.labels import LabelSpace
from imageseg.scoring.dialects import DIALECTS
from imageseg.scoring.explain import explain
from imageseg.scoring.files import ScoredFiles


class ScoreReport:
    """The figures of one set of predictions, for the terminal and as JSON.

    Args:
        scored: what was counted.
        labels: the classes.
        dialect: by whose rules the main figures are.
        against: what was counted of other predictions of the same pictures.
        explained: add the figures by every dialect, and why they differ.
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
        counts = scored.confusion.counts()
        self._scores = DIALECTS[dialect].score(counts)
        self._by_dialect = {name: entry.score(counts) for name, entry in DIALECTS.items()} if explained else {}
        self._reasons = explain(counts, labels.names) if explained else []

    def to_dict(self) -> dict[str, Any]:
        """One object for JSON."""
        report = self._scores.to_dict(self._labels.names)
        if self._by_dialect:
            report["dialects"] = {
                name: {
                    "miou": scores["miou"],
                    "pixel_accuracy": scores["pixel_accuracy"],
                    "class_accuracy": scores["class_accuracy"],
                    "rule": DIALECTS[name].rule,
                    "source": DIALECTS[name].source,
                }
                for name, scores in ((name, s.to_dict(self._labels.names)) for name, s in self._by_dialect.items())
            }
            report["reasons"] = self._reasons
        return report

    def show(self, title: str) -> None:
        """Everything, to standard output."""
        console = Console(highlight=False)
        print_scores(self._scores, self._labels, f"{title} by the rules of {self._dialect}")
        if self._by_dialect:
            self._show_dialects(console)

    def _show_dialects(self, console: Console) -> None:
        table = Table(box=None, pad_edge=False)
        for name in ("dialect", "mIoU", "pixel acc.", "class acc."):
            table.add_column(name, justify="left" if name == "dialect" else "right")
        table.add_column("rule")
        for name, scores in self._by_dialect.items():
            figures = map(shown, (scores.miou, scores.pixel_accuracy, scores.class_accuracy))
            table.add_row(name, *figures, f"[dim]{escape(DIALECTS[name].rule)}[/]")
        console.print("\n[bold]The same predictions by every dialect[/]")
        console.print(table)
        console.print("\n[bold]Why they differ[/]" if self._reasons else "\nNothing here makes them differ.")
        for reason in self._reasons:
            console.print(Padding(f"- {escape(reason)}", (0, 0, 0, 0)))
