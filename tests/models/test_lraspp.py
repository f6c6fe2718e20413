"""LR-ASPP equals torchvision's, an implementation that we did not write."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from comparing import relative
from torch import Tensor, nn
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from imageseg.models.lraspp import LRASPP

Randomize = Callable[[nn.Module], nn.Module]
HEAD = {
    "classifier.cbr.0": "project.0",
    "classifier.cbr.1": "project.1",
    "classifier.scale.1": "gate.0",
    "classifier.low_classifier": "low_classifier",
    "classifier.high_classifier": "high_classifier",
}


def _translated(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict for our network: the encoder's tensors by their order, the head's by name."""
    of_encoder = [value for name, value in theirs.items() if name.startswith("backbone.")]
    names = [name for name in ours if name.startswith("encoder.")]
    assert len(of_encoder) == len(names) == 308
    translated = {name: value.view_as(ours[name]) for name, value in zip(names, of_encoder, strict=True)}
    for name, value in theirs.items():
        if name.startswith("classifier."):
            part, _, kind = name.rpartition(".")
            translated[f"{HEAD[part]}.{kind}"] = value
    return translated


@pytest.fixture
def pair(randomize: Randomize) -> tuple[LRASPP, nn.Module]:
    """Ours and theirs with the same weights."""
    theirs = randomize(lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)).eval()
    ours = LRASPP(21, pretrained=False, norm_epsilon=1e-3).eval()
    ours.load_state_dict(_translated(theirs.state_dict(), ours.state_dict()), strict=True)
    return ours, theirs


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (2, 3, 97, 131), generator=torch.Generator().manual_seed(3)).float()


def test_logits_equal_the_references(pair: tuple[LRASPP, nn.Module], images: Tensor) -> None:
    ours, theirs = pair
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(ours.normalize(images))["out"])


def test_double_precision_logits_equal_the_references(pair: tuple[LRASPP, nn.Module], images: Tensor) -> None:
    ours, theirs = (network.double() for network in pair)
    with torch.no_grad():
        assert relative(ours(images), theirs(ours.normalize(images))["out"]) < 1e-10


def _contracted(network: LRASPP) -> None:
    first = network.encoder.network.blocks[5][0].conv_dw  # type: ignore[union-attr,index]
    assert (first.dilation, first.padding) == ((2, 2), (4, 4))
    first.dilation, first.padding = (1, 1), (2, 2)


def _tapped_last(network: LRASPP) -> None:
    network.encoder._first_block_only = ""  # type: ignore[assignment]


def _other_epsilon(network: LRASPP) -> None:
    for layer in network.encoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 1e-5


@pytest.mark.parametrize("change", [_contracted, _tapped_last, _other_epsilon])
def test_the_comparison_notices(
    change: Callable[[LRASPP], None], pair: tuple[LRASPP, nn.Module], images: Tensor
) -> None:
    ours, theirs = pair
    change(ours)
    with torch.no_grad():
        assert relative(ours(images), theirs(ours.normalize(images))["out"]) > 1e-4


def test_gradients_equal_the_references(pair: tuple[LRASPP, nn.Module], images: Tensor) -> None:
    ours, theirs = (network.double() for network in pair)
    ours(images).square().mean().backward()
    theirs(ours.normalize(images))["out"].square().mean().backward()
    for theirs_part, ours_part in (("backbone.", "encoder."), ("classifier.", "")):
        found = [p.grad for name, p in ours.named_parameters() if name.startswith("encoder.") == bool(ours_part)]
        expected = [p.grad for name, p in theirs.named_parameters() if name.startswith(theirs_part)]
        assert len(found) == len(expected)
        for ours_gradient, theirs_gradient in zip(found, expected, strict=True):
            assert ours_gradient is not None
            assert theirs_gradient is not None
            assert relative(ours_gradient, theirs_gradient.view_as(ours_gradient)) < 1e-8


def test_parameter_count() -> None:
    with torch.device("meta"):
        network = LRASPP(21, pretrained=False)
    assert sum(parameter.numel() for parameter in network.parameters()) == 3_221_538


def test_the_epsilon_of_normalization_is_timms_unless_given() -> None:
    def epsilons(network: LRASPP) -> set[float]:
        return {layer.eps for layer in network.encoder.modules() if isinstance(layer, nn.BatchNorm2d)}

    small = {"encoder": "mobilenetv3_small_050", "pretrained": False}
    assert epsilons(LRASPP(2, **small)) == {1e-5}  # type: ignore[arg-type]
    assert epsilons(LRASPP(2, **small, norm_epsilon=1e-3)) == {1e-3}  # type: ignore[arg-type]


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("encoder", ["resnet18", "mobilenetv3_small_050"])
def test_details_have_stride_8_and_the_gated_map_has_the_output_stride(encoder: str, output_stride: int) -> None:
    network = LRASPP(3, encoder=encoder, pretrained=False, output_stride=output_stride).eval()
    with torch.no_grad():
        features = network.encoder(torch.zeros(1, 3, 64, 128))
        assert network.coarse_logits(torch.zeros(1, 3, 64, 128)).shape == (1, 3, 8, 16)
    assert features[network.low_level].shape[-2:] == (8, 16)
    assert features[-1].shape[-2:] == (64 // output_stride, 128 // output_stride)


def test_maps_other_than_that_of_stride_8_are_timms() -> None:
    network = LRASPP(3, encoder="mobilenetv3_small_050", pretrained=False, output_stride=32).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found, expected = network.encoder(images), network.encoder.network(images)  # type: ignore[operator]
    different = [not torch.equal(a, b) for a, b in zip(found, expected, strict=True)]
    assert different == [False, False, True, False, False]


def test_the_gate_uses_the_mean_of_the_complete_map() -> None:
    network = LRASPP(3, encoder="mobilenetv3_small_050", pretrained=False).eval()
    without = copy.deepcopy(network)
    nn.init.zeros_(without.gate[0].weight)  # type: ignore[arg-type]
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        features = network.encoder(images)
        gate = torch.sigmoid(features[-1].mean(dim=(2, 3)) @ network.gate[0].weight[:, :, 0, 0].T)  # type: ignore[index]
        network.high_classifier.weight.div_(gate.view(1, -1, 1, 1))
        without.high_classifier.weight.mul_(2)  # the gate of zero is one half
        assert torch.allclose(network.coarse_logits(images), without.coarse_logits(images), atol=1e-5)
