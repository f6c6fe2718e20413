"""ViTEncoder equals timm's own feature extraction, at any size, frozen or not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from comparing import relative
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg import InputError
from imageseg.models.encoders.vit import ViTEncoder

Randomize = Callable[[nn.Module], nn.Module]

# A class token, a register without one, attention pooling, rotary positions, those with learned ones besides and patches of 14.
ENCODERS = ("test_vit", "test_vit2", "test_vit3", "vit_tiny_patch16_dinov3_qkvb", "eva02_tiny_patch14_224")


def _images(*size: int) -> Tensor:
    return torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def _pair(name: str, randomize: Randomize, **arguments) -> tuple[ViTEncoder, nn.Module]:
    theirs = randomize(timm.create_model(name, num_classes=0, dynamic_img_size=True)).double().eval()
    ours = ViTEncoder(name, pretrained=False, **arguments).double().eval()
    weights = {f"network.{key}": value for key, value in theirs.state_dict().items()}
    if isinstance(theirs.norm, nn.Identity):
        weights = {key.replace(".fc_norm.", ".norm."): value for key, value in weights.items()}
    kept = ours.state_dict().keys()
    assert kept <= weights.keys()
    ours.load_state_dict({key: weights[key] for key in kept})
    return ours, theirs


@pytest.mark.parametrize("name", ENCODERS)
def test_features_are_timms(name: str, randomize: Randomize) -> None:
    ours, theirs = _pair(name, randomize, layers=(3, 1))
    patch = ours.patch
    images = _images(3 * patch, 5 * patch)
    norm = theirs.fc_norm if isinstance(theirs.norm, nn.Identity) else theirs.norm
    with torch.no_grad():
        found = ours(images)
        expected = theirs.forward_intermediates(images, indices=[1, 3], intermediates_only=True)
        for ours_, theirs_ in zip(found, reversed(expected), strict=True):
            assert relative(ours_, norm(theirs_.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)) < 1e-10
            assert relative(ours_, theirs_) > 1e-2, "a missing normalization went unnoticed"


@pytest.mark.parametrize("name", ["test_vit", "vit_tiny_patch16_dinov3_qkvb"])
def test_odd_sizes_are_padded_with_the_mean_at_the_right_and_below(name: str, randomize: Randomize) -> None:
    ours, theirs = _pair(name, randomize)
    images = _images(39, 65)
    with torch.no_grad():
        (found,) = ours(images)
        for padding, same in (((0, 15, 0, 9), True), ((15, 0, 9, 0), False)):
            padded = F.pad(images, padding)
            (expected,) = theirs.forward_intermediates(padded, indices=1, norm=True, intermediates_only=True)
            assert (relative(found, expected) < 1e-10) is same


@pytest.mark.parametrize("name", ["test_vit", "vit_tiny_patch16_dinov3_qkvb"])
def test_gradients_equal_timms(name: str, randomize: Randomize) -> None:
    ours, theirs = _pair(name, randomize, frozen=False)
    images = _images(32, 48)
    ours(images)[0].square().mean().backward()
    theirs.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)[0].square().mean().backward()
    expected = dict(theirs.named_parameters())
    for key, parameter in ours.network.named_parameters():
        assert parameter.grad is not None
        assert relative(parameter.grad, expected[key].grad) < 1e-9, key


def test_unpadded_logits_are_aligned_with_the_pixels_of_the_image() -> None:
    encoder = ViTEncoder("test_vit", pretrained=False)
    ramp = (torch.arange(48) + 0.5).view(1, 1, 1, 48).expand(1, 1, 32, 48)
    coarse = F.avg_pool2d(ramp, 16)  # (1, 1, 2, 3), of an image of 32 x 48
    assert torch.equal(encoder.unpad(coarse, (32, 48)), coarse)
    found = encoder.unpad(coarse, (30, 35))
    assert found.shape == (1, 1, 30, 35)
    assert torch.allclose(found[0, 0, :, 8:35], ramp[0, 0, :30, 8:35])  # but for the half patch at the edge
    stretched = F.interpolate(coarse, size=(30, 35), mode="bilinear")
    assert not torch.allclose(stretched[0, 0, :, 8:27], ramp[0, 0, :30, 8:27], atol=0.5)


def test_a_frozen_encoder_has_no_gradient_and_stays_in_evaluation_mode() -> None:
    frozen = nn.Sequential(ViTEncoder("test_vit", pretrained=False)).train()
    assert frozen.training
    assert not any(module.training for module in frozen[0].modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert not frozen(_images(32, 32).float())[0].requires_grad, "a graph is kept"
    free = nn.Sequential(ViTEncoder("test_vit", pretrained=False, frozen=False)).train()
    assert all(module.training for module in free.modules())
    assert all(parameter.requires_grad for parameter in free.parameters())


def test_blocks_after_the_last_selected_layer_are_omitted() -> None:
    assert len(ViTEncoder("test_vit", pretrained=False, layers=(0, 2)).network.blocks) == 3
    assert ViTEncoder("test_vit", pretrained=False, layers=2).layers == [4, 5]


def test_normalization_follows_the_weights_and_the_number_of_channels() -> None:
    encoder = ViTEncoder("test_vit", pretrained=False, in_channels=4, layers=2)
    assert encoder.mean == pytest.approx((0.5,) * 4)
    dino = ViTEncoder("vit_tiny_patch16_dinov3_qkvb", pretrained=False)
    assert (dino.patch, dino.channels, dino.prefix_tokens) == (16, 192, 5)
    assert dino.mean == pytest.approx((0.485, 0.456, 0.406))
    assert [tuple(maps.shape) for maps in encoder(torch.zeros(1, 4, 20, 40))] == [(1, 64, 2, 3)] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "resnet50"},
            "encoder 'resnet50' is not a plain ViT; use one, such as vit_small_patch14_reg4_dinov2, or .*UPerNet",
        ),
        ({"name": "swin_tiny_patch4_window7_224"}, "is not a plain ViT"),
        ({"name": "vit_smal_patch14_dinov2"}, "did you mean 'vit_small_patch14_dinov2'"),
        ({"name": "test_vit", "layers": 7}, r"layers must be 1 to 6 or different indices from 0 to 5 .* found 7"),
        ({"name": "test_vit", "layers": 0}, "found 0"),
        ({"name": "test_vit", "layers": (1, 1)}, r"found \(1, 1\)"),
        ({"name": "test_vit", "layers": (6,)}, r"found \(6,\)"),
        ({"name": "vit_small_patch16_18x2_224", "pretrained": True}, "has no pretrained weights"),
    ],
)
def test_invalid_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ViTEncoder(**{"pretrained": False, **arguments})
