"""Runs the tests marked `accelerator`; without a device those that can run on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from accelerator_parts.setting import ROOT, Row, Setting


def run(setting: Setting) -> Iterator[Row]:
    """One row per test."""
    files = sorted(
        path for path in (ROOT / "tests").rglob("test_*.py") if "mark.accelerator" in path.read_text("utf-8")
    )
    files = [path for path in files if path.name != "test_accelerator_script.py"]
    if setting.small:
        files = [path for path in files if path.parent.name == "accelerator" and path.name != "test_runs.py"]
    environment = os.environ | ({} if setting.on_cuda else {"IMAGESEG_TEST_DEVICE": "cpu"})
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-m",
            "accelerator",
            f"--junitxml={report}",
            "-p",
            "no:cacheprovider",
        ]
        # Another torch than pyproject.toml asks for may warn, and pytest-timeout may be missing: neither is a failure here.
        command += ["-o", "addopts=-q", "-o", "filterwarnings=default", *map(str, files)]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=max(1.0, setting.left())
        )
        if not report.exists():
            yield Row("pytest", "failed", {"exit": done.returncode}, (done.stdout + done.stderr)[-600:])
            return
        for case in ElementTree.parse(report).iter("testcase"):
            name = f"{case.get('classname', '').removeprefix('tests.')}::{case.get('name')}"
            problem = next((found for kind in ("failure", "error") for found in case.iter(kind)), None)
            skipped = next(case.iter("skipped"), None)
            result = "failed" if problem is not None else "skipped" if skipped is not None else "ok"
            found = problem if problem is not None else skipped
            note = "" if found is None else " ".join(str(found.get("message")).split())[:400]
            yield Row(name, result, {"seconds": float(case.get("time", 0))}, note)
