"""Networks, predictions and losses give on CUDA what they give on the CPU."""

from __future__ import annotations

import copy
import os
from typing import Any

import numpy as np
import pytest
import torch
from comparing import relative
from torch import nn

import imageseg
from imageseg import Label, LabelSpace, Predictor
from imageseg.models.base import Network, classes_at, most_likely, resize
from imageseg.training.losses.plain import LOSSES
from imageseg.training.task import PIXEL_LOSSES, SegmentationTask

pytestmark = pytest.mark.accelerator

LABELS = LabelSpace(tuple(Label(f"class {i}", (i, 0, 0), (i,)) for i in range(5)))


@pytest.fixture
def network() -> Network:
    return imageseg.build_model("LRASPP", 5, encoder="mobilenetv3_small_050", pretrained=False).eval()


def test_most_likely_takes_the_first_of_equal_logits(device: torch.device) -> None:
    logits = torch.randint(0, 3, (2, 7, 33, 41)).float()
    expected = most_likely(logits)
    for order in (torch.contiguous_format, torch.channels_last):
        found = most_likely(logits.to(device).contiguous(memory_format=order))
        assert found.dtype == torch.uint8
        assert torch.equal(found.cpu(), expected)


@pytest.mark.parametrize("size", [(64, 96), (50, 70)])
@pytest.mark.parametrize("align_corners", [False, True])
def test_classes_in_bands_are_those_of_resized_logits(
    device: torch.device, size: tuple[int, int], *, align_corners: bool
) -> None:
    logits = torch.randn(2, 5, 16, 24, device=device)
    expected = resize(logits, size, align_corners=align_corners).argmax(1)
    found = classes_at(logits, size, align_corners=align_corners)
    assert float((found == expected).float().mean()) > 0.999  # two classes may be equal to rounding


def test_logits_are_those_of_the_cpu(device: torch.device, network: Network) -> None:
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        expected = network(images)
        found = copy.deepcopy(network).to(device, memory_format=torch.channels_last)(images.to(device))
    assert relative(found.cpu(), expected) < 1e-3


def test_a_predictor_gives_the_classes_of_the_cpu(device: torch.device, network: Network) -> None:
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    expected = Predictor(copy.deepcopy(network), LABELS, device="cpu")(image).classes
    predictor = Predictor(network, LABELS, device=device.type)
    prediction = predictor(image, confidence=True)
    assert next(predictor.network.parameters()).device.type == device.type
    assert prediction.confidence is not None
    assert (prediction.classes == expected).mean() > 0.999
    assert (predictor(image).classes == expected).mean() > 0.999


def test_fast_prediction_has_nearly_the_logits_of_the_cpu(device: torch.device, network: Network) -> None:
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    predictor = Predictor(copy.deepcopy(network), LABELS, device=device.type, fast=True)
    with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16):
        found = predictor.network(images.to(device)).float().cpu()
    with torch.inference_mode():
        assert relative(found, network(images)) < 0.1  # the bound of every network in bfloat16


def test_a_predictor_takes_cuda_by_itself(cuda: torch.device, network: Network) -> None:
    assert Predictor(network, LABELS).device.type == "cuda"


@pytest.mark.parametrize("name", PIXEL_LOSSES)
@pytest.mark.parametrize("size", [(64, 96), (300, 290)])
def test_losses_on_coarse_logits_are_the_plain_ones(device: torch.device, name: str, size: tuple[int, int]) -> None:
    logits = torch.randn(2, 5, 16, 24)
    mask = torch.randint(0, 5, (2, *size), dtype=torch.uint8)
    mask[:, :5] = 255
    ours, plain = (logits.to(place, copy=True).requires_grad_() for place in (device, "cpu"))
    found = PIXEL_LOSSES[name](ours, mask.to(device))
    expected = LOSSES[name](resize(plain, size), mask, None)
    found.backward()
    expected.backward()
    assert ours.grad is not None
    assert plain.grad is not None
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    assert relative(ours.grad.cpu(), plain.grad) < 1e-3


def test_a_task_keeps_channels_last_on_the_device(device: torch.device, network: Network) -> None:
    task = SegmentationTask(network, LABELS).to(device)
    images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8, device=device)
    assert task._images({"image": images, "mask": images[:, 0], "name": []}).is_contiguous(
        memory_format=torch.channels_last
    )
    kernels = [
        layer.weight for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)
    ]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


@pytest.mark.filterwarnings("ignore:.*deterministic")
@pytest.mark.parametrize("model", ["LRASPP", "DeepLabv3_plus"])
def test_gradients_repeat_in_deterministic_mode(
    device: torch.device, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", os.environ.get("CUBLAS_WORKSPACE_CONFIG", ":4096:8"))
    torch.use_deterministic_algorithms(True, warn_only=True)
    arguments: dict[str, Any] = {
        "LRASPP": {"encoder": "mobilenetv3_small_050"},
        "DeepLabv3_plus": {"encoder": "resnet10t", "dropout": 0.0},
    }[model]
    original = imageseg.build_model(model, 5, pretrained=False, **arguments)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    mask = torch.randint(0, 5, (2, 64, 64), dtype=torch.uint8)
    gradients = []
    for _ in range(2):
        network = copy.deepcopy(original).to(device).train()
        logits, _ = network.coarse_logits_with_aux(network.normalize(images.to(device)))
        PIXEL_LOSSES["cross_entropy"](logits, mask.to(device)).backward()
        gradients.append([parameter.grad for parameter in network.parameters() if parameter.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
