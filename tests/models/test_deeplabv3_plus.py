"""DeepLabV3+: its size, its strides, and its head against a second implementation of the paper with torch's functions."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg.errors import InputError
from imageseg.models.base import resize
from imageseg.models.deeplabv3_plus import DeepLabV3Plus
from imageseg.models.layers.aspp import ASPP

Randomize = Callable[[nn.Module], nn.Module]
EPSILON = 1e-5


def _network(**arguments: object) -> DeepLabV3Plus:
    return DeepLabV3Plus(5, **{"encoder": "resnet18", "pretrained": False} | arguments)  # type: ignore[arg-type]


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _plain(cin: int, cout: int, kernel: int) -> int:
    return cin * cout * kernel**2 + 2 * cout  # no bias; weight and bias of the normalization


def _separable(cin: int, cout: int) -> int:
    return 9 * cin + 2 * cin + _plain(cin, cout, 1)


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("output_stride", [16, 8])
def test_the_head_has_the_parameters_of_the_paper(separable: bool, output_stride: int) -> None:
    with torch.device("meta"):
        network = DeepLabV3Plus(
            19, encoder="resnet50", pretrained=False, separable=separable, output_stride=output_stride
        )
    three = _separable if separable else lambda cin, cout: _plain(cin, cout, 3)
    aspp = 2 * _plain(2048, 256, 1) + 3 * three(2048, 256) + _plain(5 * 256, 256, 1)
    decoder = _plain(256, 48, 1) + three(256 + 48, 256) + three(256, 256)
    assert _count(network) - _count(network.encoder) == aspp + decoder + 256 * 19 + 19


@pytest.mark.parametrize(
    ("encoder", "num_classes", "separable", "count"),
    [
        ("resnet50", 19, False, 40.35e6),
        ("resnet50", 19, True, 26.70e6),
        ("resnet101", 19, True, 45.69e6),
        ("resnet101", 21, False, 59_344_309),
    ],
)
def test_parameter_counts(encoder: str, num_classes: int, separable: bool, count: float) -> None:
    with torch.device("meta"):
        network = DeepLabV3Plus(num_classes, encoder=encoder, pretrained=False, separable=separable)
    found = _count(network)
    assert found == count if isinstance(count, int) else round(found / 1e6, 2) == round(count / 1e6, 2)


@pytest.mark.parametrize(("output_stride", "rates"), [(8, (12, 24, 36)), (16, (6, 12, 18)), (32, (3, 6, 9))])
def test_rates_and_maps_follow_the_output_stride(output_stride: int, rates: tuple[int, ...]) -> None:
    network = _network(output_stride=output_stride).eval()
    assert _rates(network.aspp) == [1, *rates]
    with torch.no_grad():
        last = network.encoder(torch.zeros(1, 3, 97, 131))[-1]
        logits = network.coarse_logits(torch.zeros(1, 3, 97, 131))
    assert last.shape[-2:] == (-(-97 // output_stride), -(-131 // output_stride))
    assert logits.shape[-2:] == (25, 33)


def _rates(aspp: ASPP) -> list[int]:
    return [next(layer for layer in conv if isinstance(layer, nn.Conv2d)).dilation[0] for conv in aspp.convs]  # type: ignore[union-attr]


def test_rates_may_be_given() -> None:
    network = _network(rates=(2, 5))
    assert _rates(network.aspp) == [1, 2, 5]
    assert network.eval()(torch.zeros(1, 3, 33, 47)).shape == (1, 5, 33, 47)


def test_the_separable_variant_has_no_plain_3x3_convolution_in_its_head() -> None:
    def plain(network: DeepLabV3Plus) -> int:
        layers = [layer for part in (network.aspp, network.decoder) for layer in part.modules()]
        return sum(isinstance(x, nn.Conv2d) and x.kernel_size == (3, 3) and x.groups == 1 for x in layers)

    assert plain(_network(separable=True)) == 0
    assert plain(_network()) == 5


@pytest.mark.parametrize("decoder_convs", [1, 3])
def test_the_number_of_decoder_convolutions_may_be_given(decoder_convs: int) -> None:
    network = _network(decoder_convs=decoder_convs, channels=32, low_level_channels=8)
    widths = [layer.in_channels for layer in network.decoder.modules() if isinstance(layer, nn.Conv2d)]
    assert widths == [40, 32, 32][:decoder_convs]


def test_an_unknown_output_stride_is_refused() -> None:
    with pytest.raises(InputError, match="output_stride must be 8, 16 or 32, found 4"):
        _network(output_stride=4)


def test_dropout_acts_in_training_only() -> None:
    network = _network(dropout=0.5).double()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.0
    images = torch.rand(2, 3, 33, 47)
    with torch.no_grad():
        assert not torch.equal(network.train()(images), network(images))
        assert torch.equal(network.eval()(images), network(images))
    assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("output_stride", [16, 8])
def test_logits_equal_those_of_the_paper_in_functions(
    randomize: Randomize, separable: bool, output_stride: int
) -> None:
    rates = (1, 2, 4)  # on maps this small, larger ones would see padding alone
    network = _network(
        separable=separable, output_stride=output_stride, rates=rates, channels=32, low_level_channels=12
    )
    randomize(network)
    network.double().eval()
    images = torch.randn(2, 3, 96, 130, dtype=torch.float64)
    with torch.no_grad():
        features = network.encoder(images)
        found = network.coarse_logits(images)
        state = dict(network.state_dict())
        expected = _paper(state, features[1], features[-1], rates=rates, separable=separable)
        other = _paper(state, features[1], features[-1], rates=(1, 4, 2), separable=separable)
    scale = expected.abs().max()
    assert (found - expected).abs().max() / scale < 1e-10
    assert (found - other).abs().max() / scale > 1e-3, "swapped rates went unnoticed"


def _paper(state: dict[str, Tensor], low: Tensor, high: Tensor, *, rates: tuple[int, ...], separable: bool) -> Tensor:
    """Figure 2 of arXiv:1802.02611, section 3.3 of arXiv:1706.05587; from the state dict, without any of our layers."""

    def unit(maps: Tensor, conv: str, norm: str, rate: int = 1) -> Tensor:
        weight = state[f"{conv}.weight"]
        groups = maps.shape[1] // weight.shape[1]
        maps = F.conv2d(maps, weight, padding=rate * (weight.shape[-1] // 2), dilation=rate, groups=groups)
        mean, variance = (state[f"{norm}.running_{kind}"].view(1, -1, 1, 1) for kind in ("mean", "var"))
        gain, shift = (state[f"{norm}.{kind}"].view(1, -1, 1, 1) for kind in ("weight", "bias"))
        return ((maps - mean) / (variance + EPSILON).sqrt() * gain + shift).clamp(min=0)

    def three(maps: Tensor, prefix: str, first: int = 0, rate: int = 1) -> Tensor:
        for layer, dilation in ((first, rate), (first + 3, 1)) if separable else ((first, rate),):
            maps = unit(maps, f"{prefix}.{layer}", f"{prefix}.{layer + 1}", dilation)
        return maps

    branches = [unit(high, "aspp.convs.0.0", "aspp.convs.0.1")]
    branches += [three(high, f"aspp.convs.{i}", rate=rate) for i, rate in enumerate(rates, start=1)]
    pooled = unit(high.mean(dim=(2, 3), keepdim=True), "aspp.pooled.0", "aspp.pooled.1")
    branches.append(pooled.expand_as(branches[0]))
    context = unit(torch.cat(branches, dim=1), "aspp.project.0", "aspp.project.1")
    context = F.interpolate(context, size=low.shape[-2:], mode="bilinear", align_corners=False)
    maps = torch.cat([context, unit(low, "reduce.0", "reduce.1")], dim=1)
    for index in range(2):
        maps = three(maps, f"decoder.{index}")
    return F.conv2d(maps, state["classifier.weight"], state["classifier.bias"])


SMP: dict[str, Any] = {
    "separable": True,
    "norm_between": False,
    "aspp_conv": True,
    "decoder_convs": 1,
    "rates": (12, 24, 36),
    "first_block": "full",
    "align_corners": True,
}
"""What segmentation_models_pytorch's network is in ours."""


