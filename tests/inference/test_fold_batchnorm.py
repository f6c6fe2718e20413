"""A folded network predicts the same with no normalization left behind a convolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from network_fixtures import PlainEncoder
from torch import Tensor, nn

import imageseg
from imageseg.inference.fold_batchnorm import fold_batchnorm
from imageseg.models.base import Network

Randomize = Callable[[nn.Module], nn.Module]


class _Small(Network):
    """A network with any module as its decode head and an empty encoder."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__(2, PlainEncoder())
        self.body = body

    def decode(self, features: list[Tensor], size: Sequence[int]) -> Tensor:
        logits: Tensor = self.body(features)
        return logits


class _TwoTakers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)

    def forward(self, images: Tensor) -> Tensor:
        found = self.conv(images)
        result: Tensor = self.norm(found) + found.mean(dim=(2, 3), keepdim=True)
        return result


class _OneNormTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 3, padding=1), nn.BatchNorm2d(2)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.norm(self.first(images)) + self.norm(self.second(images))
        return result


def _norms(network: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


def _same(ours: Network, theirs: Network, *, tolerance: float = 1e-5) -> None:
    images = torch.randint(0, 256, (2, 3, 40, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = ours(images), theirs(images)
    assert float((found - expected).abs().max() / expected.abs().max()) < tolerance


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenetv3_small_050", "convnext_atto"])
@pytest.mark.parametrize("model", ["UNet", "DeepLabv3_plus"])
def test_all_normalizations_fold(model: str, encoder: str, randomize: Randomize) -> None:
    network = imageseg.build_model(model, 4, encoder=encoder, pretrained=False).eval()
    randomize(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    quick = fold_batchnorm(network)
    assert _norms(quick) == 0 < _norms(network)
    _same(quick, network)
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_comparison_notices_a_normalization_that_is_left_out(randomize: Randomize) -> None:
    network = _Small(nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2))).eval()
    randomize(network)
    without = fold_batchnorm(network)
    without.body[0].bias = None  # type: ignore[index]
    with pytest.raises(AssertionError):
        _same(without, network)


@pytest.mark.parametrize("body", [_TwoTakers, _OneNormTwice])
def test_layers_that_are_used_twice_are_not_folded(body: type[nn.Module], randomize: Randomize) -> None:
    network = _Small(body()).eval()
    randomize(network)
    quick = fold_batchnorm(network)
    assert _norms(quick) == 1
    _same(quick, network)


@pytest.mark.parametrize(("kernel", "padding", "dilation"), [(3, 1, 1), (3, 0, 2), (5, 2, 1)])
def test_a_deconvolution_of_stride_one_becomes_a_convolution(
    kernel: int, padding: int, dilation: int, randomize: Randomize
) -> None:
    layer = nn.ConvTranspose2d(3, 2, kernel, padding=padding, dilation=dilation)
    network = _Small(nn.Sequential(layer, nn.BatchNorm2d(2))).eval()
    randomize(network)
    quick = fold_batchnorm(network)
    assert not any(isinstance(part, nn.ConvTranspose2d | nn.BatchNorm2d) for part in quick.modules())
    _same(quick, network)


@pytest.mark.parametrize("layer", [nn.ConvTranspose2d(3, 2, 2, stride=2), nn.ConvTranspose2d(3, 2, 1, padding=1)])
def test_other_deconvolutions_are_kept(layer: nn.Module) -> None:
    network = _Small(layer).eval()
    quick = fold_batchnorm(network)
    assert any(isinstance(part, nn.ConvTranspose2d) for part in quick.modules())
    _same(quick, network, tolerance=1e-9)
