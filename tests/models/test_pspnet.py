"""PSPNet equals a second implementation with torch's own adaptive pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from comparing import relative
from torch import Tensor, nn
from torch.nn import functional as F

import imageseg
from imageseg.models.layers.blocks import PooledBatchNorm
from imageseg.models.layers.pyramid_pooling import grid_means
from imageseg.models.pspnet import PSPNet

Randomize = Callable[[nn.Module], nn.Module]
AUTHORS: dict[str, Any] = {"first_block": "full", "align_corners": True}
"""What the authors' code (hszhao/semseg) is in ours, on an encoder with their stem of three 3x3 convolutions."""


class _Residual(nn.Module):
    """A bottleneck block: 1x1, 3x3 that strides or dilates, 1x1 to four times the channels."""

    def __init__(self, cin: int, width: int, *, stride: int = 1, dilation: int = 1, project: bool = False) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(cin, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = (
            nn.Sequential(nn.Conv2d(cin, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))
            if project
            else None
        )

    def forward(self, maps: Tensor) -> Tensor:
        branch = self.bn1(self.conv1(maps)).relu()
        branch = self.bn2(self.conv2(branch)).relu()
        return (self.bn3(self.conv3(branch)) + (maps if self.downsample is None else self.downsample(maps))).relu()


class _Reference(nn.Module):
    """PSPNet50 as its authors publish it: written from their paper's table and figure, on torch's adaptive pooling."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()

        def unit(cin: int, cout: int, stride: int = 1) -> list[nn.Module]:
            return [nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]

        self.layer0 = nn.Sequential(*unit(3, 64, 2), *unit(64, 64), *unit(64, 128), nn.MaxPool2d(3, 2, 1))
        cin = 128
        for index, (count, width, stride, dilation) in enumerate(
            [(3, 64, 1, 1), (4, 128, 2, 1), (6, 256, 1, 2), (3, 512, 1, 4)], start=1
        ):
            first = _Residual(cin, width, stride=stride, dilation=dilation, project=True)
            others = [_Residual(4 * width, width, dilation=dilation) for _ in range(count - 1)]
            setattr(self, f"layer{index}", nn.Sequential(first, *others))
            cin = 4 * width
        self.ppm = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(bins), nn.Conv2d(2048, 512, 1, bias=False), nn.BatchNorm2d(512), nn.ReLU()
            )
            for bins in (1, 2, 3, 6)
        )
        self.cls = nn.Sequential(*unit(4096, 512), nn.Identity(), nn.Conv2d(512, num_classes, 1))
        self.aux = nn.Sequential(*unit(1024, 256), nn.Identity(), nn.Conv2d(256, num_classes, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        third = self.layer3(self.layer2(self.layer1(self.layer0(images))))  # type: ignore[operator]
        last = self.layer4(third)  # type: ignore[operator]

        def resized(maps: Tensor, size: torch.Size) -> Tensor:
            return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)

        pyramid = [last] + [resized(branch(last), last.shape[-2:]) for branch in self.ppm]
        logits = self.cls(torch.cat(pyramid, dim=1))
        return resized(logits, images.shape[-2:]), resized(self.aux(third), images.shape[-2:])


def _our_name(theirs: str) -> str:
    part, _, rest = theirs.partition(".")
    if part == "layer0":
        index, _, kind = rest.partition(".")
        # timm: the stem is conv1.0 to conv1.6, of which the last normalization is bn1.
        return f"encoder.network.bn1.{kind}" if index == "7" else f"encoder.network.conv1.{rest}"
    if part.startswith("layer"):
        return f"encoder.network.{theirs}"
    if part == "ppm":
        branch, index, kind = rest.split(".")
        return f"pyramid.branches.{branch}.{int(index) - 1}.{kind}"
    if part == "aux":
        return f"auxiliary.{rest}"
    return f"classifier.{rest[2:]}" if rest.startswith("4.") else f"bottleneck.{rest}"


def _pair(randomize: Randomize, dtype: torch.dtype, **arguments: Any) -> tuple[PSPNet, _Reference]:
    torch.manual_seed(0)
    theirs = _Reference(7).to(dtype).eval()
    randomize(theirs)
    ours = PSPNet(7, encoder="resnet50s", pretrained=False, **{**AUTHORS, **arguments}).to(dtype).eval()
    ours.load_state_dict({_our_name(name): value for name, value in theirs.state_dict().items()})
    ours.mean.zero_()  # the reference expects normalized images
    ours.std.fill_(1)
    return ours, theirs


def _images(dtype: torch.dtype, height: int = 97, width: int = 129) -> Tensor:
    return torch.randn(2, 3, height, width, dtype=dtype, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_logits_equal_the_references(dtype: torch.dtype, limit: float, randomize: Randomize) -> None:
    ours, theirs = _pair(randomize, dtype)
    images = _images(dtype)
    with torch.no_grad():
        logits, (auxiliary,) = ours.forward_with_aux(images)
        expected, expected_auxiliary = theirs(images)
    assert relative(logits, expected) < limit
    assert torch.equal(auxiliary, expected_auxiliary)


@pytest.mark.parametrize(
    "other", [{"first_block": "contract"}, {"align_corners": False}, {"bins": (1, 2, 3, 4)}], ids=str
)
def test_the_comparison_notices_another_policy(other: dict[str, Any], randomize: Randomize) -> None:
    ours, theirs = _pair(randomize, torch.float32, **other)
    images = _images(torch.float32)[:1]
    with torch.no_grad():
        assert relative(ours(images), theirs(images)[0]) > 1e-3


def test_gradients_equal_the_references(randomize: Randomize) -> None:
    ours, theirs = _pair(randomize, torch.float64)
    for network in (ours, theirs):
        network.train()
        for layer in network.modules():
            if isinstance(layer, nn.Dropout | nn.Dropout2d):
                layer.eval()
    images = _images(torch.float64, 33, 49)
    logits, (auxiliary,) = ours.forward_with_aux(images)
    (logits.square().mean() + 0.4 * auxiliary.square().mean()).backward()
    expected, expected_auxiliary = theirs(images)
    (expected.square().mean() + 0.4 * expected_auxiliary.square().mean()).backward()
    gradients = {_our_name(name): parameter.grad for name, parameter in theirs.named_parameters()}
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        assert gradients[name] is not None
        assert relative(parameter.grad, gradients[name]) < 1e-8, name


@pytest.mark.parametrize("size", [(13, 17), (12, 6), (7, 9), (6, 6), (5, 3), (1, 1)])
@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_means_over_a_grid_are_adaptive_pooling(size: tuple[int, int], bins: int) -> None:
    maps = torch.randn(2, 3, *size, dtype=torch.float64)
    assert torch.allclose(grid_means(maps, bins), F.adaptive_avg_pool2d(maps, bins), atol=1e-14)


@pytest.mark.parametrize(
    ("encoder", "count"),
    [("resnet50", 48_956_262), ("resnet101", 67_948_390), ("resnet50s", 49_080_038), ("resnet101s", 68_072_166)],
)
def test_parameter_counts(encoder: str, count: int) -> None:
    with torch.device("meta"):
        network = PSPNet(19, encoder=encoder, pretrained=False)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_the_reference_has_the_authors_count() -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in _Reference(19).parameters()) == 49_080_038


def test_the_grids_share_the_channels_of_the_map() -> None:
    with torch.device("meta"):
        network = PSPNet(19, encoder="resnet50", pretrained=False)
        wide = PSPNet(19, encoder="resnet18", pretrained=False, bins=(1, 4), pyramid_channels=96, channels=64)
    assert network.bottleneck[0].in_channels == 2 * 2048  # type: ignore[union-attr]
    assert wide.bottleneck[0].in_channels == 512 + 2 * 96  # type: ignore[union-attr]
    assert [isinstance(branch[1], PooledBatchNorm) for branch in wide.pyramid.branches] == [True, False]  # type: ignore[index]


def test_the_auxiliary_head_may_be_left_out() -> None:
    network = PSPNet(3, encoder="resnet18", pretrained=False, channels=16, aux=False).eval()
    with torch.no_grad():
        assert network.forward_with_aux(torch.zeros(1, 3, 33, 47))[1] == []


@pytest.mark.parametrize("bins", [(), (0, 2)])
def test_invalid_bins_are_refused(bins: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="bins must be"):
        imageseg.build_model("PSPNet", 3, encoder="resnet18", pretrained=False, bins=bins)
