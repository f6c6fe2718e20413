"""FPN equals segmentation_models_pytorch's, an implementation that we did not write."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from comparing import relative
from torch import Tensor, nn

from imageseg.errors import InputError
from imageseg.models.fpn import FPN

Randomize = Callable[[nn.Module], nn.Module]
CLASSES = 7


def _reference(encoder: str, num_classes: int = CLASSES, merge: str = "add") -> nn.Module:
    network: nn.Module = smp.FPN(
        encoder_name=encoder, encoder_weights=None, classes=num_classes, decoder_merge_policy=merge
    )
    return network


def _our_name(theirs: str) -> str:
    theirs = re.sub(r"^encoder\.", "encoder.network.", theirs)
    theirs = re.sub(r"^decoder\.p5\.", "laterals.3.", theirs)
    theirs = re.sub(r"^decoder\.p(\d)\.skip_conv", lambda found: f"laterals.{int(found[1]) - 2}", theirs)
    theirs = re.sub(
        r"^decoder\.seg_blocks\.(\d)\.block\.(\d)\.block",
        lambda found: f"branches.{3 - int(found[1])}.{found[2]}",
        theirs,
    )
    return re.sub(r"^segmentation_head\.0", "classifier", theirs)


def _pair(encoder: str, randomize: Randomize, *, merge: str = "add", **arguments: Any) -> tuple[FPN, nn.Module]:
    """Ours and theirs with the same weights, in double precision."""
    theirs = randomize(_reference(encoder, merge=merge)).double().eval()
    for layer in theirs.modules():
        if isinstance(layer, nn.GroupNorm):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.1)
    chosen = {"smooth": False, "align_corners": True, "merge": merge} | arguments
    ours = FPN(CLASSES, encoder=encoder, pretrained=False, **chosen).double().eval()
    ours.load_state_dict({_our_name(name): value for name, value in theirs.state_dict().items()}, strict=True)
    return ours, theirs


@pytest.fixture
def normalized(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Normalized images as the reference expects them; our own normalization is turned off."""
    monkeypatch.setattr(FPN, "normalize", lambda _, images: images)
    return torch.randn(2, 3, 96, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("encoder", "merge"), [("resnet18", "add"), ("resnet18", "cat"), ("resnet50", "add")])
def test_logits_equal_the_references(encoder: str, merge: str, randomize: Randomize, normalized: Tensor) -> None:
    ours, theirs = _pair(encoder, randomize, merge=merge)
    with torch.no_grad():
        assert relative(ours(normalized), theirs(normalized)) < 1e-10
        assert relative(ours.float()(normalized.float()), theirs.float()(normalized.float())) < 1e-5


def test_gradients_equal_the_references(randomize: Randomize, normalized: Tensor) -> None:
    ours, theirs = _pair("resnet18", randomize)
    ours(normalized).square().mean().backward()
    theirs(normalized).square().mean().backward()
    gradients = {_our_name(name): parameter.grad for name, parameter in theirs.named_parameters()}
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        assert relative(parameter.grad, gradients[name]) < 1e-9, name


def test_the_comparison_notices_corners_that_are_not_aligned(randomize: Randomize, normalized: Tensor) -> None:
    ours, theirs = _pair("resnet18", randomize, align_corners=False)
    with torch.no_grad():
        assert relative(ours(normalized), theirs(normalized)) > 1e-2


def test_the_comparison_notices_swapped_branches(randomize: Randomize, normalized: Tensor) -> None:
    ours, theirs = _pair("resnet18", randomize)
    ours.branches[1], ours.branches[0] = ours.branches[0], ours.branches[1]
    with torch.no_grad():
        assert relative(ours(normalized), theirs(normalized)) > 1e-2


