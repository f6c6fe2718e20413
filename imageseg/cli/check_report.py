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


def print_report(scan: Scan, found: Sequence[Finding], *, command: str, written: Path | None) -> None:
    """Verdict, findings with their first files, and what to run next; one line where nothing was found.

    Args:
        scan: what was looked at.
        found: what is wrong with it.
        command: that runs this check again.
        written: the label table that was written, if any.
    """
    console = Console(highlight=False, soft_wrap=True)
    width = min(console.width, _WIDEST)
    counts = Counter(finding.severity for finding in found)
    verdict = ", ".join(_plural(counts[severity], severity) for severity in Severity if counts[severity]) or "clean"
    worst = next((severity for severity in Severity if counts[severity]), None)
    line = Text.assemble((f"{scan.name} in {scan.root}: "), (verdict, f"bold {_COLORS[worst] if worst else 'green'}"))
    console.print(line.append(f"{' in' if found else ','} {_contents(scan)}"))
    for finding in found:
        _print_finding(console, finding, scan, width=width)
    if found:
        what, run = _next(scan, found, command=command, written=written)
        console.print()
        console.print(Text(textwrap.fill(f"Next: {what}", width, **_WHOLE)))
        console.print(Text(f"  {run}", style="bold"))  # in one piece, however long: to be copied


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
        _count(finding, scan),
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


def _next(scan: Scan, found: Sequence[Finding], *, command: str, written: Path | None) -> tuple[str, str]:
    """What to do, and the command to run then."""
    mendable = [finding.code for finding in found if finding.mendable]
    errors = [finding.code for finding in found if finding.severity is Severity.ERROR]
    by_hand = [code for code in errors if code not in mendable]
    rest = f"mend {', '.join(by_hand)} by hand, " if by_hand else ""
    table = scan.root / "labels.yaml"
    if written is not None:
        name = "" if scan.labels is not None else ", name its classes"
        put = "" if written == table else f", put it in the place of {table}"
        return f"read {written}{name}{put}, {rest}then check again:", command
    if mendable:
        target = table if not table.exists() else table.with_name("labels_proposed.yaml")
        return (
            f"{rest}{'and ' if rest else ''}let a label table be written that mends {', '.join(mendable)}:",
            f"{command} --fix-config {shlex.quote(str(target))}",
        )
    if errors:
        return f"{rest}then check again; --json lists every file:", command
    train = f"imageseg train --use {scan.name} --model DeepLabv3_plus --data.root {shlex.quote(str(scan.root))}"
    return "nothing here stops a training:", train


def _contents(scan: Scan) -> str:
    splits = ", ".join(f"{len(files.pairs)} {split}" for split, files in scan.splits.items())
    parts = [_plural(len(dict(scan.pictures())), "picture"), _plural(len(dict(scan.masks())), "mask")]
    if scan.labels is not None:
        parts.append(_plural(len(scan.labels), "class", "classes"))
    return f"{', '.join(parts)} ({splits or 'no split'})"


def _count(finding: Finding, scan: Scan) -> str:
    files = len({place.path for place in finding.places if place.path != scan.root})
    return f"  {_plural(files, 'file')}" if files else ""


def _plural(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or f'{one}s'}"
