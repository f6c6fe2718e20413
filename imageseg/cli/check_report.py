"""The report of a check: on the terminal for people, as plain values for programs."""

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

_FIRST = 3
_WIDEST = 110
_BETTER_BY_HAND = ("wrong_label_table",)  # a new table would lose the names in the old one
_COLORS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}


class Commands(NamedTuple):
    """What can be run next on the same data."""

    again: str
    """This check."""
    train: str


def print_report(scan: Scan, found: Sequence[Finding], commands: Commands, *, written: Path | None) -> None:
    """Verdict, findings with their first files, and what to run next; one line where nothing was found.

    Args:
        scan: what was looked at.
        found: what is wrong with it.
        commands: what may be run next.
        written: the label table that was written, if any.
    """
    console = Console(highlight=False, soft_wrap=True)
    width = min(console.width, _WIDEST)
    counts = Counter(finding.severity for finding in found)
    verdict = (
        ", ".join(counted(counts[severity], severity, f"{severity}s") for severity in Severity if counts[severity])
        or "clean"
    )
    worst = next((severity for severity in Severity if counts[severity]), None)
    line = Text.assemble((f"{scan.name} in {scan.root}: "), (verdict, f"bold {_COLORS[worst] if worst else 'green'}"))
    console.print(line.append(f"{' in' if found and any(scan.lying) else ','} {_contents(scan)}"))
    for finding in found:
        _print_finding(console, finding, scan, width=width, mended=finding.mendable and written is not None)
    if written is not None:
        mends = ", ".join(finding.code for finding in found if finding.mendable)
        console.print()
        console.print(Text(f"wrote {written}: mends {mends}", style="bold green"))
    if found:
        what, run = _next(scan, found, commands, written=written)
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
        "pictures": scan.lying[0],
        "masks": scan.lying[1],
        **{f"{severity}s": counts[severity] for severity in Severity},
        "findings": [finding.to_dict() for finding in found],
        "label_table": str(written) if written else None,
    }


def _print_finding(console: Console, finding: Finding, scan: Scan, *, width: int, mended: bool) -> None:
    """One finding; of one that a table has just mended not what to do, and no error that says so either."""
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
        if mended and place.path == scan.root:
            continue
        where = "" if place.path == scan.root else scan.shown(place.path)
        detail = place.detail.replace(f"{scan.root}/", "")
        row = f"{where}: {detail}" if where and detail else where or detail
        if row:
            console.print(Text(textwrap.fill(row, width, initial_indent="    ", subsequent_indent="      ", **_WHOLE)))
    if len(finding.places) > _FIRST:
        console.print(Text(f"    and {len(finding.places) - _FIRST} more"), style="dim")
    if mended:
        return
    mend = textwrap.fill(finding.mend, width, initial_indent="  mend: ", subsequent_indent="        ", **_WHOLE)
    console.print(Text(mend, style="green"))


# A path in two lines can be neither clicked nor copied.
_WHOLE: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def _next(scan: Scan, found: Sequence[Finding], commands: Commands, *, written: Path | None) -> tuple[str, str]:
    """What to do, and the command to run then."""
    mendable = [finding.code for finding in found if finding.mendable]
    errors = [finding.code for finding in found if finding.severity is Severity.ERROR]
    advised = [code for code in mendable if code not in _BETTER_BY_HAND]
    by_hand = [code for code in errors if code not in (mendable if written else advised)]
    rest = f"mend {', '.join(by_hand)} by hand, " if by_hand else ""
    table = scan.root / "labels.yaml"
    if written is not None:
        name = "" if scan.labels is not None else ", name its classes"
        put = "" if written == table else f", put it in the place of {table}"
        return f"read {written}{name}{put}, {rest}then check again:", commands.again
    if advised:
        target = table if not table.exists() else table.with_name("labels_proposed.yaml")
        return (
            f"{rest}{'and ' if rest else ''}let a label table be written that mends {', '.join(advised)}:",
            f"{commands.again} --fix-config {shlex.quote(str(target))}",
        )
    if errors:
        return f"{rest}then check again; --json lists every file:", commands.again
    checked = "here" if scan.all_splits else f"in {' and '.join(scan.splits)}"
    return f"nothing {checked} stops a training:", commands.train


def _contents(scan: Scan) -> str:
    splits = ", ".join(
        f"{split} not listed" if files.error else f"{len(files.pairs)} {split}" for split, files in scan.splits.items()
    )
    pictures, masks = scan.lying
    parts = [counted(pictures, "picture", "pictures"), counted(masks, "mask", "masks")]
    if not (pictures or masks) and any(files.error for files in scan.splits.values()):
        parts = []  # nobody knows
    if scan.labels is not None:
        parts.append(counted(len(scan.labels), "class", "classes"))
    return f"{', '.join(parts)} ({splits or 'no split'})".lstrip()


def _count(finding: Finding, scan: Scan) -> str:
    files = len({place.path for place in finding.places if place.path != scan.root})
    return f"  {counted(files, 'file', 'files')}" if files else ""
