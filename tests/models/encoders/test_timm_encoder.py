"""Encoder: strides and channels of its maps, weights from the cache, and one-line errors."""

from __future__ import annotations

import io
import urllib.error
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch

from imageseg.errors import InputError
from imageseg.models.deeplabv3_plus import DeepLabV3Plus
from imageseg.models.encoders.timm_encoder import Encoder
from imageseg.models.encoders.vit import ViTEncoder

UNREACHABLE = urllib.error.URLError(OSError(101, "Network is unreachable"))


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | None], list[tuple[str, str]]]:
    """Puts one file, or none, where the hub's cache would have the weights, and cuts the network off."""
    asked: list[tuple[str, str]] = []

    def put(file: Path | None) -> list[tuple[str, str]]:
        def look_up(repository: str, filename: str) -> str | None:
            asked.append((repository, filename))
            return str(file) if file is not None and filename.endswith(file.suffix) else None

        def unreachable(*_: Any, **__: Any) -> None:
            raise UNREACHABLE

        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", look_up)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("urllib.request.urlopen", unreachable)
        return asked

    return put


@pytest.mark.parametrize(
    ("name", "output_stride", "strides", "channels"),
    [
        ("resnet18", 32, [2, 4, 8, 16, 32], [64, 64, 128, 256, 512]),
        ("resnet18", 16, [2, 4, 8, 16, 16], [64, 64, 128, 256, 512]),
        ("resnet18", 8, [2, 4, 8, 8, 8], [64, 64, 128, 256, 512]),
        ("mobilenetv3_small_050", 32, [2, 4, 8, 16, 32], [16, 8, 16, 24, 288]),
        ("mobilenetv3_small_050", 16, [2, 4, 8, 16, 16], [16, 8, 16, 24, 288]),
        ("convnext_atto", 32, [4, 8, 16, 32], [40, 80, 160, 320]),
        ("convnext_atto", 16, [4, 8, 16, 16], [40, 80, 160, 320]),
        ("convnext_atto", 8, [4, 8, 8, 8], [40, 80, 160, 320]),
        ("vgg11_bn", 32, [2, 4, 8, 16, 32], [128, 256, 512, 512, 512]),
    ],
)
def test_maps_have_the_strides_and_channels_that_are_named(
    name: str, output_stride: int, strides: list[int], channels: list[int]
) -> None:
    encoder = Encoder(name, pretrained=False, output_stride=output_stride).eval()
    assert encoder.strides == strides
    assert encoder.channels == channels
    with torch.no_grad():
        maps = encoder(torch.zeros(2, 3, 96, 128))
    assert [tuple(features.shape) for features in maps] == [
        (2, width, 96 // stride, 128 // stride) for stride, width in zip(strides, channels, strict=True)
    ]


def test_maps_are_in_the_order_n_c_h_w_also_from_encoders_that_keep_channels_last() -> None:
    with torch.device("meta"):
        encoder = Encoder("mambaout_femto", pretrained=False).eval()
    maps = encoder(torch.zeros(1, 3, 64, 96, device="meta"))
    assert [features.shape[1] for features in maps] == encoder.channels
    assert maps[-1].shape[-2:] == (2, 3)


def test_the_first_convolution_of_a_dilated_stage_keeps_the_old_dilation() -> None:
    """As torchvision does, whose dilation the published weights of dilated networks were trained with."""
    encoder = Encoder("resnet18", pretrained=False, output_stride=8)
    dilations = {
        stage: [block.conv1.dilation[0] for block in encoder.network[stage]] for stage in ("layer2", "layer3", "layer4")
    }
    assert dilations == {"layer2": [1, 1], "layer3": [1, 2], "layer4": [2, 4]}


def test_normalization_is_that_of_the_weights() -> None:
    encoder = Encoder("test_resnet", pretrained=False)
    assert (encoder.mean, encoder.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    network = DeepLabV3Plus(2, encoder="test_resnet", pretrained=False)
    assert network.normalize(torch.tensor([0, 255], dtype=torch.uint8).expand(1, 3, 1, 2)).unique().tolist() == [-1, 1]


def test_an_unknown_name_is_answered_with_a_similar_one() -> None:
    with pytest.raises(InputError, match=r"no encoder 'resnet118' \(did you mean 'resnet18'\?\)") as refused:
        Encoder("resnet118")
    assert "\n" not in refused.value.line()


@pytest.mark.parametrize("name", ["vgg11_bn", "pvt_v2_b0", "densenet121"])
def test_an_encoder_that_cannot_dilate_is_refused_with_ones_that_can(name: str) -> None:
    with pytest.raises(InputError, match=rf"'{name}' cannot dilate to output_stride 16; use output_stride 32"):
        Encoder(name, pretrained=False, output_stride=16)


def test_encoders_that_the_refusal_names_do_dilate() -> None:
    with pytest.raises(InputError) as refused:
        Encoder("vgg11_bn", pretrained=False, output_stride=8)
    named = refused.value.line().rpartition(": ")[2].split(", ")
    assert len(named) > 3
    for name in named:
        with torch.device("meta"):
            assert Encoder(name, pretrained=False, output_stride=8).strides[-1] == 8


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "coatnet_0_224"])
def test_an_encoder_for_one_size_of_image_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' accepts images of one size only"):
        Encoder(name, pretrained=False)


def test_an_encoder_without_a_pyramid_is_refused() -> None:
    with pytest.raises(InputError, match=r"strides \[16, 32, 64\]; a pyramid from 4 to 32 is needed"):
        Encoder("shvit_s1", pretrained=False)


