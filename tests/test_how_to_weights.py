"""docs/how-to/weights-from-elsewhere.md: it names every supported source, and its commands run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from fakes import write_voc
from PIL import Image

from imageseg import build_model
from imageseg.cli import COMMANDS, main
from imageseg.cli.arguments import recipe_from
from imageseg.models import MODELS, WeightFiles
from imageseg.registry import parameters_of
from imageseg.weights.sources import SOURCES

PAGE = (Path(__file__).parents[1] / "docs/how-to/weights-from-elsewhere.md").read_text(encoding="utf-8")
PROJECTS = {"SMP": "segmentation_models_pytorch", "NVlabs": "NVlabs/SegFormer"}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_every_source_is_on_the_page(source: object) -> None:
    name = source.name  # type: ignore[attr-defined]
    project = re.split(r"'s? ", name)[0]
    assert PROJECTS.get(project, project) in PAGE
    assert source.refusal or source.model in PAGE  # type: ignore[attr-defined]


FILE = "deeplabv3_resnet50_coco-cd0a2569.pth"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, flags=re.S)
COMMANDS_OF_PAGE = [
    line for kind, block in BLOCKS if kind == "bash" for line in block.splitlines() if "pip" not in line
]
COMMANDS_OF_PAGE += re.findall(r"`(imageseg [a-z]+ [^`]+)`", PAGE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create the inputs of the page's commands: weights files with random values, VOC with three images, a photograph."""
    folder = tmp_path_factory.mktemp("page")
    torch.manual_seed(0)
    network = torchvision.models.segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, aux_loss=True)
    torch.save(network.state_dict(), folder / FILE)
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), folder / "resnet50-11ad3fa6.pth")
    write_voc(folder / "data" / "VOC")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)).save(folder / "holiday.jpg")
    return folder


def _log_lines(text: str) -> list[str]:
    """Return the log lines, which the page wraps."""
    return re.findall(r"imageseg: .*", " ".join(text.split()).replace(" imageseg: ", "\nimageseg: "))


def test_every_command_of_the_page_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """For training, only the recipe is read and the network built."""
    monkeypatch.chdir(folder)
    logged: list[str] = []
    words = [shlex.split(command) for command in COMMANDS_OF_PAGE]
    assert {command for _, command, *_ in words} == {"train", "convert", "predict", "evaluate", "models"}
    for _, command, *arguments in words:
        assert command in COMMANDS
        if command == "models":
            arguments += ["--limit", "2"]  # each takes about a second
        if command != "train":
            assert main([command, *arguments]) == 0, capsys.readouterr().err
            continue
        recipe = recipe_from(arguments, program="imageseg train")
        if not {"weights", "encoder_weights"} & {name for name, value in recipe.network.items() if value is not None}:
            continue  # starts from the weights of an installed package
        caplog.clear()
        with caplog.at_level("INFO", logger="imageseg"):
            network = build_model(recipe.model, 21, **recipe.network)
        logged += caplog.messages
        assert network.pretrained
    (expected,) = [block for kind, block in BLOCKS if kind == "text"]
    assert [f"imageseg: {line}" for line in logged] == _log_lines(expected)
    assert (folder / "voc.safetensors").exists()


def test_the_python_example_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (call,) = re.findall(r"In Python: `imageseg\.build_model\((.*?)\)`", PAGE)
    assert call == f'"DeepLabV3", 21, weights="{FILE}"'
    assert build_model("DeepLabV3", 21, weights=FILE).pretrained


def test_flags_on_the_page_exist() -> None:
    flags = set(re.findall(r"--([a-z_.]+)", PAGE))
    assert {flag.removeprefix("network.") for flag in flags if flag.startswith("network.")} <= {
        name for takes in (*MODELS.values(), WeightFiles) for name in parameters_of(takes)
    }


def test_the_page_is_short() -> None:
    assert len(PAGE.splitlines()) < 120
    assert not [line for line in PAGE.splitlines() if len(line) > 200 and not line.startswith("|")]