def _name_from_smp(theirs: str) -> str:
    ours = re.sub(r"^encoder\.", "encoder.network.", theirs)
    ours = re.sub(r"^decoder\.aspp\.0\.convs\.4\.(\d)", lambda m: f"aspp.pooled.{int(m[1]) - 1}", ours)
    ours = re.sub(r"^decoder\.aspp\.0\.convs\.([123])\.0\.([01])", r"aspp.convs.\1.\2", ours)
    ours = re.sub(r"^decoder\.aspp\.0\.convs\.([123])\.1", r"aspp.convs.\1.2", ours)
    ours = re.sub(r"^decoder\.aspp\.0\.", "aspp.", ours)
    ours = re.sub(r"^decoder\.aspp\.1\.", "aspp_conv.", ours)
    ours = re.sub(r"^decoder\.aspp\.2\.", "aspp_conv.2.", ours)
    ours = re.sub(r"^decoder\.block1\.", "reduce.", ours)
    ours = re.sub(r"^decoder\.block2\.0\.([01])", r"decoder.0.\1", ours)
    ours = re.sub(r"^decoder\.block2\.1\.", "decoder.0.2.", ours)
    return ours.replace("segmentation_head.0.", "classifier.")


@pytest.mark.parametrize(("encoder", "output_stride"), [("resnet50", 16), ("resnet101", 8)])
def test_logits_are_those_of_segmentation_models_pytorch(
    encoder: str, output_stride: int, randomize: Randomize
) -> None:
    theirs = smp.DeepLabV3Plus(encoder, encoder_weights=None, classes=7, encoder_output_stride=output_stride)
    randomize(theirs.double().eval())
    images = torch.randn(1, 3, 128, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    state = {_name_from_smp(name): value for name, value in theirs.state_dict().items()}
    wrong: list[dict[str, Any]] = [{"first_block": "contract"}, {"align_corners": False}, {"rates": (6, 12, 18)}]
    differences = []
    for other in ({}, *(wrong if output_stride == 16 else wrong[:1])):
        arguments = {**SMP, "encoder": encoder, "output_stride": output_stride, **other}
        ours = DeepLabV3Plus(7, pretrained=False, **arguments).double().eval()
        ours.load_state_dict(state)
        with torch.no_grad():
            # The reference expects normalized images.
            logits = resize(ours.coarse_logits(images), (128, 96), align_corners=ours.align_corners)
            expected = theirs(images)
        differences.append(float((logits - expected).abs().max() / expected.abs().max()))
    assert differences[0] < 1e-10
    assert min(differences[1:]) > 1e-3


def test_the_variant_of_segmentation_models_pytorch_has_its_parameter_count() -> None:
    with torch.device("meta"):
        theirs = smp.DeepLabV3Plus("resnet50", encoder_weights=None, classes=19)
        ours = DeepLabV3Plus(19, encoder="resnet50", pretrained=False, **SMP)
    assert _count(ours) == _count(theirs)
    assert round(_count(ours) / 1e6, 2) == 26.68


def test_one_plain_convolution_after_concatenation_as_in_vainfs_weights() -> None:
    """Their tree: classifier.project to 48 channels, classifier.aspp, classifier.classifier: 304 to 256, and to classes."""
    with torch.device("meta"):
        network = DeepLabV3Plus(21, encoder="resnet50", pretrained=False, decoder_convs=1)
    shapes = [tuple(layer.weight.shape) for layer in network.decoder.modules() if isinstance(layer, nn.Conv2d)]
    assert shapes == [(256, 304, 3, 3)]


def test_images_may_have_other_numbers_of_channels() -> None:
    network = _network(in_channels=4, channels=16).eval()
    assert network(torch.zeros(1, 4, 33, 47)).shape == (1, 5, 33, 47)
