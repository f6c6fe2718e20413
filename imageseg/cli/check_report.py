"""The report of a check: on the terminal for people, as plain values for programs."""

from __future__ import annotations

import shlex
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from imageseg.checking.finding import Finding, Severity
from imageseg.checking.scan import Scan

_FIRST = 3
_WIDEST = 110
_COLORS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}


def print_report(scan: Scan, found: Sequence[Finding], *, written: Path | None) -> None:
    """Verdict, findings with their first files, and what to run next; one line where nothing was found."""
    console = Console(highlight=False, soft_wrap=True)
    width = min(console.width, _WIDEST)
    counts = Counter(finding.severity for finding in found)
    verdict = ", ".join(_plural(counts[severity], severity) for severity in Severity if counts[severity]) or "clean"
    worst = next((severity for severity in Severity if counts[severity]), None)
    line = Text.assemble((f"{scan.name} in {scan.root}: "), (verdict, f"bold {_COLORS[worst] if worst else 'green'}"))
    console.print(line.append(f" in {_contents(scan)}"))
    for finding in found:
        _print_finding(console, finding, scan, width=width)
    if found:
        console.print()
        for row in textwrap.wrap(f"Next: {_next(scan, found, written=written)}", width, break_long_words=False):
            console.print(Text(row))


def to_dict(scan: Scan, found: Sequence[Finding], *, written: Path | None) -> dict[str, Any]:
    """Everything, every file included."""
    counts = Counter(finding.severity for finding in found)
    return {
        "dataset": scan.name,
        "root": str(scan.root),
        "splits": {split: len(files.pairs) for split, files in scan.splits.items()},
        "pictures": len(dict(scan.pictures())),
        "masks": len(dict(scan.masks())),
        **{f"{severity}s": counts[severity] for severity in Severity},
        "findings": [finding.to_dict() for finding in found],
        "label_table": str(written) if written else None,
    }


def _print_finding(console: Console, finding: Finding, scan: Scan, *, width: int) -> None:
    console.print()
    head = Text.assemble(
        (f"{finding.severity:<8}", f"bold {_COLORS[finding.severity]}"),
        (finding.code, "bold"),
        f"  {_count(finding, scan)}",
    )
    console.print(head)
    for row in textwrap.wrap(finding.meaning, width - 2):
        console.print(Text(f"  {row}"))
    for place in finding.places[:_FIRST]:
        where = "" if place.path == scan.root else scan.shown(place.path)
        detail = place.detail.replace(f"{scan.root}/", "")
        row = f"{where}: {detail}" if where and detail else where or detail
        if row:
            console.print(Text(textwrap.fill(row, width, initial_indent="    ", subsequent_indent="      ", **_WHOLE)))
    if len(finding.places) > _FIRST:
        console.print(Text(f"    and {len(finding.places) - _FIRST} more"), style="dim")
    mend = textwrap.fill(finding.mend, width, initial_indent="  mend: ", subsequent_indent="        ", **_WHOLE)
    console.print(Text(mend, style="green"))


# A path in two lines can be neither clicked nor copied.
_WHOLE: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def _next(scan: Scan, found: Sequence[Finding], *, written: Path | None) -> str:
    again = f"imageseg check {scan.name} --root {shlex.quote(str(scan.root))}"
    mendable = [finding.code for finding in found if finding.mendable]
    errors = [finding.code for finding in found if finding.severity is Severity.ERROR]
    rest = [code for code in errors if code not in mendable]
    table = scan.root / "labels.yaml"
    if written is not None:
        put = "" if written == table else f", put it in the place of {table}"
        return f"read {written}{put}, mend {', '.join(rest) if rest else 'nothing else'}, then {again}"
    if mendable:
        target = table if not table.exists() else table.with_name("labels_proposed.yaml")
        return f"{again} --fix-config {shlex.quote(str(target))}   (a label table that mends {', '.join(mendable)})"
    if errors:
        return f"mend the errors, then {again}   (--json lists every file)"
    return f"imageseg train --use {scan.name} --model DeepLabv3_plus --data.root {shlex.quote(str(scan.root))}"


def _contents(scan: Scan) -> str:
    splits = ", ".join(f"{len(files.pairs)} {split}" for split, files in scan.splits.items())
    parts = [_plural(len(dict(scan.pictures())), "picture"), _plural(len(dict(scan.masks())), "mask")]
    if scan.labels is not None:
        parts.append(_plural(len(scan.labels), "class", "classes"))
    return f"{', '.join(parts)} ({splits or 'no split'})"


def _count(finding: Finding, scan: Scan) -> str:
    files = len({place.path for place in finding.places if place.path != scan.root})
    return _plural(files, "file") if files else ""


def _plural(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or f'{one}s'}"
