"""FCN equals the authors' networks, written with torch's functions, and torchvision's; the layers of its variants."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from comparing import relative
from timm.models.vgg import ConvMlp
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import segmentation

import imageseg
from imageseg.errors import InputError
from imageseg.models import fcn
from imageseg.models.encoders.timm_encoder import Encoder
from imageseg.models.fcn import FCN, bilinear_kernel

Randomize = Callable[[nn.Module], nn.Module]
CONVS = {"vgg11": (1, 1, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3)}
"""Number of convolutions before each pooling."""


def _images(dtype: torch.dtype, height: int, width: int) -> Tensor:
    return torch.randn(1, 3, height, width, dtype=dtype, generator=torch.Generator().manual_seed(3))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _scored(network: FCN) -> FCN:
    """Replace the zeros that score layers are initialized with."""
    assert isinstance(network.head, fcn.FCNSkipHead)
    for score in network.head.scores:
        nn.init.normal_(score.weight, std=0.1)  # type: ignore[arg-type]
        nn.init.normal_(score.bias, std=0.1)  # type: ignore[arg-type]
    return network.eval()


def _plain(network: FCN) -> FCN:
    """A reference network for images that are already normalized."""
    network.mean.zero_()
    network.std.fill_(1)
    return network


def _vgg(state: dict[str, Tensor], images: Tensor, encoder: str, *, border: int) -> dict[int, Tensor]:
    """The maps after each pool, which rounds up; the first convolution has a border of its own."""
    pools, maps, index = {}, images, 0
    for number, count in enumerate(CONVS[encoder], start=1):
        for _ in range(count):
            name = f"encoder.network.features_{index}"
            maps = F.conv2d(maps, state[f"{name}.weight"], state[f"{name}.bias"], padding=border).clamp(min=0)
            border, index = 1, index + 2
        pools[number] = maps = F.max_pool2d(maps, 2, 2, ceil_mode=True)
        index += 1
    return pools


def _conv(state: dict[str, Tensor], name: str, maps: Tensor, padding: int = 0) -> Tensor:
    return F.conv2d(maps, state[f"head.{name}.weight"], state[f"head.{name}.bias"], padding=padding)


def _deconv(maps: Tensor, size: int, stride: int) -> Tensor:
    """The dense kernel of the authors' files: bilinear weights from each class to itself, zero to all others."""
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 else factor - 0.5
    classes = maps.shape[1]
    kernel = torch.zeros(classes, classes, size, size, dtype=maps.dtype)
    for i in range(size):
        for j in range(size):
            weight = (1 - abs(i - center) / factor) * (1 - abs(j - center) / factor)
            kernel[range(classes), range(classes), i, j] = weight
    return F.conv_transpose2d(maps, kernel, stride=stride)


def _cropped(maps: Tensor, like: Tensor, offset: int) -> Tensor:
    return maps[:, :, offset : offset + like.shape[2], offset : offset + like.shape[3]]


def _caffe(
    state: dict[str, Tensor], images: Tensor, encoder: str, variant: str, scales: tuple[float, float] = (1, 1)
) -> Tensor:
    """voc-fcn32s, 16s and 8s, layer by layer."""
    pools = _vgg(state, images, encoder, border=100)
    maps = _conv(state, "fc6", pools[5]).clamp(min=0)
    maps = _conv(state, "fc7", maps).clamp(min=0)
    score = _conv(state, "scores.0", maps)
    if variant == "32s":
        return _cropped(_deconv(score, 64, 32), images, 19)
    upscore2 = _deconv(score, 4, 2)
    score = upscore2 + _cropped(_conv(state, "scores.1", scales[0] * pools[4]), upscore2, 5)
    if variant == "16s":
        return _cropped(_deconv(score, 32, 16), images, 27)
    upscore_pool4 = _deconv(score, 4, 2)
    score = upscore_pool4 + _cropped(_conv(state, "scores.2", scales[1] * pools[3]), upscore_pool4, 9)
    return _cropped(_deconv(score, 16, 8), images, 31)


