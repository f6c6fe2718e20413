"""imageseg evaluate: scores of a checkpoint as a table and as JSON, with calibration on request."""

import json
from pathlib import Path

import pytest
from fakes import write_fake

from imageseg import Recipe, build_dataset, build_model
from imageseg.checkpoint import RUN_KEY, write_checkpoint
from imageseg.cli import main


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint of a random network on the fake of an own dataset."""
    write_fake("Folder", tmp_path / "mine")
    labels = build_dataset("Folder", tmp_path / "mine").labels
    arguments = {"encoder": "resnet10t", "pretrained": False, "decoder_channels": (8, 8, 8, 8, 8)}
    network = build_model("UNet", len(labels), **arguments)
    recipe = Recipe("Folder", "UNet", data={"root": str(tmp_path / "mine"), "crop_size": [32, 32]}, network=arguments)
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    record = {"recipe": recipe.to_dict(), "labels": labels.to_dict()}
    write_checkpoint({"state_dict": state, RUN_KEY: record, "global_step": 3}, tmp_path / "best.ckpt")
    return tmp_path / "best.ckpt"


def test_json_holds_scores_and_on_request_calibration(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", str(checkpoint), "--split", "train", "--device", "cpu", "--json"]
    assert main(arguments) == 0
    plain = json.loads(capsys.readouterr().out)
    assert {key: plain[key] for key in ("version", "checkpoint", "split", "images", "dialect")} == {
        "version": 1,
        "checkpoint": str(checkpoint),
        "split": "train",
        "images": 1,
        "dialect": "default",
    }
    assert "calibration" not in plain
    assert main([*arguments, "--calibration"]) == 0
    report = json.loads(capsys.readouterr().out)
    calibration = report.pop("calibration")
    assert report == plain
    assert 0 <= calibration["ece"] <= 1
    assert calibration["accuracy"] == pytest.approx(plain["pixel_accuracy"], abs=0.06)  # ties between classes
    assert calibration["images"] == 1
    assert len(calibration["reliability"]) == 15
    assert sum(row["count"] for row in calibration["reliability"]) == calibration["pixels"] == 19


def test_the_table_shows_the_protocol_and_calibration(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(checkpoint), "--split", "train", "--device", "cpu", "--calibration"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "UNet on Folder train (metric protocol: default)"
    for start in ("mIoU", "ECE", "Brier score", "mean confidence"):
        assert any(line.startswith(start) for line in lines), start
