"""Checkpoints of imageseg initialize networks for other classes: classifier rows follow the class names, the rest stays."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import imageseg
from imageseg import Label, LabelSpace, Recipe
from imageseg.checkpoint import write_checkpoint
from imageseg.models.base import Network
from imageseg.registry import parameters_of
from imageseg.weights.classifier_rows import extra_classifier_rows

LogLines = Callable[[], list[str]]
SMALL: dict[str, dict[str, Any]] = {
    "FCN": {"encoder": "vgg11", "channels": 16},
    "FCN 16s": {"variant": "16s", "encoder": "resnet10t"},
    "FCN dilated": {"variant": "dilated", "encoder": "resnet10t", "aux": True},
    "FCN d6": {"variant": "d6", "encoder": "resnet10t"},
    "DeConvNet": {"encoder": "vgg11_bn", "bottleneck": "lite"},
    "UNet": {"encoder": "resnet10t", "decoder_channels": (16, 16, 16, 16, 16)},
    "UNetClassic": {"channels": (8, 16)},
    "SegNet": {"encoder": "vgg11_bn"},
    "FPN": {"encoder": "resnet10t"},
    "PSPNet": {"encoder": "resnet10t", "channels": 16},
    "DeepLabV3": {"encoder": "resnet10t", "channels": 16, "aux": True},
    "DeepLabv3_plus": {"encoder": "resnet10t"},
    "UPerNet": {"encoder": "resnet10t", "channels": 16, "aux_channels": 16},
    "LRASPP": {"encoder": "mobilenetv3_small_050"},
    "SegFormer": {"encoder": "pvt_v2_b0", "channels": 16},
    "EfficientViT": {"encoder": "efficientvit_b0"},
    "ViTLinear": {"encoder": "test_vit"},
    "EoMT": {"encoder": "test_vit", "num_queries": 5, "num_blocks": 2},
}
"""Every network, and its variants with other classifiers."""
THEIRS = tuple(f"thing {index}" for index in range(16))
"""As many classes as several of the networks above have channels."""


def _arguments(name: str) -> tuple[str, dict[str, Any]]:
    model = name.partition(" ")[0]
    return model, {
        **SMALL[name],
        **({"pretrained": False} if "pretrained" in parameters_of(imageseg.MODELS[model]) else {}),
    }


@functools.cache
def _extra_rows(name: str) -> dict[str, int]:
    return extra_classifier_rows(*_arguments(name))


@pytest.fixture(params=SMALL)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def theirs(name: str, tmp_path: Path) -> dict[str, Tensor]:
    """A state dict of random numbers, and a checkpoint that contains it."""
    model, arguments = _arguments(name)
    network = imageseg.build_model(model, len(THEIRS), **arguments)
    state = {
        key: torch.rand_like(value) if value.is_floating_point() else value
        for key, value in network.state_dict().items()
    }
    labels = LabelSpace(tuple(Label(name, (index, 0, 0)) for index, name in enumerate(THEIRS)))
    record = {"recipe": Recipe("VOC", model, network=arguments).to_dict(), "labels": labels.to_dict()}
    weights = {f"network.{key}": value for key, value in state.items()}
    write_checkpoint({"imageseg": record, "state_dict": weights}, tmp_path / "ours.ckpt")
    return state


def _built(name: str, class_names: tuple[str, ...] | None, count: int, folder: Path) -> Network:
    path = str(folder / "ours.ckpt")
    return imageseg.build_model(_arguments(name)[0], count, class_names=class_names, weights=path)


def test_every_network_is_tested() -> None:
    assert {name.partition(" ")[0] for name in SMALL} == set(imageseg.MODELS)


@pytest.mark.parametrize(
    "others", [("Thing_3", "sky", "thing 1"), ("thing 2", *(f"sky {i}" for i in range(14)), "thing 0")]
)
def test_classifier_rows_follow_class_names_and_other_tensors_stay(
    others: tuple[str, ...], name: str, theirs: dict[str, Tensor], tmp_path: Path, log_lines: LogLines
) -> None:
    network = _built(name, others, len(others), tmp_path)
    line = log_lines()[-1]
    assert "2 classes kept by name" in line
    known = {"Thing_3": 3} | {label: index for index, label in enumerate(THEIRS)}
    extra_rows = _extra_rows(name)
    assert extra_rows
    for key, value in network.state_dict().items():
        if key not in extra_rows:
            assert torch.equal(value, theirs[key]), key
            continue
        assert len(value) == len(others) + extra_rows[key]
        for row, label in enumerate(others):
            like = [index for index, other in enumerate(theirs[key]) if torch.equal(value[row], other)]
            assert like == ([known[label]] if label in known else []), key
        if extra_rows[key]:
            assert torch.equal(value[-1], theirs[key][-1]), "no object stays no object"


def test_the_same_classes_keep_every_tensor(
    name: str, theirs: dict[str, Tensor], tmp_path: Path, log_lines: LogLines
) -> None:
    for class_names in (THEIRS, tuple(label.upper() for label in THEIRS), None):
        network = _built(name, class_names, len(THEIRS), tmp_path)
        line = log_lines()[-1]
        assert "re-initialized" not in line
        assert all(torch.equal(value, theirs[key]) for key, value in network.state_dict().items())


def test_mask_classifiers_have_one_additional_row() -> None:
    assert _extra_rows("EoMT") == {"class_head.weight": 1, "class_head.bias": 1}
    assert _extra_rows("LRASPP") == dict.fromkeys(
        ("low_classifier.weight", "low_classifier.bias", "high_classifier.weight", "high_classifier.bias"), 0
    )


@pytest.mark.parametrize(("ours", "kept"), [(("天空", "路"), True), (("海", "山"), False)])
def test_class_names_in_any_script_are_compared(ours: tuple[str, ...], kept: bool) -> None:
    from imageseg.weights.classifier_rows import ClassifierRows

    value, there = torch.arange(2.0), torch.full((2,), 9.0)
    rows = ClassifierRows(ours, ("路", "天空"), {"bias": 0})
    assert rows.differ("bias", value, there)
    rows.copy_shared("bias", value, there)
    assert there.tolist() == ([1, 0] if kept else [9, 9])
