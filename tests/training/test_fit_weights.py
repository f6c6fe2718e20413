"""Training runs that start from a weights file: the run records the implied arguments and needs the file no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
import yaml

import imageseg
from imageseg import Predictor, Recipe, weight_files
from imageseg.checkpoint import read_checkpoint, read_record
from imageseg.cli import main
from imageseg.training.fit import train

SMALL = {"encoder": "resnet10t", "decoder_channels": [8, 8, 8, 8, 8]}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("data") / "toys"
    imageseg.build_dataset("ToyScenes", root, size=(64, 64), counts=(4, 2, 2)).prepare()
    return str(root)


@pytest.fixture
def count_reads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return how often weights files have been read."""
    read, paths = weight_files._read_pickle, []

    def counting(path: Path) -> Any:
        paths.append(path)
        return read(path)

    monkeypatch.setattr(weight_files, "_read_pickle", counting)
    return lambda: len(paths)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of SMP's Unet for two classes."""
    torch.manual_seed(0)
    network = smp.Unet("tu-resnet10t", encoder_weights=None, classes=2, decoder_channels=SMALL["decoder_channels"])
    torch.save(network.state_dict(), tmp_path / "smp.pth")
    return tmp_path / "smp.pth"


def _recipe(scenes: str, output: Path, network: dict[str, Any], **trainer: Any) -> Recipe:
    return Recipe(
        use="ToyScenes",
        model="UNet",
        data={"root": scenes, "size": (64, 64), "counts": (4, 2, 2), "crop_size": (32, 32), "batch_size": 2}
        | {"num_workers": 0},
        network=network,
        # A learning rate so small that the weights stay as they were loaded.
        task={"lr": 1e-12},
        trainer={"max_steps": 2, "val_every": 2, "output": str(output), "name": "run", "accelerator": "cpu"}
        | {"precision": "32-true"}
        | {"progress_bar": False, "images": 1}
        | trainer,
    )


def test_a_run_starts_from_the_weights_file_and_resumes_without_it(
    scenes: str,
    weights: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    count_reads: Callable[[], int],
) -> None:
    with caplog.at_level("INFO", logger="imageseg"):
        run = train(_recipe(scenes, tmp_path / "runs", {**SMALL, "weights": str(weights)}))
    loaded = "smp.pth: SMP's Unet; 120 of 122 tensors loaded (encoder 70 of 70); classifier re-initialized"
    assert len([line for line in caplog.messages if loaded in line]) == 1
    assert count_reads() == 1
    expected = torch.load(weights, weights_only=True)["encoder.model.layer1.0.conv1.weight"]
    state = read_checkpoint(run.checkpoint)
    assert torch.allclose(state["state_dict"]["network.encoder.network.layer1.0.conv1.weight"], expected, atol=1e-6)
    encoder, head = (
        next(group for group in state["optimizer_states"][0]["param_groups"] if group["name"] == name)
        for name in ("encoder", "head")
    )
    assert encoder["initial_lr"] == pytest.approx(head["initial_lr"] / 10), "a pretrained encoder learns more slowly"

    weights.unlink()
    assert Predictor.from_checkpoint(run.checkpoint).recipe is not None
    config = str(run.folder / "config.yaml")
    again = ["train", "--config", config, "--trainer.resume", str(run.folder / "checkpoints" / "last.ckpt")]
    assert main([*again, "--trainer.max_steps", "4"]) == 0


def test_implied_arguments_are_in_the_checkpoint_and_the_recipe(
    scenes: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(smp.Unet("resnet18", encoder_weights=None, classes=2).state_dict(), tmp_path / "smp.pth")
    with caplog.at_level("INFO", logger="imageseg"):
        run = train(_recipe(scenes, tmp_path / "runs", {"weights": str(tmp_path / "smp.pth")}))
    assert "sets --network.encoder resnet18" in caplog.text
    assert read_record(run.checkpoint)[0].network["encoder"] == "resnet18"
    assert yaml.safe_load((run.folder / "config.yaml").read_text())["network"]["encoder"] == "resnet18"


def test_every_network_has_both_weights_flags(capsys: pytest.CaptureFixture[str]) -> None:
    for model in imageseg.MODELS:
        with pytest.raises(SystemExit):
            main(["train", "--use", "ToyScenes", "--model", model, "--help"])
        text = capsys.readouterr().out
        assert "--network.weights" in text
        assert "--network.encoder_weights" in text


def test_a_missing_weights_file_is_a_one_line_error_before_anything_is_written(
    scenes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "--use", "ToyScenes", "--model", "UNet", "--network.weights", "nowhere.pth"]
    assert main([*arguments, "--data.root", scenes]) == 2
    assert capsys.readouterr().err.splitlines() == ["imageseg: error: nowhere.pth: no such weights file"]
    assert not list(tmp_path.iterdir())
