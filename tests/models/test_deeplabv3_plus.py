"""DeepLabV3+: its size, its strides, and its head against one written from the paper with functions alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg.errors import InputError
from imageseg.models.aspp import ASPP
from imageseg.models.deeplabv3_plus import DeepLabV3Plus

Randomize = Callable[[nn.Module], nn.Module]
EPSILON = 1e-5


def _network(**arguments: object) -> DeepLabV3Plus:
    return DeepLabV3Plus(5, **{"encoder": "resnet18", "pretrained": False} | arguments)  # type: ignore[arg-type]


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _plain(cin: int, cout: int, kernel: int) -> int:
    return cin * cout * kernel**2 + 2 * cout  # no bias; weight and bias of the normalisation


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
)  # shared/reference/models.md, sections 1 and 2.7
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
