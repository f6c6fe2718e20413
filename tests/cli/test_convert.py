"""imageseg convert: weights of another library become a checkpoint for prediction, evaluation and training."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from PIL import Image

import imageseg
from imageseg import Predictor, weight_files
from imageseg.checkpoint import read_record
from imageseg.cli import main

CHANNELS = (8, 8, 8, 8, 8)
FLAGS = ["--network.encoder", "resnet10t", "--network.decoder_channels", "[8, 8, 8, 8, 8]"]


def _smp(classes: int) -> Any:
    torch.manual_seed(0)
    network = smp.Unet("tu-resnet10t", encoder_weights=None, classes=classes, decoder_channels=CHANNELS)
    return network.eval()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Checkpoint of a Lightning module around SMP's Unet."""
    monkeypatch.chdir(tmp_path)
    state = {f"model.{name}": value for name, value in _smp(3).state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, "smp.ckpt")
    return "smp.ckpt"


def test_a_weights_file_is_read_once(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read, paths = weight_files._read_pickle, []

    def counting(path: Path) -> Any:
        paths.append(str(path))
        return read(path)

    monkeypatch.setattr(weight_files, "_read_pickle", counting)
    assert main(["convert", file, "-o", "ours.safetensors", *FLAGS]) == 0
    assert paths == [file]


def test_a_converted_checkpoint_predicts_what_the_network_did(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", file, "-o", "ours.safetensors", *FLAGS]) == 0
    captured = capsys.readouterr()
    assert "SMP's Unet; 122 of 122 tensors loaded (encoder 70 of 70)" in captured.err
    assert "ours.safetensors (UNet, 3 classes: class 0, class 1, class 2)" in captured.out
    photo = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    predictor = Predictor.from_checkpoint("ours.safetensors")
    images = torch.from_numpy(photo).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = _smp(3)(predictor.network.normalize(images)).argmax(1)[0].numpy()
    assert (predictor(photo).classes == expected).mean() > 0.999
    assert len(np.unique(expected)) > 1
    assert predictor.labels.names == ["class 0", "class 1", "class 2"]

    Image.fromarray(photo).save("photo.png")
    assert main(["predict", "ours.safetensors", "photo.png"]) == 0


def test_printed_commands_can_be_pasted(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", file, "-o", "ours.safetensors", *FLAGS]) == 0
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["predict"].strip() == "imageseg predict ours.safetensors IMAGE"
    assert lines["train on"].strip() == "imageseg train --use DATASET --model UNet --network.weights ours.safetensors"


def test_a_converted_checkpoint_is_a_weights_file_again(file: str, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["convert", file, "-o", "ours.safetensors", *FLAGS]) == 0
    caplog.clear()
    with caplog.at_level("INFO", logger="imageseg"):
        network = imageseg.build_model("UNet", 3, weights="ours.safetensors")
    lines = caplog.messages
    assert "sets --network.encoder resnet10t, --network.decoder_channels '[8, 8, 8, 8, 8]'" in lines[0]
    assert "122 of 122" in lines[1]
    assert torch.equal(network.classifier.weight, _smp(3).segmentation_head[0].weight)


def test_the_labels_of_the_dataset_are_used(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(_smp(21).state_dict(), "voc.pth")
    assert main(["convert", "voc.pth", "-o", "voc.safetensors", "--use", "VOC", "--json", *FLAGS]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["classes"][:2] == ["background", "aeroplane"]
    assert (report["model"], report["source"], report["dropped"]) == ("UNet", "SMP's Unet", [])
    recipe, labels = read_record("voc.safetensors")
    assert recipe.use == "VOC"
    assert labels.labels[1].color == (128, 0, 0)
    assert main(["convert", file, "-o", "x.safetensors", "--use", "VOC", *FLAGS]) == 2
    assert "VOC has 21 classes and the file 3" in capsys.readouterr().err
    assert not Path("x.safetensors").exists()


def test_names_in_the_file_are_kept(file: str) -> None:
    state = _smp(2).state_dict()
    torch.save({"state_dict": state, "meta": {"CLASSES": ("sky", "road")}}, "named.pth")
    assert main(["convert", "named.pth", "-o", "named.safetensors", *FLAGS]) == 0
    assert read_record("named.safetensors")[1].names == ["sky", "road"]


def test_other_classes_than_the_files_are_refused(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": _smp(21).state_dict(), "meta": {"CLASSES": [f"thing {i}" for i in range(21)]}}, "21.pth")
    assert main(["convert", "21.pth", "-o", "voc.safetensors", "--use", "VOC", *FLAGS]) == 2
    error = capsys.readouterr().err
    assert "only 0 of the 21 classes of --use VOC have the same name in the file" in error
    assert not Path("voc.safetensors").exists()
    assert main(["convert", "21.pth", "-o", "voc.safetensors", "--use", "VOC", "--num_classes", "21", *FLAGS]) == 0


def test_numbered_classes_can_be_named_by_a_dataset(file: str) -> None:
    torch.save(_smp(21).state_dict(), "21.pth")
    assert main(["convert", "21.pth", "-o", "numbered.safetensors", *FLAGS]) == 0
    assert main(["convert", "numbered.safetensors", "-o", "voc.safetensors", "--use", "VOC"]) == 0
    assert read_record("voc.safetensors")[1].names[1] == "aeroplane"
    weights = imageseg.build_model("UNet", 21, weights="voc.safetensors").classifier.weight
    assert torch.equal(weights, _smp(21).segmentation_head[0].weight)


def test_an_eomt_is_converted_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EoMT's classifier has one row more than classes."""
    monkeypatch.chdir(tmp_path)
    small = {"encoder": "test_vit", "num_queries": 5, "num_blocks": 2}
    network = imageseg.build_model("EoMT", 3, pretrained=False, **small)
    torch.save(network.state_dict(), "eomt.pth")
    flags = [word for name, value in small.items() for word in (f"--network.{name}", str(value))]
    assert main(["convert", "eomt.pth", "-o", "ours.safetensors", "--model", "EoMT", *flags]) == 0
    assert main(["convert", "ours.safetensors", "-o", "again.safetensors"]) == 0
    for name in ("ours.safetensors", "again.safetensors"):
        assert len(read_record(name)[1]) == 3
        again = imageseg.build_model("EoMT", 3, weights=name).state_dict()
        assert all(torch.equal(value, again[key]) for key, value in network.state_dict().items())


def test_another_number_of_classes_reinitializes_the_classifier(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", file, "-o", "five.safetensors", "--num_classes", "5", "--json", *FLAGS]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["renewed"] == ["classifier.weight", "classifier.bias"]
    assert len(report["classes"]) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smp.ckpt", "-o", "x", "--network.encoder", "resnet10t"], "51 of another shape (blocks.0.0.0.weight"),
        (["smp.ckpt", "-o", "x", "--network.encoder", "resnet18"], "tensors of the encoder fit"),
        (["smp.ckpt", "-o", "x", "--model", "DeepLabv3_plus"], "which is UNet here and not DeepLabv3_plus"),
        (["smp.ckpt", "-o", "x", "--model", "UNte"], "did you mean 'UNet'?"),
        (["smp.ckpt", "-o", "x", "--network.encodr", "a"], "did you mean '--network.encoder'?"),
        (["smp.ckpt", "-o", "smp.ckpt"], "would overwrite the file"),
        (["smp.ckpt", "-o", "."], ".: is a folder; pass a file name, for example converted.safetensors"),
        (["smp.ckpt", "-o", "smp.ckpt/x"], "smp.ckpt/x: cannot be written, because smp.ckpt is not a folder"),
        (["smp.ckpt"], "the following arguments are required: -o/--output"),
        (["none.pth", "-o", "x"], "none.pth: no such weights file"),
    ],
)
def test_wrong_usage_is_a_one_line_error_and_writes_nothing(
    arguments: list[str], message: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path(file).read_bytes()
    assert main(["convert", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    errors = [line for line in captured.err.splitlines() if "error" in line]
    assert len(errors) == 1
    assert message in errors[0]
    assert os.listdir() == ["smp.ckpt"]  # noqa: PTH208
    assert Path(file).read_bytes() == before
