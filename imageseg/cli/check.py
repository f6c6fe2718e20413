"""imageseg check: find the faults of a dataset's files before training does."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imageseg.cli.dataset_arguments import DatasetParser

if TYPE_CHECKING:
    from imageseg.checking.scan import Scan


def run(arguments: Sequence[str]) -> int:
    """Scan the dataset, print the report and write the label table if requested.

    Returns:
        Exit code: 0, or 1 if there are errors.
    """
    parser = DatasetParser(
        prog="imageseg check",
        description="Read every image and mask of a dataset and report what is wrong, in which files, and how to fix it.\n"
        "The exit code is 1 if there are errors; warnings and notes alone give 0.",
    )
    parser.add_argument(
        "--split", action="append", default=[], help="split to check (default: all); can be given several times"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object that lists every file")
    parser.add_argument(
        "--fix-config", metavar="FILE", help="file for a label table (labels.yaml) that fixes what a table can fix"
    )
    parser.add_workers()
    given, dataset = parser.parse(arguments)
    from imageseg.atomic_files import replacing
    from imageseg.checking.faults.table import findings
    from imageseg.checking.finding import Severity
    from imageseg.checking.label_table import labels_text
    from imageseg.checking.scan import scan
    from imageseg.cli.check_report import Commands, print_report, to_dict
    from imageseg.errors import InputError
    from imageseg.progress_bars import file_progress

    target = Path(given.fix_config) if given.fix_config else None
    if target is not None and target.exists():
        raise InputError(f"{target}: already exists and --fix-config overwrites nothing; pass another name")
    with file_progress("check") as progress:
        scanned = scan(dataset, given.split, workers=given.workers, progress=progress)
    found = findings(scanned)
    text = labels_text(scanned, found)
    if target is not None and text is not None:
        with replacing(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
    written = target if text is not None else None
    if given.json:
        print(json.dumps(to_dict(scanned, found, written=written)))
    else:
        again = shlex.join(["imageseg", "check", *_without_fix_config(arguments)])
        print_report(scanned, found, Commands(again, _training(scanned, given.dataset_flags)), written=written)
    if target is not None and written is None:
        print(f"{target}: not written; {_why_no_table(scanned)}", file=sys.stderr)
    return 1 if any(finding.severity is Severity.ERROR for finding in found) else 0


def _training(scan: Scan, flags: Sequence[str]) -> str:
    """Return the command that trains on the same data; the dataset's flags are in the section ``data`` there."""
    data = [f"--data.{word.removeprefix('--')}" if word.startswith("--") else word for word in flags]
    return shlex.join(
        ["imageseg", "train", "--use", scan.name, "--model", "DeepLabv3_plus", "--data.root", str(scan.root), *data]
    )


def _why_no_table(scan: Scan) -> str:
    if not scan.own_masks:
        return f"the label table of {scan.name} is fixed, so that no configuration can fix these findings"
    if scan.label_error:
        return "no mask can be read yet, so that it is unknown what a label table should declare"
    return "there is nothing that a label table can fix"


def _without_fix_config(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of the same check, without the file to write."""
    kept, skip = [], False
    for word in arguments:
        if not skip and not word.startswith("--fix-config"):
            kept.append(word)
        skip = word == "--fix-config"
    return kept
