"""``make bench``: run the benchmarks of docs/how-to/make-training-fast.md, print the results and write them to benchmarks/results.

Each row compares imageseg ("ours") with a reference implementation ("theirs"). With ``--json``, one list of
{name, ours, theirs, ratio, unit} is printed instead of the table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

from measuring import Row, report

HERE = Path(__file__).parent
SAMPLES = Path(os.environ.get("IMAGESEG_SAMPLES", HERE.parent.parent / "shared" / "data"))
BENCHES = {
    "The input pipeline": ["input_pipeline.py"],
    "The training step": ["training_step.py"],
    "Training, end to end": ["train_camvid.py", "--root", str(SAMPLES / "camvid")],
}
PACKAGES = ("torch", "torchvision", "albumentations", "opencv-python-headless", "pillow", "pytorch-lightning", "timm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    given = parser.parse_args()
    start = time.monotonic()
    measured: dict[str, list[Row]] = {}
    for title, command in BENCHES.items():
        if not Path(command[-1]).exists() and len(command) > 1:
            print(f"{title}: skipped, because {command[-1]} does not exist", file=sys.stderr)
            continue
        print(f"{title}: {' '.join(command)}", file=sys.stderr, flush=True)
        measured[title] = _rows([sys.executable, str(HERE / command[0]), *command[1:], "--json"])
    minutes = (time.monotonic() - start) / 60
    if not given.json:
        for title, rows in measured.items():
            print(f"\n{title}")
            report(rows, as_json=False)
    else:
        report([row for rows in measured.values() for row in rows], as_json=True)
    path = HERE / "results" / f"bench_{_machine()}_{date.today()}.md"
    path.write_text(_page(measured, minutes), encoding="utf-8")
    print(f"{minutes:.0f} minutes; results written to {path.relative_to(HERE.parent)}", file=sys.stderr)


def _rows(command: list[str]) -> list[Row]:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [Row(row["name"], row["ours"], row["theirs"], row["unit"]) for row in json.loads(done.stdout)]


def _machine() -> str:
    """Return a short name of the machine, such as ``epyc-2-cores``."""
    words = re.findall(r"[a-z]+", _processor().lower())
    kinds = ("epyc", "xeon", "ryzen", "threadripper", "core", "apple", "arm")
    return f"{next((kind for kind in kinds if kind in words), platform.machine())}-{os.cpu_count()}-cores"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def _page(measured: dict[str, list[Row]], minutes: float) -> str:
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    lines = [
        f"# make bench, {date.today():%d %B %Y}",
        "",
        f"{_processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}. {minutes:.0f} minutes.",
        "The docstring of each script explains its rows.",
    ]
    for title, rows in measured.items():
        lines += ["", f"## {title}", "", f"`python benchmarks/{' '.join(_portable(title))}`", ""]
        lines += ["| | ours | theirs | unit | ratio |", "|---|---|---|---|---|"]
        lines += [f"| {row.name} | {row.ours:.1f} | {row.theirs:.1f} | {row.unit} | {row.ratio:.2f}x |" for row in rows]
    return "\n".join(lines) + "\n"


def _portable(title: str) -> list[str]:
    return [word.replace(str(SAMPLES), "DATA") for word in BENCHES[title]]


if __name__ == "__main__":
    main()