@pytest.mark.parametrize(
    ("encoder", "count"), [("resnet18", 13_049_555), ("resnet50", 26_118_355), ("resnet101", 45_110_483)]
)
def test_parameter_counts(encoder: str, count: int) -> None:
    with torch.device("meta"):
        plain, smooth = (FPN(19, encoder=encoder, pretrained=False, smooth=smooth) for smooth in (False, True))
        theirs = _reference(encoder, 19)
    assert _count(plain) == _count(theirs) == count
    assert _count(smooth) == count + 4 * (9 * 256 * 256 + 256)  # one 3x3 convolution with bias per level


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_smoothing_convolves_each_level_after_merging(randomize: Randomize) -> None:
    """Lin et al., section 3: the merged map is convolved for what reads the pyramid, not for the next finer level."""
    network = FPN(CLASSES, encoder="resnet18", pretrained=False).eval()
    randomize(network)
    images = torch.randn(1, 3, 97, 131)
    seen: list[Tensor] = []
    read: list[Tensor] = []
    for smooth in network.smoothing:
        smooth.register_forward_hook(lambda _, given, found: (seen.append(given[0]), read.append(found))[0])
    branched: list[Tensor] = []
    for branch in network.branches:
        branch[0].register_forward_hook(lambda _, given, __: branched.append(given[0]))  # type: ignore[index]
    with torch.no_grad():
        network.coarse_logits(images)
        features = [lateral(maps) for lateral, maps in zip(network.laterals, network.encoder(images)[-4:], strict=True)]
        expected = features[3]
        for level in (3, 2, 1, 0):
            if level < 3:
                rows, columns = features[level].shape[-2:]
                # Nearest, by hand: output pixel j takes input pixel floor(j * before / after).
                above = expected[:, :, torch.arange(rows) * expected.shape[2] // rows]
                expected = features[level] + above[:, :, :, torch.arange(columns) * expected.shape[3] // columns]
            assert relative(seen[level], expected) < 1e-5
    assert all(torch.equal(a, b) for a, b in zip(branched, reversed(read), strict=True))


@pytest.mark.parametrize(("norm", "kind"), [("gn", nn.GroupNorm), ("bn", nn.BatchNorm2d)])
def test_the_normalization_may_be_chosen(norm: Any, kind: type[nn.Module]) -> None:
    network = FPN(3, encoder="mobilenetv3_small_050", pretrained=False, norm=norm, segmentation_channels=64)
    norms = [layer for layer in network.branches.modules() if isinstance(layer, nn.GroupNorm | nn.BatchNorm2d)]
    assert len(norms) == 1 + 1 + 2 + 3
    assert all(isinstance(layer, kind) for layer in norms)
    groups = [layer.num_groups for layer in norms if isinstance(layer, nn.GroupNorm)]
    assert set(groups) <= {32}


@pytest.mark.parametrize("encoder", ["convnext_atto", "vgg11_bn", "pvt_v2_b0"])
def test_encoders_of_other_families(encoder: str) -> None:
    network = FPN(3, encoder=encoder, pretrained=False, pyramid_channels=32, segmentation_channels=32).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 97, 131)).shape == (1, 3, 97, 131)
        assert network.coarse_logits(torch.zeros(1, 3, 96, 128)).shape == (1, 3, 24, 32)


def test_complete_channels_are_dropped_in_training_only() -> None:
    network = FPN(3, encoder="resnet18", pretrained=False, dropout=0.5)
    dropped: list[Tensor] = []
    network.dropout.register_forward_hook(lambda _, __, found: dropped.append(found))
    with torch.no_grad():
        network.train()(torch.randint(0, 256, (2, 3, 64, 64)))
        network.eval()(torch.randint(0, 256, (2, 3, 64, 64)))
    empty = [(maps.flatten(2) == 0).all(dim=2).float().mean() for maps in dropped]
    assert 0.35 < empty[0] < 0.65
    assert empty[1] == 0


def test_other_numbers_of_channels() -> None:
    network = FPN(3, encoder="resnet18", pretrained=False, in_channels=4).eval()
    assert network(torch.zeros(1, 4, 64, 64)).shape == (1, 3, 64, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "ln"}, "norm must be 'gn' or 'bn', found 'ln'"),
        ({"merge": "sum"}, "merge must be 'add' or 'cat', found 'sum'"),
        ({"segmentation_channels": 48}, "segmentation_channels must be a multiple of 32 with norm 'gn', found 48"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    build = functools.partial(FPN, 3, encoder="resnet18", pretrained=False)
    with pytest.raises(InputError, match=message):
        build(**arguments)