@pytest.mark.parametrize("name", ["vgg11_bn", "convnext_atto"])
def test_an_image_too_small_to_predict_is_refused(name: str) -> None:
    encoder = Encoder(name, pretrained=False).eval()
    with pytest.raises(ValueError, match="cannot process a 3 x 90 image; 32 x 32 is enough"):
        encoder(torch.zeros(1, 3, 3, 90))
    with torch.no_grad():
        assert encoder(torch.zeros(1, 3, 32, 32))[-1].shape[-2:] == (1, 1)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])
def test_an_image_too_small_to_train_on_is_refused_whichever_way_the_encoder_rounds(name: str) -> None:
    encoder = Encoder(name, pretrained=False, output_stride=16).train()
    side = 16 if name == "resnet18" else 31  # one value remains of 16 rounded up, and of 31 rounded down
    with pytest.raises(ValueError, match=rf"single {side} x {side} image.*use images of 32 x 32 or more"):
        encoder(torch.zeros(1, 3, side, side))
    assert encoder(torch.zeros(1, 3, 32, 32))[-1].shape[-2:] == (2, 2)
    assert encoder(torch.zeros(2, 3, side, side))[-1].shape == (2, encoder.channels[-1], 1, 1)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_weights_come_from_the_cache(
    suffix: str, tmp_path: Path, cache: Callable[[Path | None], list[tuple[str, str]]]
) -> None:
    weights = timm.create_model("test_resnet", pretrained=False).state_dict()
    file = tmp_path / f"weights{suffix}"
    if suffix == ".bin":
        torch.save(weights, file)
    else:
        safetensors.torch.save_file(weights, file)
    asked = cache(file)
    found = Encoder("test_resnet", pretrained=True).network.state_dict()
    assert asked[0] == ("timm/test_resnet.r160_in1k", "model.safetensors")
    assert len(found) > 50
    assert all(torch.equal(value, weights[name]) for name, value in found.items())


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_vit3"])
def test_weights_of_a_plain_vit_come_from_the_cache_without_the_classifier(
    name: str, tmp_path: Path, cache: Callable[[Path | None], list[tuple[str, str]]]
) -> None:
    weights = timm.create_model(name, pretrained=False).state_dict()
    safetensors.torch.save_file(weights, tmp_path / "weights.safetensors")
    cache(tmp_path / "weights.safetensors")
    found = ViTEncoder(name, pretrained=True).network.state_dict()
    assert len(found) > 50
    for key, value in found.items():
        theirs = key.replace("norm.", "fc_norm.") if key not in weights else key
        assert torch.equal(value, weights[theirs]), key
    cache(None)
    with pytest.raises(InputError, match=f"weights of encoder '{name}' are not on this machine"):
        ViTEncoder(name)


def test_unavailable_weights_are_refused_in_one_line(
    cache: Callable[[Path | None], list[tuple[str, str]]],
) -> None:
    cache(None)
    with pytest.raises(InputError, match="weights of encoder 'resnet18' are not on this machine") as refused:
        Encoder("resnet18")
    line = refused.value.line()
    assert "Network is unreachable" in line
    assert line.endswith("connect once, or pass --network.pretrained false")
    assert "\n" not in line


def test_offline_mode_opens_no_connection(
    cache: Callable[[Path | None], list[tuple[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache(None)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(InputError, match="not on this machine, and HF_HUB_OFFLINE forbids downloads; unset it once"):
        Encoder("resnet18")


def test_a_hub_that_answers_with_an_error_status_is_reachable(
    cache: Callable[[Path | None], list[tuple[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache(None)

    def answer(request: Any, **_: Any) -> None:
        raise urllib.error.HTTPError(request.full_url, 405, "no HEAD here", Message(), io.BytesIO())

    def fetch(*_: Any, pretrained_cfg_overlay: dict[str, Any], **__: Any) -> None:
        raise OSError(f"fetched\nwith {pretrained_cfg_overlay}")

    monkeypatch.setattr("urllib.request.urlopen", answer)
    monkeypatch.setattr(timm, "create_model", fetch)
    with pytest.raises(InputError, match=r"cannot create encoder 'resnet18' \(fetched with {}\)"):
        Encoder("resnet18")


@pytest.mark.parametrize("file", ["damaged.safetensors", "damaged.bin", "other.safetensors"])
def test_unfit_weights_in_the_cache_are_refused_in_one_line(
    file: str, tmp_path: Path, cache: Callable[[Path | None], list[tuple[str, str]]]
) -> None:
    path = tmp_path / file
    if file.startswith("damaged"):
        path.write_bytes(b"damaged" * 50)
    else:
        safetensors.torch.save_file(timm.create_model("resnet10t", pretrained=False).state_dict(), path)
    cache(path)
    with pytest.raises(InputError, match="cannot create encoder 'test_resnet'") as refused:
        Encoder("test_resnet")
    assert "\n" not in refused.value.line()
    assert len(refused.value.line()) < 400


def test_an_encoder_without_published_weights_is_refused() -> None:
    with pytest.raises(InputError, match="has no pretrained weights; pass --network"):
        Encoder(_without_weights())


def _without_weights() -> str:
    """Any timm encoder without published weights."""
    for name in timm.list_models("resnet*") + timm.list_models("vgg*"):
        config = timm.get_pretrained_cfg(name)
        if config is None or not config.has_weights:
            return str(name)
    raise AssertionError("timm has weights for all of them now; take another family")


def test_random_weights_need_no_connection(cache: Callable[[Path | None], list[tuple[str, str]]]) -> None:
    asked = cache(None)
    Encoder("test_resnet", pretrained=False)
    assert asked == []
