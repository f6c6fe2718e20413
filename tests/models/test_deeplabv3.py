"""DeepLabV3 equals torchvision's and segmentation_models_pytorch's, which we did not write."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

import pytest
import segmentation_models_pytorch as smp
import torch
from comparing import relative
from torch import Tensor, nn
from torchvision.models import segmentation

from imageseg.errors import InputError
from imageseg.models.deeplabv3 import DeepLabV3

Randomize = Callable[[nn.Module], nn.Module]
Policy = Literal["contract", "full"]


def _torchvision(name: str, *, aux: bool = True) -> nn.Module:
    build = getattr(segmentation, name)
    network: nn.Module = build(weights=None, weights_backbone=None, num_classes=7, aux_loss=aux)
    return network


def _name_from_torchvision(theirs: str) -> str:
    ours = re.sub(r"^backbone\.", "encoder.network.", theirs)
    ours = re.sub(r"^classifier\.0\.convs\.4\.(\d)", lambda m: f"aspp.pooled.{int(m[1]) - 1}", ours)
    ours = re.sub(r"^classifier\.0\.", "aspp.", ours)
    ours = re.sub(r"^classifier\.([12])\.", lambda m: f"conv.{int(m[1]) - 1}.", ours)
    ours = re.sub(r"^classifier\.4\.", "classifier.", ours)
    return re.sub(r"^aux_classifier\.", "auxiliary.", ours)


def _name_from_smp(theirs: str) -> str:
    ours = re.sub(r"^encoder\.", "encoder.network.", theirs)
    ours = re.sub(r"^decoder\.aspp\.convs\.4\.(\d)", lambda m: f"aspp.pooled.{int(m[1]) - 1}", ours)
    ours = re.sub(r"^decoder\.aspp\.", "aspp.", ours)
    ours = ours.replace("decoder.conv.", "conv.0.").replace("decoder.bn.", "conv.1.")
    return ours.replace("segmentation_head.0.", "classifier.")


def _taken_over(ours: DeepLabV3, theirs: nn.Module, name: Callable[[str], str]) -> DeepLabV3:
    ours.to(next(theirs.parameters()).dtype).load_state_dict({name(k): v for k, v in theirs.state_dict().items()})
    return ours.eval()


def _images(dtype: torch.dtype = torch.float32, height: int = 97, width: int = 129) -> Tensor:
    return torch.randn(2, 3, height, width, dtype=dtype, generator=torch.Generator().manual_seed(3))


def _plain(network: DeepLabV3) -> DeepLabV3:
    """A reference network for images that are already normalized."""
    network.mean.zero_()
    network.std.fill_(1)
    return network


@pytest.mark.parametrize("encoder", ["resnet50", "resnet101"])
def test_logits_equal_torchvisions(encoder: str, randomize: Randomize, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = randomize(_torchvision(f"deeplabv3_{encoder}")).eval()
    ours = DeepLabV3(7, encoder=encoder, pretrained=False, output_stride=8, aux=True)
    _plain(_taken_over(ours, theirs, _name_from_torchvision))
    images = _images()
    with torch.no_grad():
        expected = theirs(images)
        logits, (auxiliary,) = ours.forward_with_aux(images)
        assert relative(logits, expected["out"]) < 1e-5
        assert torch.equal(auxiliary, expected["aux"])
        # To the bit, once theirs pools features as ours does: a mean, and no interpolation of that one value.
        monkeypatch.setattr(segmentation.deeplabv3.ASPPPooling, "forward", _pooled)
        assert torch.equal(logits, theirs(images)["out"])


def _pooled(layers: nn.Sequential, maps: Tensor) -> Tensor:
    pooled: Tensor = nn.Sequential(*list(layers)[1:])(maps.mean(dim=(2, 3), keepdim=True))
    return pooled.expand(-1, -1, *maps.shape[-2:])


@pytest.mark.parametrize(
    "other",
    [{"first_block": "full"}, {"align_corners": True}, {"rates": (6, 12, 18)}, {"multi_grid": (1, 2, 4)}],
    ids=str,
)
def test_the_comparison_notices_another_policy(other: dict[str, Any], randomize: Randomize) -> None:
    theirs = randomize(_torchvision("deeplabv3_resnet50")).eval()
    ours = DeepLabV3(7, encoder="resnet50", pretrained=False, output_stride=8, aux=True, **other)
    _plain(_taken_over(ours, theirs, _name_from_torchvision))
    images = _images()
    with torch.no_grad():
        assert relative(ours(images), theirs(images)["out"]) > 1e-3


def test_gradients_equal_torchvisions(randomize: Randomize) -> None:
    """In training, normalization by batch statistics included; dropout, which draws, is off."""
    theirs = randomize(_torchvision("deeplabv3_resnet50")).double()
    ours = DeepLabV3(7, encoder="resnet50", pretrained=False, output_stride=8, aux=True)
    _plain(_taken_over(ours, theirs, _name_from_torchvision))
    for network in (ours, theirs):
        network.train()
        for layer in network.modules():
            if isinstance(layer, nn.Dropout):
                layer.eval()
    images = _images(torch.float64, 49, 65)
    logits, (auxiliary,) = ours.forward_with_aux(images)
    expected = theirs(images)
    assert relative(logits, expected["out"]) < 1e-10
    (logits.square().mean() + 0.5 * auxiliary.square().mean()).backward()
    (expected["out"].square().mean() + 0.5 * expected["aux"].square().mean()).backward()
    gradients = {_name_from_torchvision(name): parameter.grad for name, parameter in theirs.named_parameters()}
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        assert gradients[name] is not None
        assert relative(parameter.grad, gradients[name]) < 1e-8, name


def test_torchvisions_mobilenet_fits_except_for_its_auxiliary_head(randomize: Randomize) -> None:
    """Its tensors are timm's in the same order; its normalizations have another epsilon, its encoder the full policy."""
    theirs = randomize(_torchvision("deeplabv3_mobilenet_v3_large", aux=False)).double().eval()
    images = _images(torch.float64)
    differences: dict[Policy, float] = {}
    policies: tuple[Policy, ...] = ("full", "contract")
    for policy in policies:
        ours = _plain(
            DeepLabV3(
                7,
                encoder="mobilenetv3_large_100",
                pretrained=False,
                output_stride=16,
                rates=(12, 24, 36),
                first_block=policy,
            )
        ).double()
        state = {_name_from_torchvision(name): value for name, value in theirs.state_dict().items()}
        theirs_encoder = [value for name, value in state.items() if name.startswith("encoder.")]
        ours_encoder = [(name, value) for name, value in ours.state_dict().items() if name.startswith("encoder.")]
        state = {name: value for name, value in state.items() if not name.startswith("encoder.")}
        for (name, old), new in zip(ours_encoder, theirs_encoder, strict=True):
            state[name] = new.reshape(old.shape)
        ours.load_state_dict(state)
        for layer in ours.eval().encoder.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps = 1e-3
        with torch.no_grad():
            differences[policy] = relative(ours(images), theirs(images)["out"])
    assert differences["full"] < 1e-10
    assert differences["contract"] > 1e-4


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_logits_are_those_of_segmentation_models_pytorch(
    dtype: torch.dtype, limit: float, randomize: Randomize
) -> None:
    theirs = randomize(smp.DeepLabV3("resnet50", encoder_weights=None, classes=7)).to(dtype).eval()
    images = _images(dtype, 64, 96)[:1]  # theirs refuses sizes that 8 does not divide
    differences = {}
    policies: tuple[Policy, ...] = ("full", "contract")
    for policy in policies:
        for align_corners in (True, False):
            ours = DeepLabV3(
                7,
                encoder="resnet50",
                pretrained=False,
                output_stride=8,
                first_block=policy,
                align_corners=align_corners,
            )
            _plain(_taken_over(ours, theirs, _name_from_smp))
            with torch.no_grad():
                differences[policy, align_corners] = relative(ours(images), theirs(images))
    assert differences.pop(("full", True)) < limit
    assert min(differences.values()) > 1e-3


