"""The script that proves imageseg on a GPU runs in its small form on the CPU, and a part that breaks costs only itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "accelerator.py"
PARTS = ["tests", "networks", "steps", "losses", "loading", "inference", "resume", "camvid"]


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words],
        capture_output=True,
        text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""} | environment,
        check=False,
    )


def results(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def test_a_dry_run_lists_the_parts_with_budgets_below_eight_minutes() -> None:
    done = run("--dry-run")
    assert done.returncode == 0
    listed = re.findall(r"^(\w+) +(\d+) s  \S", done.stdout, re.MULTILINE)
    assert [name for name, _ in listed] == PARTS
    assert sum(int(seconds) for _, seconds in listed) < 480


def test_chosen_parts_share_the_minutes() -> None:
    done = run("--dry-run", "--parts", "losses", "tests", "--minutes", "3")
    listed = re.findall(r"^(\w+) +(\d+) s  \S", done.stdout, re.MULTILINE)
    assert [name for name, _ in listed] == ["tests", "losses"]
    assert 150 < sum(int(seconds) for _, seconds in listed) < 180


@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute on two free cores
def test_the_small_form_runs_every_part(tmp_path: Path) -> None:
    done = run("--small", "--out", str(tmp_path / "results.json"))
    found = results(tmp_path / "results.json")
    assert list(found["parts"]) == PARTS, done.stderr
    assert done.returncode == 0, done.stdout
    assert found["small"]
    for part in PARTS:
        assert found["parts"][part]["status"] == "done"
        rows = found["parts"][part]["rows"]
        assert rows
        assert all(row["result"] in ("ok", "measured", "skipped") for row in rows)
        assert all(row["note"] for row in rows if row["result"] == "skipped"), "a skip has a reason"
        assert f"| {part} | {rows[0]['name']} |" in done.stdout
    by_part = {part: [row["result"] for row in found["parts"][part]["rows"]] for part in PARTS}
    assert "ok" in by_part["tests"]
    assert "ok" in by_part["networks"]
    assert by_part["resume"] == ["ok"]
    assert by_part["camvid"] == ["skipped"]
    assert all("measured" in by_part[part] for part in ("steps", "losses", "loading", "inference"))
    skips = {row["note"] for part in PARTS for row in found["parts"][part]["rows"] if row["result"] == "skipped"}
    assert not [note for note in skips if "missing package" in note], "all packages are here"


@pytest.mark.slow
def test_a_part_that_fails_or_hangs_costs_only_itself(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    chosen = ("--parts", "networks", "steps", "camvid")
    done = run("--small", *chosen, "--out", str(out), "--inject", "networks=hang:1", "steps=fail")
    found = results(out)["parts"]
    assert found["networks"]["status"] == "timed out"
    assert found["steps"]["status"] == "failed"
    assert "injected failure" in found["steps"]["log"]
    assert found["camvid"]["status"] == "done"
    assert done.returncode == 1
    assert re.search(r"^\| networks \| \(all\) \| timed out \|", done.stdout, re.MULTILINE)
    assert re.search(r"^\| camvid \| CamVid", done.stdout, re.MULTILINE)


def test_missing_packages_are_named_with_the_way_to_carry_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import accelerator

    version = accelerator._version
    absent = ("albumentations", "jsonargparse")
    monkeypatch.setattr(accelerator, "_version", lambda name: None if name in absent else version(name))
    assert accelerator._report_missing_packages() == set(absent)
    said = capsys.readouterr().err
    assert "missing packages: albumentations, jsonargparse" in said
    assert "pip download --no-deps" in said
    assert "'albumentations==2.0.8'" in said


def test_results_are_on_disk_after_each_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import accelerator

    out = tmp_path / "results.json"
    seen: list[list[str]] = []
    row = {"name": "x", "result": "ok", "values": {"ms": 1.5}, "note": ""}

    def result(part: str, *_: Any) -> dict[str, Any]:
        seen.append(list(results(out)["parts"]) if out.exists() else [])
        return {"status": "done", "reason": "", "seconds": 0.0, "failed": 0, "rows": [row]}

    monkeypatch.setattr(accelerator, "_result", result)
    monkeypatch.setattr(accelerator, "_facts", lambda: {"device": "a GPU"})
    monkeypatch.setattr(sys, "argv", ["accelerator.py", "--out", str(out), "--parts", "tests", "losses", "steps"])
    assert accelerator.main() == 0
    assert seen == [[], ["tests"], ["tests", "steps"]]
    assert "| losses | x | ok | ms 1.5 |  |" in capsys.readouterr().out
