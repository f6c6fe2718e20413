"""EfficientViT for segmentation: its sizes, and its head against a second implementation of the paper with torch's functions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg.errors import InputError
from imageseg.models.efficientvit import EfficientViTSeg, bicubic, bicubic_by_matrices

Randomize = Callable[[nn.Module], nn.Module]
Activation = Callable[[Tensor], Tensor]


def _count(encoder: str, **arguments: int) -> int:
    with torch.device("meta"):
        network = EfficientViTSeg(19, encoder=encoder, pretrained=False, **arguments)  # type: ignore[arg-type]
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("encoder", "count", "without"),
    [
        ("efficientvit_b0", 706_691, 700_515),
        ("efficientvit_b1", 4_803_443, 4_782_899),
        ("efficientvit_b2", 15_323_779, 15_280_675),
        ("efficientvit_b3", 39_603_155, 39_529_299),
    ],
)
def test_parameter_counts(encoder: str, count: int, without: int) -> None:
    assert _count(encoder) == count
    assert _count(encoder, final_expand=1) == without


@pytest.mark.parametrize(("encoder", "depth"), [("efficientvit_l1", 3), ("efficientvit_l2", 5)])
def test_large_encoders_have_fused_blocks(encoder: str, depth: int) -> None:
    with torch.device("meta"):
        network = EfficientViTSeg(19, encoder=encoder, pretrained=False)
    kernels = [
        [(layer.kernel_size[0], layer.groups) for layer in block.modules() if isinstance(layer, nn.Conv2d)]
        for block in network.blocks
    ]
    assert kernels == [[(3, 1), (1, 1)]] * depth
    assert isinstance(network.expand, nn.Identity)
    assert network.classifier.in_channels == 256


def test_other_encoders_use_the_head_of_b1() -> None:
    network = EfficientViTSeg(3, encoder="resnet18", pretrained=False)
    assert (len(network.blocks), network.classifier.in_channels) == (3, 4 * 64)
    small = EfficientViTSeg(3, encoder="resnet18", pretrained=False, channels=8, depth=0, final_expand=2)
    assert (len(small.blocks), small.classifier.in_channels) == (0, 16)


def test_an_unknown_block_is_refused() -> None:
    with pytest.raises(InputError, match="block must be 'mbconv' or 'fused', found 'dsconv'"):
        EfficientViTSeg(3, encoder="resnet18", pretrained=False, block="dsconv")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "convs", "activation"),
    [
        ({"final_expand": 4}, 3, F.hardswish),
        ({"final_expand": 1, "depth": 2}, 3, F.hardswish),
        ({"block": "fused", "expand_ratio": 1, "final_expand": 2}, 2, lambda maps: F.gelu(maps, approximate="tanh")),
    ],
)
def test_logits_equal_those_of_the_paper_in_functions(
    arguments: dict[str, int], convs: int, activation: Activation, randomize: Randomize
) -> None:
    network = EfficientViTSeg(5, encoder="efficientvit_b0", pretrained=False, channels=12, **arguments)  # type: ignore[arg-type]
    randomize(network).double().eval()
    images = torch.randn(2, 3, 97, 131, dtype=torch.float64)
    with torch.no_grad():
        found = network.coarse_logits(images)
        features = network.encoder(images)[1:]
        state = dict(network.state_dict())
        expected = _paper(state, features, convs=convs, activation=activation)
        bilinear = _paper(state, features, convs=convs, activation=activation, mode="bilinear")
        relu = _paper(state, features, convs=convs, activation=F.relu)
    scale = expected.abs().max()
    assert (found - expected).abs().max() / scale < 1e-10
    assert (found - bilinear).abs().max() / scale > 1e-3, "another interpolation went unnoticed"
    assert (found - relu).abs().max() / scale > 1e-3, "another activation went unnoticed"


def _paper(
    state: dict[str, Tensor], features: list[Tensor], *, convs: int, activation: Activation, mode: str = "bicubic"
) -> Tensor:
    """The head that arXiv:2205.14756 describes with its architecture; from the state dict, without any of our layers."""

    def unit(maps: Tensor, conv: str, norm: str) -> Tensor:
        weight = state[f"{conv}.weight"]
        maps = F.conv2d(maps, weight, padding=weight.shape[-1] // 2, groups=maps.shape[1] // weight.shape[1])
        statistics = (state[f"{norm}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(maps, *statistics, training=False, eps=1e-5)

    maps = torch.zeros(())
    for index, level in enumerate(features):
        level = unit(level, f"inputs.{index}.0", f"inputs.{index}.1")
        maps = maps + F.interpolate(level, size=features[0].shape[-2:], mode=mode, align_corners=False)
    depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    for block in range(depth):
        inside = maps
        for conv in range(convs):
            inside = unit(inside, f"blocks.{block}.{3 * conv}", f"blocks.{block}.{3 * conv + 1}")
            inside = inside if conv == convs - 1 else activation(inside)
        maps = maps + inside
    if "expand.0.weight" in state:
        maps = activation(unit(maps, "expand.0", "expand.1"))
    return F.conv2d(maps, state["classifier.weight"], state["classifier.bias"])


def test_maps_are_resized_and_added_in_single_precision_under_autocast() -> None:
    network = EfficientViTSeg(3, encoder="efficientvit_b0", pretrained=False).eval()
    seen = []
    network.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        network(torch.zeros(1, 3, 64, 64))
    assert seen == [torch.float32]


def test_a_network_of_half_precision_predicts() -> None:
    network = EfficientViTSeg(3, encoder="efficientvit_b0", pretrained=False).eval().bfloat16()
    with torch.no_grad():
        logits = network(torch.zeros(1, 3, 40, 56))
    assert (logits.dtype, logits.shape) == (torch.bfloat16, (1, 3, 40, 56))


def test_bicubic_by_matrices_is_bicubic() -> None:
    maps = torch.randn(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    found, expected = bicubic_by_matrices(maps, (13, 25)), bicubic(maps, (13, 25))
    assert torch.allclose(found, expected, atol=1e-12)
    weights = torch.randn_like(expected)
    gradients = [torch.autograd.grad((resized * weights).sum(), maps)[0] for resized in (found, expected)]
    assert torch.allclose(*gradients, atol=1e-12)
    assert not torch.allclose(found, F.interpolate(maps, size=(13, 25), mode="bilinear"), atol=0.01)