@pytest.mark.parametrize(
    ("encoder", "num_classes", "aux", "count"),
    [
        ("resnet50", 21, False, 39_638_869),
        ("resnet50", 21, True, 42_004_074),
        ("resnet101", 21, False, 58_630_997),
        ("mobilenetv3_large_100", 21, False, 11_025_477),
    ],
)  # torchvision's own
def test_parameter_counts(encoder: str, num_classes: int, aux: bool, count: int) -> None:
    with torch.device("meta"):
        network = DeepLabV3(num_classes, encoder=encoder, pretrained=False, aux=aux)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_without_the_head_convolution_the_network_is_the_papers() -> None:
    with torch.device("meta"):
        paper, published = (DeepLabV3(21, pretrained=False, head_conv=with_conv) for with_conv in (False, True))
    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in (paper, published)]
    assert counts[1] - counts[0] == 256 * 256 * 9 + 2 * 256


@pytest.mark.parametrize(
    ("output_stride", "rates", "last_stage"),
    [(16, [6, 12, 18], [2, 4, 8]), (8, [12, 24, 36], [4, 8, 16])],
)
def test_rates_and_multi_grid_of_the_paper(output_stride: int, rates: list[int], last_stage: list[int]) -> None:
    with torch.device("meta"):
        network = DeepLabV3(21, pretrained=False, output_stride=output_stride, multi_grid=(1, 2, 4), first_block="full")
    assert [conv[0].dilation[0] for conv in network.aspp.convs][1:] == rates  # type: ignore[index]
    assert [block.conv2.dilation[0] for block in network.encoder.network["layer4"]] == last_stage  # type: ignore[index, operator]


def test_images_may_have_other_numbers_of_channels() -> None:
    network = DeepLabV3(3, encoder="resnet18", pretrained=False, in_channels=5, channels=16).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 5, 33, 47)).shape == (1, 3, 33, 47)


def test_without_an_auxiliary_head_there_are_no_auxiliary_logits() -> None:
    network = DeepLabV3(3, encoder="resnet18", pretrained=False, channels=16).eval()
    with torch.no_grad():
        assert network.forward_with_aux(torch.zeros(1, 3, 33, 47))[1] == []


def test_a_multi_grid_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="each of the 2 blocks in the last stage of encoder 'resnet18'"):
        DeepLabV3(3, encoder="resnet18", pretrained=False, multi_grid=(1, 2, 4))
