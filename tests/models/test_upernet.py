"""UPerNet equals segmentation_models_pytorch's, an implementation that we did not write."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import segmentation_models_pytorch as smp
import torch
from comparing import relative
from torch import Tensor, nn

from imageseg.models.upernet import UPerNet

Randomize = Callable[[nn.Module], nn.Module]


def _reference(encoder: str, num_classes: int) -> nn.Module:
    network: nn.Module = smp.UPerNet(encoder_name=encoder, encoder_weights=None, classes=num_classes)
    return network


def _ours(encoder: str, num_classes: int, **arguments: object) -> UPerNet:
    arguments = {"channels": 256, "level_norm": True, "aux": False, "align_corners": True, **arguments}
    return UPerNet(num_classes, encoder=encoder.removeprefix("tu-"), pretrained=False, **arguments)  # type: ignore[arg-type]


def _our_name(theirs: str) -> str:
    for before, after in (("encoder.model.", "encoder.network."), ("encoder.", "encoder.network.")):
        if theirs.startswith(before):
            return theirs.replace(before, after, 1)
    name = theirs.replace("segmentation_head.0.", "classifier.").removeprefix("decoder.")
    name = name.replace("feature_norms.", "norms.").replace("psp.out_conv.", "bottleneck.")
    name = name.replace("fusion_block.", "fuse.")
    if name.startswith("psp.blocks."):
        _, _, block, _, layer, kind = name.split(".")
        return f"pyramid.branches.{block}.{layer}.{kind}"
    if name.startswith("fpn_"):  # theirs count from the coarsest
        part, level, rest = name.split(".", 2)
        ours = {"fpn_lateral_blocks": "laterals", "fpn_conv_blocks": "smooth"}[part]
        return f"{ours}.{2 - int(level)}.{rest.removeprefix('conv_norm_relu.')}"
    return name


@pytest.fixture(scope="module", params=["resnet50", "tu-convnext_atto"])
def encoder(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pair(encoder: str, randomize: Randomize) -> tuple[UPerNet, nn.Module]:
    """Ours and theirs with the same weights, in double precision."""
    theirs = randomize(_reference(encoder, 7)).double().eval()
    for layer in theirs.modules():
        if isinstance(layer, nn.LayerNorm):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.1)
    ours = _ours(encoder, 7).double().eval()
    ours.load_state_dict({_our_name(name): value for name, value in theirs.state_dict().items()}, strict=True)
    return ours, theirs


@pytest.fixture
def images() -> Tensor:
    return 255 * torch.rand(2, 3, 96, 160, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def test_logits_equal_the_references(pair: tuple[UPerNet, nn.Module], images: Tensor) -> None:
    ours, theirs = pair
    with torch.no_grad():
        expected = theirs(ours.normalize(images))
        assert relative(ours(images), expected) < 1e-10
        ours.align_corners = False
        assert relative(ours(images), expected) > 1e-3, "another grid of the last step went unnoticed"
        ours.align_corners = True
        ours.norms[1] = nn.Identity()
        assert relative(ours(images), expected) > 1e-3, "a missing normalization went unnoticed"


def test_single_precision_logits_equal_the_references(pair: tuple[UPerNet, nn.Module], images: Tensor) -> None:
    ours, theirs = (network.float() for network in pair)
    with torch.no_grad():
        assert relative(ours(images.float()), theirs(ours.normalize(images.float()))) < 1e-5


def test_gradients_equal_the_references(pair: tuple[UPerNet, nn.Module], images: Tensor) -> None:
    ours, theirs = pair
    images = images[:, :, :64, :96]
    ours(images).square().mean().backward()
    theirs(ours.normalize(images)).square().mean().backward()
    gradients = {_our_name(name): parameter.grad for name, parameter in theirs.named_parameters()}
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        scale = max(float(gradients[name].abs().max()), 1e-9)  # type: ignore[union-attr]
        assert float((parameter.grad - gradients[name]).abs().max()) / scale < 1e-8, name


@pytest.mark.parametrize(("encoder_name", "count"), [("resnet50", 37_289_299), ("tu-convnext_tiny", 37_048_499)])
def test_parameter_counts(encoder_name: str, count: int) -> None:
    with torch.device("meta"):
        ours, theirs = (
            sum(parameter.numel() for parameter in network.parameters())
            for network in (_ours(encoder_name, 19), _reference(encoder_name, 19))
        )
    assert ours == theirs == count


@pytest.mark.parametrize(
    ("name", "normed"),
    [("resnet18", False), ("convnext_atto", True), ("pvt_v2_b0", False), ("resnetv2_18", True), ("vgg11_bn", False)],
)
def test_maps_that_an_encoder_leaves_unnormalized_are_normalized(name: str, normed: bool) -> None:
    with torch.device("meta"):
        network = UPerNet(3, encoder=name, pretrained=False, channels=8)
    assert len(network.norms) == 4
    assert all(isinstance(norm, nn.LayerNorm) == normed for norm in network.norms)


def test_the_auxiliary_head_reads_the_map_before_the_coarsest() -> None:
    network = UPerNet(3, encoder="resnet18", pretrained=False, channels=8, aux_channels=8).eval()
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        logits, auxiliary = network.coarse_logits_with_aux(images)
        assert torch.equal(logits, network.coarse_logits(images))
        assert torch.equal(auxiliary[0], network.auxiliary(network.encoder(images)[3]))  # type: ignore[misc]
    assert [tuple(maps.shape) for maps in (logits, *auxiliary)] == [(1, 3, 16, 24), (1, 3, 4, 6)]
    without = UPerNet(3, encoder="resnet18", pretrained=False, channels=8, aux=False).eval()
    assert without.forward_with_aux(images)[1] == []


def test_every_parameter_on_swin_gets_a_gradient() -> None:
    network = UPerNet(3, encoder="swin_tiny_patch4_window7_224", pretrained=False, channels=8, aux_channels=8).train()
    assert all(isinstance(norm, nn.LayerNorm) for norm in network.norms)
    images = torch.randint(0, 256, (2, 3, 61, 70), generator=torch.Generator().manual_seed(0))
    logits, auxiliary = network.forward_with_aux(images)
    assert {maps.shape for maps in (logits, *auxiliary)} == {(2, 3, 61, 70)}
    torch.stack([logits, *auxiliary]).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not bool((p.grad != 0).any())] == []
