"""UNet equals segmentation_models_pytorch's, an implementation that we did not write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from comparing import relative
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg.errors import InputError
from imageseg.models.unet import UNet

Randomize = Callable[[nn.Module], nn.Module]


def _reference(encoder: str, num_classes: int, **arguments: Any) -> nn.Module:
    network: nn.Module = smp.Unet(encoder_name=encoder, encoder_weights=None, classes=num_classes, **arguments)
    return network


def _our_name(theirs: str) -> str:
    part, _, rest = theirs.partition(".")
    if part == "encoder":
        return f"encoder.network.{rest}"
    if part == "segmentation_head":
        return rest.replace("0.", "classifier.", 1)
    _, block, conv, *within, layer, kind = rest.split(".")  # blocks.<i>.conv<1 or 2>.<layer>.<kind>
    if conv.startswith("attention"):  # blocks.<i>.attention<1 or 2>.attention.<c or s>SE.<layer>.<kind>
        channel, shift = within[-1] == "cSE", 1 if within[-1] == "cSE" else 0  # theirs counts the pooling as a layer
        place = "before" if conv.endswith("1") else "after"
        return f"{place}.{block}.{'channel' if channel else 'place'}.{int(layer) - shift}.{kind}"
    return f"blocks.{block}.{int(conv.removeprefix('conv')) - 1}.{layer}.{kind}"


@pytest.fixture
def pair(randomize: Randomize) -> tuple[UNet, nn.Module]:
    """Ours and theirs with the same weights, in double precision."""
    theirs = randomize(_reference("resnet18", 7)).double().eval()
    ours = UNet(7, encoder="resnet18", pretrained=False).double().eval()
    ours.load_state_dict({_our_name(name): value for name, value in theirs.state_dict().items()}, strict=True)
    return ours, theirs


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 96, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def test_logits_equal_the_references(pair: tuple[UNet, nn.Module], images: Tensor) -> None:
    ours, theirs = pair
    with torch.no_grad():
        assert relative(ours.coarse_logits(images), theirs(images)) < 1e-10


def test_gradients_equal_the_references(pair: tuple[UNet, nn.Module], images: Tensor) -> None:
    ours, theirs = pair
    ours.coarse_logits(images).square().mean().backward()
    theirs(images).square().mean().backward()
    gradients = {_our_name(name): parameter.grad for name, parameter in theirs.named_parameters()}
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        assert relative(parameter.grad, gradients[name]) < 1e-9, name


def test_the_comparison_notices_another_interpolation(
    pair: tuple[UNet, nn.Module], images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pair
    with torch.no_grad():
        expected = theirs(images)
        bilinear = F.interpolate

        def interpolate(maps: Tensor, *, size: tuple[int, int], mode: str) -> Tensor:
            assert mode == "nearest"
            return bilinear(maps, size=size, mode="bilinear")

        monkeypatch.setattr("imageseg.models.unet.F.interpolate", interpolate)
        assert relative(ours.coarse_logits(images), expected) > 1e-3


def test_the_comparison_notices_a_missing_normalization(pair: tuple[UNet, nn.Module], images: Tensor) -> None:
    ours, theirs = pair
    ours.blocks[2][1][1] = nn.Identity()  # type: ignore[index]
    with torch.no_grad():
        assert relative(ours.coarse_logits(images), theirs(images)) > 1e-3


@pytest.mark.parametrize(
    ("encoder", "millions"), [("resnet18", 14.33), ("resnet34", 24.44), ("resnet50", 32.52)]
)  # segmentation_models_pytorch's own, in millions
def test_parameter_counts(encoder: str, millions: float) -> None:
    with torch.device("meta"):
        ours = sum(parameter.numel() for parameter in UNet(19, encoder=encoder, pretrained=False).parameters())
        theirs = sum(parameter.numel() for parameter in _reference(encoder, 19).parameters())
    assert ours == theirs
    assert round(ours / 1e6, 2) == millions


@pytest.mark.parametrize("encoder", ["convnext_atto", "vgg11_bn"])
@pytest.mark.parametrize("size", [(97, 131), (32, 47)])
def test_encoders_without_maps_at_every_stride_or_that_round_down(encoder: str, size: tuple[int, int]) -> None:
    network = UNet(3, encoder=encoder, pretrained=False, decoder_channels=(32, 16, 16, 8, 8)).eval()
    with torch.no_grad():
        logits = network.coarse_logits(torch.zeros(1, 3, *size))
    assert logits.shape == (1, 3, *size)


def test_decoder_channels_set_the_widths() -> None:
    network = UNet(3, encoder="resnet18", pretrained=False, decoder_channels=(40, 30, 20, 12, 6))
    assert [block[1][0].out_channels for block in network.blocks] == [40, 30, 20, 12, 6]  # type: ignore[index]
    assert network.classifier.in_channels == 6


@pytest.mark.parametrize(("attention", "upsample"), [("scse", "nearest"), (None, "bilinear"), ("scse", "bilinear")])
def test_options_equal_the_references(attention: Any, upsample: Any, randomize: Randomize, images: Tensor) -> None:
    theirs = _reference("resnet18", 7, decoder_attention_type=attention, decoder_interpolation=upsample)
    randomize(theirs).double().eval()
    ours = UNet(7, encoder="resnet18", pretrained=False, attention=attention, upsample=upsample).double().eval()
    weights = {_our_name(name): value for name, value in theirs.state_dict().items()}
    unused = [name for name in weights if name.startswith("before.4.")]  # the last step of theirs joins no skip
    assert len(unused) == (6 if attention else 0)
    ours.load_state_dict({name: value for name, value in weights.items() if name not in unused}, strict=True)
    with torch.no_grad():
        assert relative(ours.coarse_logits(images), theirs(images)) < 1e-10
        ours.upsample = "nearest" if upsample == "bilinear" else "bilinear"
        assert relative(ours.coarse_logits(images), theirs(images)) > 1e-4, "another interpolation went unnoticed"
        ours.upsample = upsample
        if attention:
            ours.before[0], ours.after[0] = nn.Identity(), nn.Identity()
            assert relative(ours.coarse_logits(images), theirs(images)) > 1e-4, "missing attention went unnoticed"


def test_every_parameter_of_the_attention_gets_a_gradient() -> None:
    network = UNet(3, encoder="resnet18", pretrained=False, attention="scse")
    network(torch.randint(0, 256, (2, 3, 64, 64))).square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_other_numbers_of_channels() -> None:
    network = UNet(3, encoder="resnet18", pretrained=False, in_channels=1).eval()
    assert network(torch.zeros(1, 1, 64, 64)).shape == (1, 3, 64, 64)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(InputError, match="attention must be 'scse' or null, found 'cbam'"):
        UNet(3, encoder="resnet18", pretrained=False, attention="cbam")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="upsample must be 'nearest' or 'bilinear', found 'cubic'"):
        UNet(3, encoder="resnet18", pretrained=False, upsample="cubic")  # type: ignore[arg-type]
