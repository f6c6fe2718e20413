"""run.py from end to end: from a VOC tree to a scored network."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import write_fake

ROOT = Path(__file__).parents[1]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "run.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


@pytest.mark.slow
def test_voc_from_end_to_end(tmp_path: Path) -> None:
    root = write_fake("VOC", tmp_path / "VOC")["root"]
    small = "--network.encoder resnet10t --network.pretrained false --data.batch_size 2 --data.num_workers 1"
    steps = "--trainer.max_steps 3 --trainer.val_every 2 --trainer.accelerator cpu"
    answer = run(
        *("--use", "VOCModule", "--model", "DeepLabv3_plus", "--data.root", str(root), "--data.crop_size", "[32, 48]"),
        *small.split(),
        *steps.split(),
        cwd=tmp_path,
    )
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert re.fullmatch(r"val mIoU \d\.\d{3} \(DeepLabv3_plus on VOC\)", lines[-1])
    assert any(line.startswith("aeroplane") for line in lines)
    best = next(line.split()[-1] for line in lines if line.startswith("best checkpoint"))
    assert (tmp_path / best).exists()
    assert "step 3/3" in answer.stderr
    assert "Warning" not in answer.stderr
    assert json.loads(next(tmp_path.glob("runs/*/scores.json")).read_text())["dialect"] == "voc"


def test_a_wrong_mask_stops_the_run_with_one_line(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    root = Path(write_fake("VOC", tmp_path / "VOC")["root"])
    mask = next(root.rglob("SegmentationClass/2007_000001.png"))
    with Image.open(mask) as picture:
        size = picture.size
    Image.fromarray(np.full(size[::-1], 77, np.uint8)).save(mask)
    answer = run(
        *("--use", "VOCModule", "--model", "UNet", "--data.root", str(root), "--data.num_workers", "1"),
        *("--network.encoder", "resnet10t", "--network.pretrained", "false", "--trainer.accelerator", "cpu"),
        cwd=tmp_path,
    )
    assert answer.returncode == 2
    (error,) = [line for line in answer.stderr.splitlines() if "error" in line.lower()]
    assert error.startswith(f"imageseg: error: {mask}: value 77 ({size[0] * size[1]} pixels) is not in the label table")
    assert "Traceback" not in answer.stderr


@pytest.mark.slow
def test_two_processes_score_every_image_once(tmp_path: Path) -> None:
    """Five images are not divisible by two: Lightning's own sampler would count one of them twice."""
    toys = ("--use", "ToyScenesModule", "--data.size", "[64, 64]", "--data.counts", "[4, 5, 5]", "--data.root", "toys")
    network = ("--model", "DeepLabv3_plus", "--network.encoder", "resnet10t", "--network.pretrained", "false")
    loading = (
        "--data.crop_size",
        "[48, 48]",
        "--data.batch_size",
        "2",
        "--data.num_workers",
        "0",
        "--network.channels",
        "8",
    )
    two = ("--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp")
    answer = run(
        *toys, *network, *loading, *two, "--trainer.max_steps", "2", "--trainer.name", "two", "--json", cwd=tmp_path
    )
    assert answer.returncode == 0, answer.stderr
    together = json.loads(answer.stdout)
    assert together["images"] == 5
    alone = subprocess.run(
        [sys.executable, "-m", "imageseg", "evaluate", together["checkpoint"], "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(alone.stdout)["iou"] == together["iou"]
