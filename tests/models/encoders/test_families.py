"""MiT, Swin and others as encoders: their names, their weights, and images of any size."""

from __future__ import annotations

import pytest
import timm
import torch
from torch.nn import functional as F

from imageseg.errors import InputError
from imageseg.models.encoders.timm_encoder import Encoder


def test_pretrained_mit_is_refused_with_a_free_alternative() -> None:
    with pytest.raises(InputError, match=r"'mit_b1' has no freely licensed .* use pvt_v2_b1, .*--network.pretrained"):
        Encoder("mit_b1")


def test_a_misspelled_mit_name_is_corrected() -> None:
    with pytest.raises(InputError, match=r"no encoder 'mitb0' \(did you mean 'mit_b0'\?\)"):
        Encoder("mitb0", pretrained=False)


def test_mit_cannot_dilate() -> None:
    with pytest.raises(InputError, match="'mit_b0' cannot dilate"):
        Encoder("mit_b0", pretrained=False, output_stride=16)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"])
def test_swin_accepts_images_of_any_size(name: str) -> None:
    encoder = Encoder(name, pretrained=False).eval()
    with torch.no_grad():
        for height, width in ((97, 131), (3, 5), (64, 32)):
            maps = encoder(torch.zeros(1, 3, height, width))
            sizes = [(-(-height // stride), -(-width // stride)) for stride in (4, 8, 16, 32)]
            assert [tuple(features.shape[-2:]) for features in maps] == sizes
            assert [features.shape[1] for features in maps] == [96, 192, 384, 768]


def test_swin_is_that_of_timm_at_the_size_of_its_training() -> None:
    name = "swin_tiny_patch4_window7_224"
    theirs = timm.create_model(name, pretrained=False, features_only=True).eval()
    ours = Encoder(name, pretrained=False).eval()
    ours.network.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        for found, expected in zip(ours(images), theirs(images), strict=True):
            assert torch.allclose(found, expected.permute(0, 3, 1, 2), atol=1e-5)


@pytest.mark.parametrize(("name", "multiple"), [("swin_tiny_patch4_window7_224", 4), ("hrnet_w18_small", 32)])
def test_padding_is_the_mean_color_and_is_removed_from_the_maps(name: str, multiple: int) -> None:
    encoder = Encoder(name, pretrained=False).eval()
    images = torch.randn(1, 3, 33, 66)
    with torch.no_grad():
        found, padded = encoder(images), encoder(F.pad(images, (0, -66 % multiple, 0, -33 % multiple)))
    for stride, ours, whole in zip(encoder.strides, found, padded, strict=True):
        height, width = -(-33 // stride), -(-66 // stride)
        assert ours.shape[-2:] == (height, width)
        assert torch.equal(ours, whole[..., :height, :width])


@pytest.mark.parametrize("name", ["dla34", "hrnet_w18", "tresnet_m", "hieradet_small", "sam2_hiera_tiny"])
def test_encoders_whose_maps_must_fit_accept_images_of_any_size(name: str) -> None:
    with torch.device("meta"):
        encoder = Encoder(name, pretrained=False).eval()
        for height, width in ((97, 131), (1, 7), (64, 96)):
            sizes = [(-(-height // stride), -(-width // stride)) for stride in encoder.strides]
            assert [tuple(maps.shape[-2:]) for maps in encoder(torch.zeros(1, 3, height, width))] == sizes
