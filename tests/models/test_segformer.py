"""SegFormer and its encoders equal segmentation_models_pytorch's, an implementation that we did not write."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import segmentation_models_pytorch as smp
import torch
from comparing import relative
from torch import Tensor, nn

from imageseg.models.segformer import SegFormer

Randomize = Callable[[nn.Module], nn.Module]


def _reference(encoder: str, num_classes: int, channels: int = 256) -> nn.Module:
    network: nn.Module = smp.Segformer(
        encoder, encoder_weights=None, classes=num_classes, decoder_segmentation_channels=channels
    )
    return network


def _our_name(theirs: str) -> str:
    if not theirs.startswith("encoder."):
        name = theirs.replace("segmentation_head.0.", "classifier.").replace("decoder.fuse_stage.", "fuse.")
        # Theirs count from the coarsest.
        return re.sub(r"decoder\.mlp_stage\.(\d)\.linear", lambda level: f"linears.{3 - int(level[1])}", name)
    name = theirs.replace("mlp.dwconv.dwconv", "mlp.dwconv").removeprefix("encoder.")
    name = name.replace("patch_embed1.", "patch_embed.")
    for pattern, part in (("patch_embed", "downsample"), ("block", "blocks"), ("norm", "norm")):
        name = re.sub(rf"^{pattern}(\d)\.", lambda stage, part=part: f"stages_{int(stage[1]) - 1}.{part}.", name)  # type: ignore[misc]
    return f"encoder.network.{name}"


def _our_value(name: str, value: Tensor) -> Tensor:
    return value[:, :, None, None] if name.startswith("linears.") and value.ndim == 2 else value


def _translated(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {_our_name(name): _our_value(_our_name(name), value) for name, value in state.items()}


@pytest.fixture(scope="module", params=["mit_b0", "mit_b2"])
def encoder(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pair(encoder: str, randomize: Randomize) -> tuple[SegFormer, nn.Module]:
    """Ours and theirs with the same weights, in double precision."""
    theirs = randomize(_reference(encoder, 7)).double().eval()
    for layer in theirs.modules():
        if isinstance(layer, nn.LayerNorm):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.1)
    ours = SegFormer(7, encoder=encoder, pretrained=False, channels=256, align_corners=True).double().eval()
    ours.load_state_dict(_translated(theirs.state_dict()), strict=True)
    return ours, theirs


@pytest.fixture
def images() -> Tensor:
    return 255 * torch.rand(2, 3, 96, 160, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def test_logits_equal_the_references(pair: tuple[SegFormer, nn.Module], images: Tensor) -> None:
    ours, theirs = pair
    with torch.no_grad():
        expected = theirs(ours.normalize(images))
        assert relative(ours(images), expected) < 1e-10
        ours.align_corners = False
        assert relative(ours(images), expected) > 1e-3, "another grid of the last step went unnoticed"
        ours.align_corners = True
        first, *others = ours.fuse[0].weight.chunk(4, dim=1)
        ours.fuse[0].weight.copy_(torch.cat([*others, first], dim=1))
        assert relative(ours(images), expected) > 1e-3, "maps in another order went unnoticed"


def test_every_map_of_the_encoder_equals_the_references(pair: tuple[SegFormer, nn.Module], images: Tensor) -> None:
    ours, theirs = (network.float() for network in pair)
    normalized = ours.normalize(images.float())
    with torch.no_grad():
        expected = [maps for maps in theirs.encoder(normalized)[1:] if maps.shape[1]]  # type: ignore[operator]
        found = ours.encoder(normalized)
    assert len(found) == len(expected) == 4
    assert max(map(relative, found, expected)) < 1e-5


@pytest.mark.parametrize("size", [0, 2])
def test_pvt_is_not_mit(size: int) -> None:
    with torch.device("meta"):
        mit, pvt = (
            SegFormer(7, encoder=f"{family}_b{size}", pretrained=False).state_dict() for family in ("mit", "pvt_v2")
        )
    assert mit.keys() == pvt.keys()
    others = {name for name in mit if mit[name].shape != pvt[name].shape}
    assert others
    assert all(".mlp." in name for name in others)


def test_gradients_equal_the_references(randomize: Randomize, images: Tensor) -> None:
    theirs = randomize(_reference("mit_b0", 7)).double().eval()
    ours = SegFormer(7, encoder="mit_b0", pretrained=False, align_corners=True).double().eval()
    ours.load_state_dict(_translated(theirs.state_dict()), strict=True)
    images = images[:, :, :64, :96]
    ours(images).square().mean().backward()
    theirs(ours.normalize(images)).square().mean().backward()
    gradients = _translated({name: p.grad for name, p in theirs.named_parameters() if p.grad is not None})
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        assert relative(parameter.grad, gradients[name]) < 1e-8, name


@pytest.mark.parametrize(("name", "count"), [("mit_b0", 3_719_027), ("mit_b2", 24_726_995)])
def test_parameter_counts(name: str, count: int) -> None:
    theirs = sum(parameter.numel() for parameter in _reference(name, 19).parameters())
    with torch.device("meta"):
        network = SegFormer(19, encoder=name, pretrained=False, channels=256)
    assert sum(parameter.numel() for parameter in network.parameters()) == theirs == count


@pytest.mark.parametrize(
    ("size", "channels", "depths", "hidden", "millions"),
    [
        (0, 256, (2, 2, 2, 2), (128, 256, 640, 1024), 3.8),
        (1, 256, (2, 2, 2, 2), (256, 512, 1280, 2048), 13.7),
        (2, 768, (3, 4, 6, 3), (256, 512, 1280, 2048), 27.5),
        (3, 768, (3, 4, 18, 3), (256, 512, 1280, 2048), 47.3),
        (4, 768, (3, 8, 27, 3), (256, 512, 1280, 2048), 64.1),
        (5, 768, (3, 6, 40, 3), (256, 512, 1280, 2048), 84.7),
    ],
)
def test_sizes_are_those_of_the_paper(
    size: int, channels: int, depths: tuple[int, ...], hidden: tuple[int, ...], millions: float
) -> None:
    with torch.device("meta"):
        network = SegFormer(150, encoder=f"mit_b{size}", pretrained=False)  # the classes of ADE20K
    stages = [getattr(network.encoder.network, f"stages_{stage}") for stage in range(4)]  # type: ignore[union-attr]
    assert tuple(len(stage.blocks) for stage in stages) == depths
    assert tuple(stage.blocks[0].mlp.fc1.out_features for stage in stages) == hidden
    assert {linear.out_channels for linear in network.linears} == {channels}
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("name", "channels"), [("pvt_v2_b1", 256), ("pvt_v2_b2_li", 768), ("resnet18", 256), ("convnext_atto", 256)]
)
def test_channels_follow_the_encoder(name: str, channels: int) -> None:
    with torch.device("meta"):
        network = SegFormer(3, encoder=name, pretrained=False)
    assert network.classifier.in_channels == channels
    assert len(network.linears) == 4


def test_channels_may_be_given() -> None:
    network = SegFormer(3, encoder="resnet18", pretrained=False, channels=24).eval()
    with torch.no_grad():
        assert network.coarse_logits(torch.zeros(1, 3, 33, 65)).shape == (1, 3, 9, 17)
    assert network.classifier.in_channels == 24
