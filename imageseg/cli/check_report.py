"""The report of a check: text for the terminal, and plain values for ``--json``."""

from __future__ import annotations

import shlex
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text

from imageseg.checking.finding import Finding, Severity
from imageseg.checking.scan import Scan
from imageseg.errors import counted

_FILES_SHOWN = 3
_MAX_WIDTH = 110
_BETTER_BY_HAND = ("wrong_label_table",)  # a new table would lose the class names of the old one
_COLORS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
# Long words stay on one line: a path broken in two can be neither clicked nor copied.
_KEEP_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


class Commands(NamedTuple):
    """Commands to run next on the same data."""

    again: str
    """The same check."""
    train: str
    """Training."""


def print_report(scan: Scan, found: Sequence[Finding], commands: Commands, *, written: Path | None) -> None:
    """Print the verdict, the findings with their first files, and the next command; one line if nothing was found.

    Args:
        scan: Files that were checked.
        found: Findings to report.
        commands: Commands to suggest.
        written: Label table that was written, if any.
    """
    console = Console(highlight=False, soft_wrap=True)
    width = min(console.width, _MAX_WIDTH)
    counts = Counter(finding.severity for finding in found)
    verdict = (
        ", ".join(counted(counts[severity], severity, f"{severity}s") for severity in Severity if counts[severity])
        or "clean"
    )
    worst = next((severity for severity in Severity if counts[severity]), None)
    line = Text.assemble((f"{scan.name} in {scan.root}: "), (verdict, f"bold {_COLORS[worst] if worst else 'green'}"))
    console.print(line.append(f"{' in' if found and any(scan.file_counts) else ','} {_contents(scan)}"))
    for finding in found:
        _print_finding(console, finding, scan, width=width, fixed=finding.fixable and written is not None)
    if written is not None:
        fixes = ", ".join(finding.code for finding in found if finding.fixable)
        console.print()
        console.print(Text(f"wrote {written}: fixes {fixes}", style="bold green"))
    if found:
        what, run = _next(scan, found, commands, written=written)
        console.print()
        console.print(Text(textwrap.fill(f"Next: {what}", width, **_KEEP_WORDS)))
        console.print(Text(f"  {run}", style="bold"))  # on one line, so that it can be copied


def to_dict(scan: Scan, found: Sequence[Finding], *, written: Path | None) -> dict[str, Any]:
    """Return the content of the report as plain values, with every file."""
    counts = Counter(finding.severity for finding in found)
    images, masks = scan.file_counts
    return {
        "version": 1,
        "dataset": scan.name,
        "root": str(scan.root),
        "splits": {split: len(files.pairs) for split, files in scan.splits.items()},
        "images": images,
        "masks": masks,
        **{f"{severity}s": counts[severity] for severity in Severity},
        "findings": [finding.to_dict() for finding in found],
        "label_table": str(written) if written else None,
    }


def _print_finding(console: Console, finding: Finding, scan: Scan, *, width: int, fixed: bool) -> None:
    """Print one finding. If the written label table fixes it, omit what to do and the error about the table."""
    console.print()
    head = Text.assemble(
        (f"{finding.severity:<8}", f"bold {_COLORS[finding.severity]}"),
        (finding.code, "bold"),
        _count(finding, scan),
    )
    console.print(head)
    for row in textwrap.wrap(finding.meaning, width - 2):
        console.print(Text(f"  {row}"))
    for place in finding.places[:_FILES_SHOWN]:
        if fixed and place.path == scan.root:
            continue
        where = "" if place.path == scan.root else scan.shown(place.path)
        detail = place.detail.replace(f"{scan.root}/", "", 1)  # a path in a suggested command stays complete
        row = f"{where}: {detail}" if where and detail else where or detail
        if row:
            console.print(
                Text(textwrap.fill(row, width, initial_indent="    ", subsequent_indent="      ", **_KEEP_WORDS))
            )
    if len(finding.places) > _FILES_SHOWN:
        console.print(Text(f"    and {len(finding.places) - _FILES_SHOWN} more"), style="dim")
    if fixed:
        return
    fix = textwrap.fill(finding.fix, width, initial_indent="  fix: ", subsequent_indent="       ", **_KEEP_WORDS)
    console.print(Text(fix, style="green"))


def _next(scan: Scan, found: Sequence[Finding], commands: Commands, *, written: Path | None) -> tuple[str, str]:
    """Return what to do next, and the command to run for it."""
    fixable = [finding.code for finding in found if finding.fixable]
    errors = [finding.code for finding in found if finding.severity is Severity.ERROR]
    advised = [code for code in fixable if code not in _BETTER_BY_HAND]
    by_hand = [code for code in errors if code not in (fixable if written else advised)]
    manual = f"fix {', '.join(by_hand)} by hand, " if by_hand else ""
    table = scan.root / "labels.yaml"
    if written is not None:
        name = "" if scan.labels is not None else ", name its classes"
        move = "" if written == table else f", move it to {table}"
        return f"read {written}{name}{move}, {manual}then check again:", commands.again
    if advised:
        target = table if not table.exists() else table.with_name("labels_proposed.yaml")
        return (
            f"{manual}{'and ' if manual else ''}write a label table that fixes {', '.join(advised)}:",
            f"{commands.again} --fix-config {shlex.quote(str(target))}",
        )
    if errors:
        return f"{manual}then check again (--json lists every file):", commands.again
    checked = "here" if scan.all_splits else f"in {' and '.join(scan.splits)}"
    return f"nothing {checked} prevents training; start it with:", commands.train


def _contents(scan: Scan) -> str:
    splits = ", ".join(
        f"{split} not listed" if files.error else f"{len(files.pairs)} {split}" for split, files in scan.splits.items()
    )
    images, masks = scan.file_counts
    parts = [counted(images, "image", "images"), counted(masks, "mask", "masks")]
    if not (images or masks) and any(files.error for files in scan.splits.values()):
        parts = []  # the numbers are unknown
    if scan.labels is not None:
        parts.append(counted(len(scan.labels), "class", "classes"))
    return f"{', '.join(parts)} ({splits or 'no split'})".lstrip()


def _count(finding: Finding, scan: Scan) -> str:
    files = len({place.path for place in finding.places if place.path != scan.root})
    return f"  {counted(files, 'file', 'files')}" if files else ""
