"""The shared layers, and the step from coarse logits to logits and classes at the image size."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import imageseg
from imageseg.errors import InputError
from imageseg.models import base
from imageseg.models.base import classes_at, most_likely, resize
from imageseg.models.layers.blocks import (
    PooledBatchNorm,
    classifier,
    conv_norm_relu,
    global_mean,
    initialize_head,
    separable_conv_norm_relu,
)


def _norm(channels: int = 3) -> PooledBatchNorm:
    norm = PooledBatchNorm(channels)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    norm.running_var.copy_(torch.tensor([4.0, 1.0, 0.25]))
    return norm


def test_a_single_pooled_value_is_normalized_with_the_running_statistics() -> None:
    norm = _norm().train()
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    with pytest.warns(UserWarning, match="batch size 1.*use a batch size of 4 or more"):
        found = norm(torch.tensor([3.0, 2.0, 4.0]).view(1, 3, 1, 1))
    assert found.flatten().tolist() == pytest.approx([1.0, 0.0, 2.0], abs=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_the_warning_comes_once() -> None:
    with pytest.warns(UserWarning, match="batch size 1"):
        _norm().train()(torch.ones(1, 3, 1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _norm().train()(torch.ones(1, 3, 1, 1))


@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (1, 3, 1, 2), (4, 3, 1, 1)])
def test_more_than_one_value_is_normalized_with_batch_statistics(shape: tuple[int, ...]) -> None:
    norm, plain = _norm().train(), nn.BatchNorm2d(3).train()
    plain.load_state_dict(norm.state_dict())
    values = torch.randn(shape)
    assert torch.equal(norm(values), plain(values))
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in norm.state_dict().items())


def test_prediction_never_warns() -> None:
    found = _norm().eval()(torch.tensor([3.0, 2.0, 4.0]).view(1, 3, 1, 1))
    assert found.flatten().tolist() == pytest.approx([1.0, 0.0, 2.0], abs=1e-4)


def test_a_single_value_passes_its_gradient_on() -> None:
    norm = _norm().train()
    values = torch.ones(1, 3, 1, 1, requires_grad=True)
    with pytest.warns(UserWarning, match="batch size 1"):
        norm(values).sum().backward()
    assert values.grad is not None
    assert values.grad.flatten().tolist() == pytest.approx([0.5, 1.0, 2.0], rel=1e-4)


@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), (3, 5), (5, 2)])
def test_convolutions_keep_height_and_width(kernel: int, dilation: int) -> None:
    layer = conv_norm_relu(2, 4, kernel=kernel, dilation=dilation)
    found = layer(torch.randn(2, 2, 7, 10))
    assert found.shape == (2, 4, 7, 10)
    assert found.min() == 0


def test_a_separable_convolution_is_depthwise_then_pointwise() -> None:
    layer = separable_conv_norm_relu(4, 6, dilation=2)
    convs = [part for part in layer if isinstance(part, nn.Conv2d)]
    assert [(conv.kernel_size[0], conv.groups, conv.dilation[0]) for conv in convs] == [(3, 4, 2), (1, 1, 1)]
    assert sum(isinstance(part, nn.BatchNorm2d) for part in layer) == 2
    assert layer(torch.randn(2, 4, 7, 10)).shape == (2, 6, 7, 10)


def test_convolutions_have_he_initialization() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(64, 128, 3), nn.ConvTranspose2d(128, 64, 2), nn.BatchNorm2d(64))
    nn.init.constant_(layers[2].weight, 0.3)
    initialize_head(layers)
    assert float(layers[0].weight.detach().std()) == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    assert not layers[0].bias.any()
    assert not layers[1].bias.any()
    assert layers[2].weight.eq(1).all()


def test_a_classifier_starts_near_a_uniform_guess() -> None:
    layer = classifier(256, 19, kernel=3)
    assert float(layer.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    assert not layer.bias.any()
    assert layer(torch.randn(1, 256, 5, 6)).shape == (1, 19, 5, 6)


def test_the_global_mean_is_adaptive_pooling_to_one() -> None:
    features = torch.randn(2, 3, 5, 7)
    assert torch.allclose(global_mean(features), F.adaptive_avg_pool2d(features, 1), atol=1e-6)


def test_resizing_aligns_the_outer_edges_of_pixels() -> None:
    ramp = torch.arange(4.0).view(1, 1, 1, 4)
    assert resize(ramp, (1, 8)).flatten().tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]
    assert resize(ramp, (1, 4)) is ramp


def test_the_first_of_equal_logits_is_the_class() -> None:
    logits = torch.zeros(1, 4, 2, 2)
    logits[0, 2, 0, 0] = logits[0, 3, 0, 0] = 1
    classes = most_likely(logits)
    assert classes.tolist() == [[[2, 0], [0, 0]]]
    assert np.array_equal(classes.numpy(), logits.numpy().argmax(axis=1))


@pytest.mark.parametrize("num_classes", [0, -3, 256])
def test_a_network_needs_a_class_and_an_index_for_what_is_ignored(num_classes: int) -> None:
    with pytest.raises(InputError, match=f"num_classes must be from 1 to 255, found {num_classes}"):
        imageseg.build_model("UNet", num_classes, encoder="resnet18", pretrained=False)


def test_an_argument_that_a_network_lacks_is_refused() -> None:
    with pytest.raises(InputError, match="UNet has no argument 'output_stride'"):
        imageseg.build_model("UNet", 2, output_stride=16)
    with pytest.raises(InputError, match=r"no argument 'encodr' \(did you mean 'encoder'\?\)"):
        imageseg.build_model("unet", 2, encodr="resnet18")


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("DeepLabV3", {"channels": -5}, "DeepLabV3: channels must be 1 or more, found -5"),
        ("DeepLabV3", {"rates": (6, 0)}, r"DeepLabV3: rates must be 1 or more, found \(6, 0\)"),
        ("DeepLabv3_plus", {"decoder_convs": 0}, "decoder_convs must be 1 or more, found 0"),
        ("UPerNet", {"bins": (1, 0)}, "UPerNet: bins must be 1 or more"),
        (
            "PSPNet",
            {"bins": tuple(range(1, 600))},
            "PSPNet: bins must be one or more numbers of at least 1, no more than",
        ),
        ("LRASPP", {"norm_epsilon": -1.0}, "norm_epsilon must be more than 0, found -1.0"),
        ("UNet", {"decoder_channels": (64, 32)}, r"decoder_channels must be 5 numbers.* found \(64, 32\)"),
        ("UNet", {"dropout": 2}, "UNet has no argument 'dropout'"),
        ("DeepLabV3", {"dropout": 2}, "DeepLabV3: dropout probability"),
        ("UNet", {"encoder": None}, "timm has no encoder 'None'"),
    ],
)
def test_invalid_arguments_raise_a_one_line_error(model: str, arguments: dict[str, object], message: str) -> None:
    usual = {"encoder": "resnet18", "pretrained": False}
    with pytest.raises(InputError, match=message):
        imageseg.build_model(model, 2, **usual | arguments)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 4, 32, 32)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    network = imageseg.build_model("UNet", 2, encoder="resnet18", pretrained=False)
    with pytest.raises(InputError, match=r"the network expects \(N, 3, H, W\) images, found"):
        network(torch.zeros(shape))


def test_one_class_is_possible() -> None:
    network = imageseg.build_model("UNet", 1, encoder="mobilenetv3_small_050", pretrained=False).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 1, 32, 32)


@pytest.mark.parametrize("size", [(64, 96), (32, 48), (8, 12), (97, 131), (65, 96), (64, 131), (9, 12), (5, 7), (1, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("band", [1, 700, 2**20])
@pytest.mark.parametrize("align_corners", [False, True])
def test_classes_in_bands_equal_those_of_the_complete_map(
    *,
    size: tuple[int, int],
    layout: torch.memory_format,
    band: int,
    align_corners: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(base, "_BAND", band)
    logits = torch.randn(2, 5, 8, 12, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=layout)
    classes = classes_at(logits, size, align_corners=align_corners)
    assert classes.dtype == torch.uint8
    assert torch.equal(classes, most_likely(resize(logits, size, align_corners=align_corners)))


@pytest.mark.parametrize("size", [(64, 96), (97, 131)])
def test_classes_do_not_depend_on_the_number_of_threads(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_BAND", 700)
    logits = torch.randn(2, 5, 8, 12, generator=torch.Generator().manual_seed(0))
    torch.set_num_threads(3)
    with torch.inference_mode():
        classes = classes_at(logits, size)
    assert torch.get_num_threads() == 3
    assert torch.equal(classes, most_likely(resize(logits, size)))


def test_a_fault_in_a_band_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(logits: torch.Tensor) -> torch.Tensor:
        raise MemoryError(logits.shape)

    monkeypatch.setattr(base, "_BAND", 700)
    monkeypatch.setattr(base, "most_likely", failing)
    torch.set_num_threads(2)
    with pytest.raises(MemoryError):
        classes_at(torch.zeros(1, 5, 8, 12), (64, 96))


def test_classes_of_half_precision_logits_are_computed_in_float32() -> None:
    logits = torch.randn(1, 7, 6, 9, generator=torch.Generator().manual_seed(1)).bfloat16()
    for size in ((24, 36), (23, 31)):
        assert torch.equal(classes_at(logits, size), most_likely(resize(logits.float(), size)))


def test_classes_in_bands_never_hold_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0

    def watched(maps: torch.Tensor, size: tuple[int, int], *, align_corners: bool = False) -> torch.Tensor:
        nonlocal largest
        resized = resize(maps, size, align_corners=align_corners)
        largest = max(largest, resized.numel())
        return resized

    monkeypatch.setattr(base, "resize", watched)
    monkeypatch.setattr(base, "_BAND", 4096)
    for size in ((128, 128), (131, 127)):
        classes_at(torch.zeros(1, 4, 16, 16), size)
    assert largest <= 3 * 4096, "one row and its two neighbours, out of 65,536 logits"
