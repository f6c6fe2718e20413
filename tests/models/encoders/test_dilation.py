"""The two dilation policies, each against an implementation that we did not write, and multi-grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large, resnet50
from torchvision.models._utils import IntermediateLayerGetter

from imageseg.errors import InputError
from imageseg.models.encoders.dilation import set_multi_grid
from imageseg.models.encoders.timm_encoder import Encoder

Randomize = Callable[[nn.Module], nn.Module]


def _encoder(name: str, **arguments: Any) -> Encoder:
    with torch.device("meta"):
        return Encoder(name, pretrained=False, **arguments).eval()


def _dilations(module: nn.Module) -> list[int]:
    """Dilation of all convolutions larger than 1x1, in order."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    return [layer.dilation[0] for layer in layers if max(layer.kernel_size) > 1]


def _images() -> Tensor:
    return torch.randn(1, 3, 97, 129, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def _worst(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    assert [maps.shape for maps in found] == [maps.shape for maps in expected]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("name", "last_stages"),
    [
        ("resnet18", [2, 2, 2, 2, 4, 4, 4, 4]),
        ("resnet50", [2, 2, 2, 2, 2, 2, 4, 4, 4]),
        ("test_resnet", [2, 4, 4]),  # stages of a single block
        ("resnest50d", [2, 2, 2, 2, 2, 2, 4, 4, 4]),  # strides in a pooling that dilation takes out
        ("skresnet18", [2, 4, 2, 2, 4, 2, 4, 8, 4, 4, 8, 4]),  # paths of dilation 1 and 2 in one block
        ("regnety_008", [2, 2, 2, 2, 2, 2, 2, 2, 4, 4]),
        ("resnetv2_50", [2, 2, 2, 2, 2, 2, 4, 4, 4]),
        ("convnext_atto", [2, 2, 2, 2, 2, 2, 2, 4, 4, 4]),  # the first of each is the 2x2 step between the stages
        ("efficientnet_b0", [2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4]),  # two of timm's stages per stride
        ("mobilenetv3_small_050", [2, 2, 2, 2, 2, 4, 4, 4]),
        ("mixnet_s", [2] * 18 + [4] * 13),  # several kernels in one layer
    ],
)
def test_the_first_block_takes_the_new_dilation_at_once(name: str, last_stages: list[int]) -> None:
    full, contract = (_encoder(name, output_stride=8, first_block=policy) for policy in ("full", "contract"))
    count = len(last_stages)
    assert _dilations(full)[-count:] == last_stages
    assert set(_dilations(full)[:-count]) == set(_dilations(contract)[:-count])
    assert _dilations(contract)[-count:] != last_stages
    for size in ((97, 131), (64, 64)):
        images = torch.zeros(1, 3, *size, device="meta")
        assert [maps.shape for maps in full(images)] == [maps.shape for maps in contract(images)]


def test_without_dilation_there_is_one_policy() -> None:
    assert set(_dilations(_encoder("resnet18", first_block="full"))) == {1}


@pytest.mark.filterwarnings("ignore:.*encoders are deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "timm-efficientnet-b0"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_full_is_what_segmentation_models_pytorch_does(name: str, output_stride: int, randomize: Randomize) -> None:
    theirs = smp.encoders.get_encoder(name, weights=None, output_stride=output_stride).double().eval()
    randomize(theirs)
    images = _images()
    differences = {}
    for policy in ("full", "contract"):
        ours = Encoder(
            name.removeprefix("timm-").replace("t-b", "t_b"),
            pretrained=False,
            output_stride=output_stride,
            first_block=policy,  # type: ignore[arg-type]
        )
        known = ours.double().eval().network.state_dict().keys()
        ours.network.load_state_dict({key: value for key, value in theirs.state_dict().items() if key in known})
        with torch.no_grad():
            differences[policy] = _worst(ours(images)[1:], theirs(images)[2:])
    assert differences["full"] < 1e-10
    assert differences["contract"] > 1e-3


def test_contract_is_what_torchvision_does_in_resnets(randomize: Randomize) -> None:
    dilated = resnet50(replace_stride_with_dilation=[False, True, True])
    layers = {"layer2": "2", "layer3": "3", "layer4": "4"}
    theirs = randomize(IntermediateLayerGetter(dilated, layers)).double().eval()
    images = _images()
    differences = {}
    for policy in ("full", "contract"):
        ours = Encoder("resnet50", pretrained=False, output_stride=8, first_block=policy)  # type: ignore[arg-type]
        ours.double().eval().network.load_state_dict(theirs.state_dict())
        with torch.no_grad():
            differences[policy] = _worst(ours(images)[2:], list(theirs(images).values()))
    assert differences["contract"] < 1e-10
    assert differences["full"] > 1e-3


def test_full_is_what_torchvision_does_in_mobilenets(randomize: Randomize) -> None:
    theirs = randomize(mobilenet_v3_large(dilated=True).features).double().eval()
    images = _images()
    differences = {}
    for policy in ("full", "contract"):
        ours = Encoder("mobilenetv3_large_100", pretrained=False, output_stride=16, first_block=policy)  # type: ignore[arg-type]
        state = ours.double().eval().network.state_dict()
        # Both hold the same tensors in the same order; squeeze and excitation is linear here and 1x1 there.
        values = [value for name, value in theirs.state_dict().items()]
        ours.network.load_state_dict(
            {name: new.reshape(old.shape) for (name, old), new in zip(state.items(), values, strict=True)}
        )
        for layer in ours.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps = 1e-3
        with torch.no_grad():
            differences[policy] = _worst(ours(images)[-1:], [theirs(images)])
    assert differences["full"] < 1e-10
    assert differences["contract"] > 1e-3


@pytest.mark.parametrize(
    ("name", "multi_grid", "output_stride", "last_stage"),
    [
        ("resnet50", (1, 2, 4), 16, [2, 4, 8]),  # DeepLabV3, section 4.2
        ("resnet50", (1, 2, 4), 8, [4, 8, 16]),
        ("resnet50", (1, 2, 4), 32, [1, 2, 4]),
        ("resnet18", (1, 2), 16, [2, 2, 4, 4]),
        ("convnext_atto", (2, 4), 16, [4, 8]),
        ("efficientnet_b0", (1, 2, 1, 2, 1), 16, [2, 4, 2, 4, 2]),
        ("mobilenetv3_small_050", (1, 2, 4), 16, [2, 4, 8]),
    ],
)
def test_multi_grid_multiplies_the_dilation_of_each_block(
    name: str, multi_grid: tuple[int, ...], output_stride: int, last_stage: list[int]
) -> None:
    encoder = _encoder(name, output_stride=output_stride, first_block="full")
    images = torch.zeros(1, 3, 97, 131, device="meta")
    before, shapes = _dilations(encoder), [maps.shape for maps in encoder(images)]
    set_multi_grid(encoder.network, multi_grid, encoder=name)
    count = len(last_stage)
    assert _dilations(encoder) == [*before[:-count], *last_stage]
    assert [maps.shape for maps in encoder(images)] == shapes


@pytest.mark.parametrize(
    ("name", "multi_grid", "message"),
    [
        ("resnet18", (1, 2, 4), r"one factor of 1 or more for each of the 2 blocks.*'resnet18', found \(1, 2, 4\)"),
        ("resnet50", (1, 2, 0), r"each of the 3 blocks.*found \(1, 2, 0\)"),
        ("repvgg_a0", (1,), "'repvgg_a0' has no blocks for multi_grid"),
    ],
)
def test_a_multi_grid_that_does_not_fit_is_refused(name: str, multi_grid: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        set_multi_grid(_encoder(name, output_stride=16).network, multi_grid, encoder=name)