def _same(state: dict[str, Tensor], images: Tensor, encoder: str, *, align_corners: bool) -> Tensor:
    """FCN-8s on the image's own grid."""

    def resized(maps: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(maps, size=like.shape[2:], mode="bilinear", align_corners=align_corners)

    pools = _vgg(state, images, encoder, border=1)
    maps = _conv(state, "fc6", pools[5], padding=3).clamp(min=0)
    maps = _conv(state, "fc7", maps).clamp(min=0)
    pool4, pool3 = _conv(state, "scores.1", pools[4]), _conv(state, "scores.2", pools[3])
    score = resized(_conv(state, "scores.0", maps), pool4) + pool4
    return resized(resized(score, pool3) + pool3, images)


def _skip_network(**arguments: Any) -> FCN:
    chosen = {"encoder": "vgg11", "pretrained": False, "channels": 24, **arguments}
    return _plain(_scored(FCN(5, **chosen)))


@pytest.mark.parametrize(
    ("variant", "height", "width"),
    [("32s", 33, 47), ("16s", 33, 47), ("8s", 33, 47), ("8s", 1, 1), ("8s", 64, 32)],
)
def test_the_authors_grid_is_kept(variant: str, height: int, width: int) -> None:
    network = _skip_network(variant=variant, pad="caffe").double()
    images = _images(torch.float64, height, width)
    with torch.no_grad():
        expected = _caffe(network.state_dict(), images, "vgg11", variant)
        assert expected.shape == (1, 5, height, width)
        assert relative(network(images), expected) < 1e-10


def test_the_authors_vgg16_at_an_odd_size() -> None:
    network = _skip_network(encoder="vgg16", pad="caffe")
    images = _images(torch.float32, 97, 131)
    with torch.no_grad():
        assert relative(network(images), _caffe(network.state_dict(), images, "vgg16", "8s")) < 1e-5


@pytest.mark.parametrize(("name", "offsets"), [("_SKIP_OFFSETS", (5, 8)), ("_LAST_OFFSETS", (19, 27, 30))])
def test_the_comparison_notices_an_offset_by_one(
    name: str, offsets: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = _skip_network(pad="caffe")
    images = _images(torch.float32, 33, 47)
    monkeypatch.setattr(fcn.FCNSkipHead, name, offsets)
    with torch.no_grad():
        assert relative(network(images), _caffe(network.state_dict(), images, "vgg11", "8s")) > 1e-3


def test_at_once_scales_the_finer_maps() -> None:
    network = _skip_network(pad="caffe", at_once=True)
    images = _images(torch.float32, 33, 47)
    with torch.no_grad():
        expected = _caffe(network.state_dict(), images, "vgg11", "8s", (0.01, 0.0001))
        assert relative(network(images), expected) < 1e-5
        assert relative(network(images), _caffe(network.state_dict(), images, "vgg11", "8s")) > 1e-3


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("height", "width"), [(97, 131), (64, 96)])
def test_the_images_own_grid_is_kept(height: int, width: int, *, align_corners: bool) -> None:
    network = _skip_network(align_corners=align_corners).double()
    images = _images(torch.float64, height, width)
    with torch.no_grad():
        found = network(images)
        state = network.state_dict()
        assert relative(found, _same(state, images, "vgg11", align_corners=align_corners)) < 1e-10
        assert relative(found, _same(state, images, "vgg11", align_corners=not align_corners)) > 1e-3


@pytest.mark.parametrize("pad", ["same", "caffe"])
def test_gradients_equal_those_of_the_functions(pad: str) -> None:
    network = _skip_network(pad=pad).double()
    images = _images(torch.float64, 33, 47)
    state = {name: value.clone().requires_grad_() for name, value in network.state_dict().items()}
    expected = (
        _caffe(state, images, "vgg11", "8s") if pad == "caffe" else _same(state, images, "vgg11", align_corners=False)
    )
    network(images).square().mean().backward()
    expected.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert state[name].grad is not None
        assert relative(parameter.grad, state[name].grad) < 1e-9, name  # type: ignore[arg-type]


def test_the_fixed_kernels_interpolate_inside_the_map() -> None:
    maps = torch.randn(1, 1, 6, 7, dtype=torch.float64)
    enlarged = F.conv_transpose2d(maps, bilinear_kernel(16).double(), stride=8, padding=4)
    resized = F.interpolate(maps, scale_factor=8, mode="bilinear", align_corners=False)
    assert torch.allclose(enlarged[:, :, 4:-4, 4:-4], resized[:, :, 4:-4, 4:-4], atol=1e-12)
    assert not torch.allclose(enlarged, resized, atol=1e-3), "at the border they fade out"
    assert bilinear_kernel(3).flatten().tolist() == [0.25, 0.5, 0.25, 0.5, 1, 0.5, 0.25, 0.5, 0.25]


def test_the_fixed_kernels_are_neither_trained_nor_saved() -> None:
    network = _skip_network(pad="caffe")
    names = dict(network.named_buffers()).keys()
    assert {"head.up_kernel", "head.last_kernel"} <= names
    assert not any("kernel" in name for name in network.state_dict())
    assert not any("kernel" in name for name, _ in network.named_parameters())


def test_score_layers_are_initialized_with_zero() -> None:
    network = FCN(5, encoder="vgg11", pretrained=False, channels=24).eval()
    with torch.no_grad():
        assert not network(_images(torch.float32, 40, 56)).any()


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenetv3_small_050", "convnext_atto", "vgg11_bn"])
@pytest.mark.parametrize(("variant", "stride"), [("32s", 32), ("16s", 16), ("8s", 8)])
def test_other_encoders_have_skip_connections_at_the_same_strides(encoder: str, variant: str, stride: int) -> None:
    network = _scored(FCN(5, variant=variant, encoder=encoder, pretrained=False, channels=24))  # type: ignore[arg-type]
    images = _images(torch.float32, 64, 96)
    with torch.no_grad():
        assert network.coarse_logits(images).shape == (1, 5, 64 // stride, 96 // stride)
    assert (network.head.fc6 is None) == (encoder != "vgg11_bn")


@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
def test_logits_equal_torchvisions_bit_for_bit(name: str, randomize: Randomize) -> None:
    ours, theirs = _torchvision_pair(name, randomize)
    images = _images(torch.float32, 97, 129)
    with torch.no_grad():
        expected = theirs.eval()(images)
        logits, (auxiliary,) = ours.eval().forward_with_aux(images)
    assert torch.equal(logits, expected["out"])
    assert torch.equal(auxiliary, expected["aux"])


@pytest.mark.parametrize("other", [{"first_block": "full"}, {"align_corners": True}, {"output_stride": 16}], ids=str)
def test_the_comparison_notices_another_policy(other: dict[str, Any], randomize: Randomize) -> None:
    ours, theirs = _torchvision_pair("resnet50", randomize, **other)
    images = _images(torch.float32, 65, 97)
    with torch.no_grad():
        assert relative(ours.eval()(images), theirs.eval()(images)["out"]) > 1e-3


def test_gradients_equal_torchvisions(randomize: Randomize) -> None:
    ours, theirs = _torchvision_pair("resnet50", randomize)
    for network in (ours, theirs):
        network.double().train()
        for layer in network.modules():
            if isinstance(layer, nn.Dropout):
                layer.eval()
    images = _images(torch.float64, 33, 49)
    logits, (auxiliary,) = ours.forward_with_aux(images)
    expected = theirs(images)
    (logits.square().mean() + 0.5 * auxiliary.square().mean()).backward()
    (expected["out"].square().mean() + 0.5 * expected["aux"].square().mean()).backward()
    gradients = {_name_from_torchvision(name): parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        assert gradients[name] is not None
        assert relative(parameter.grad, gradients[name]) < 1e-8, name  # type: ignore[arg-type]


def _torchvision_pair(name: str, randomize: Randomize, **arguments: Any) -> tuple[FCN, nn.Module]:
    build = getattr(segmentation, f"fcn_{name}")
    theirs: nn.Module = build(weights=None, weights_backbone=None, num_classes=7, aux_loss=True)
    randomize(theirs)
    ours = FCN(7, variant="dilated", encoder=name, pretrained=False, aux=True, **arguments)
    ours.load_state_dict({_name_from_torchvision(key): value for key, value in theirs.state_dict().items()})
    return _plain(ours), theirs


def _name_from_torchvision(theirs: str) -> str:
    ours = re.sub(r"^backbone\.", "encoder.network.", theirs)
    return re.sub(r"^classifier\.", "head.", re.sub(r"^aux_classifier\.", "auxiliary.", ours))


def test_d6_is_two_convolutions_of_dilation_6_joined_with_their_input(randomize: Randomize) -> None:
    network = FCN(5, variant="d6", encoder="resnet18", pretrained=False)
    randomize(network).double().eval()
    images = _images(torch.float64, 97, 131)
    state = network.state_dict()

    def unit(maps: Tensor, name: str, dilation: int) -> Tensor:
        maps = F.conv2d(maps, state[f"head.{name}.0.weight"], padding=dilation, dilation=dilation)
        norm = [state[f"head.{name}.1.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(maps, *norm).clamp(min=0)

    with torch.no_grad():
        features = network.encoder(images)[-1]
        assert features.shape[-2:] == (7, 9)
        found = network.coarse_logits(images)
        differences = []
        for dilation in (6, 5):
            maps = unit(unit(features, "convs.0", dilation), "convs.1", dilation)
            maps = unit(torch.cat([features, maps], dim=1), "join", 1)
            expected = F.conv2d(maps, state["head.classifier.weight"], state["head.classifier.bias"])
            differences.append(relative(found, expected))
    assert differences[0] < 1e-10
    assert differences[1] > 1e-4


VGG16 = 14_714_688 + 102_764_544 + 16_781_312
"""Convolutions, fc6, fc7."""


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({"variant": "32s"}, VGG16 + 4097 * 21),
        ({"variant": "16s"}, VGG16 + 4097 * 21 + 513 * 21),
        ({"variant": "8s"}, 134_362_751),
        ({"variant": "8s", "pad": "caffe"}, 134_362_751),  # the authors' files add 21 x 21 x (16 + 16 + 256) fixed ones
        ({"variant": "dilated", "encoder": "resnet50"}, 32_957_013),
        ({"variant": "dilated", "encoder": "resnet50", "aux": True}, 35_322_218),
        ({"variant": "dilated", "encoder": "resnet101"}, 51_949_141),
    ],
    ids=str,
)
def test_parameter_counts(arguments: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        assert _count(FCN(21, pretrained=False, **arguments)) == count


def test_the_encoder_follows_the_variant() -> None:
    with torch.device("meta"):
        names = [FCN(2, variant=v, pretrained=False).encoder.name for v in ("8s", "dilated", "d6")]  # type: ignore[arg-type]
        strides = [FCN(2, variant=v, pretrained=False).encoder.strides[-1] for v in ("8s", "dilated", "d6")]  # type: ignore[arg-type]
    assert names == ["vgg16", "resnet50", "resnet50"]
    assert strides == [32, 8, 16]


def test_fully_connected_layers_take_the_weights_of_vggs_classifier() -> None:
    source = ConvMlp(512, 24, 7)
    head = FCN(5, encoder="vgg11", pretrained=False, channels=24).head
    assert isinstance(head, fcn.FCNSkipHead)
    assert isinstance(head.fc6, nn.Conv2d)
    assert isinstance(head.fc7, nn.Conv2d)
    head.take_fully_connected(source)
    for ours, theirs in ((head.fc6, source.fc1), (head.fc7, source.fc2)):
        assert torch.equal(ours.weight, theirs.weight)
        assert torch.equal(ours.bias, theirs.bias)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("encoder", "channels", "pretrained", "taken"),
    [
        ("vgg11", 4096, True, True),
        ("vgg11", 24, True, False),
        ("vgg11", 4096, False, False),
        ("resnet18", 4096, True, False),
    ],
)
def test_shifted_convolutions_are_used_where_they_are_faster(
    encoder: str, channels: int, pretrained: bool, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untrained(name: str, *, pretrained: bool, **arguments: Any) -> Encoder:
        return Encoder(name, pretrained=False, **arguments)

    class Whole:
        pre_logits = object()

    asked, given = [], []

    def whole(name: str, *, pretrained: bool) -> type[Whole]:
        asked.append((name, pretrained))
        return Whole

    monkeypatch.setattr(fcn, "Encoder", untrained)
    monkeypatch.setattr(fcn, "timm_network", whole)
    with torch.device("meta"):
        monkeypatch.setattr(fcn.FCNSkipHead, "take_fully_connected", lambda _, source: given.append(source))
        FCN(5, encoder=encoder, channels=channels, pretrained=pretrained)
    assert asked == ([(encoder, True)] if taken else [])
    assert given == ([Whole.pre_logits] if taken else [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "4s"}, "variant must be one of 32s, 16s, 8s, dilated, d6, found '4s'"),
        ({"pad": "valid"}, "pad must be 'same' or 'caffe', found 'valid'"),
        ({"pad": "caffe", "encoder": "resnet18"}, "on a VGG, found variant '8s' on encoder 'resnet18'"),
        ({"pad": "caffe", "variant": "d6"}, "on a VGG, found variant 'd6' on encoder 'resnet50'"),
        (
            {"aux": True},
            "variant '8s' does not use aux; leave it out, or use variant dilated or d6",
        ),
        ({"output_stride": 16}, "variant '8s' does not use output_stride"),
        ({"first_block": "full"}, "variant '8s' does not use first_block"),
        (
            {"variant": "d6", "at_once": True},
            "variant 'd6' does not use at_once; leave it out, or use variant 32s or 16s or 8s",
        ),
        ({"variant": "dilated", "channels": 64}, "variant 'dilated' does not use channels"),
        ({"variant": "dilated", "encoder": "vgg16"}, "encoder 'vgg16' cannot dilate to output_stride 8"),
    ],
    ids=str,
)
def test_incompatible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as refused:
        imageseg.build_model("FCN", 3, pretrained=False, **arguments)
    assert "\n" not in refused.value.line()
