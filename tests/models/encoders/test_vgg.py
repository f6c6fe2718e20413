"""VGGEncoder: torchvision's state dict keys, exact unpooling, and published weights."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from imageseg.errors import InputError
from imageseg.models.deconvnet import DeconvNet
from imageseg.models.encoders.vgg import Pooled, VGGEncoder, mirrored, unpool
from imageseg.models.segnet import SegNet

NAMES = ("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn", "vgg11", "vgg13", "vgg16", "vgg19")


@pytest.mark.parametrize("name", NAMES)
def test_keys_and_shapes_are_torchvisions(name: str) -> None:
    with torch.device("meta"):
        ours = VGGEncoder(name, pretrained=False)
        theirs = getattr(torchvision.models, name)()
    expected = {key: value.shape for key, value in theirs.state_dict().items() if key.startswith("features.")}
    assert {key: value.shape for key, value in ours.state_dict().items()} == expected


def test_the_fully_connected_layers_are_torchvisions_as_convolutions() -> None:
    with torch.device("meta"):
        ours = VGGEncoder("vgg11", pretrained=False, fully_connected=True)
        theirs = torchvision.models.vgg11()
    assert ours.fully_connected is not None
    for layer, key in ((ours.fully_connected[0], "classifier.0"), (ours.fully_connected[3], "classifier.3")):
        weight = theirs.state_dict()[f"{key}.weight"]
        assert layer.weight.shape[0] == weight.shape[0]
        assert layer.weight.numel() == weight.numel()
        assert layer.bias.shape == theirs.state_dict()[f"{key}.bias"].shape
    assert ours.channels == 4096


def test_widths_are_those_of_each_stage() -> None:
    with torch.device("meta"):
        encoder = VGGEncoder("vgg16_bn", pretrained=False)
    assert encoder.widths == (
        (3, 64, 64),
        (64, 128, 128),
        (128, 256, 256, 256),
        (256, 512, 512, 512),
        (512, 512, 512, 512),
    )
    assert mirrored(encoder.widths[3]) == [(512, 512), (512, 512), (512, 256)]


@pytest.mark.parametrize("size", [(64, 96), (97, 131), (32, 33)])
def test_maps_and_pooling_indices_equal_those_of_the_layers_run_one_by_one(size: tuple[int, int]) -> None:
    encoder = VGGEncoder("vgg11_bn", pretrained=False).eval()
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        maps, pools = encoder(images)
        assert torch.equal(maps, encoder.features(images))
        assert torch.equal(pools[0].indices, F.max_pool2d(encoder.features[:3](images), 2, 2, return_indices=True)[1])
    assert [pooled.size for pooled in pools] == [(size[0] // 2**i, size[1] // 2**i) for i in range(5)]


@pytest.mark.parametrize("size", [(8, 12), (7, 9), (5, 7), (2, 3)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_unpooling_equals_torchs_bit_for_bit(
    size: tuple[int, int], layout: torch.memory_format, dtype: torch.dtype
) -> None:
    maps = torch.randn(2, 5, *size, dtype=dtype).contiguous(memory_format=layout)
    pooled, indices = F.max_pool2d(maps, 2, 2, return_indices=True)
    values = torch.randn_like(pooled)
    expected = F.max_unpool2d(values, indices, 2, 2, output_size=list(size))
    found = unpool(values, Pooled(indices, size))
    assert torch.equal(found, expected)
    if values.shape[-1] > 1:  # a map of one value has either order
        assert found.is_contiguous(memory_format=layout), "the next convolution would have to copy it"


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_of_unpooling_is_torchs(layout: torch.memory_format) -> None:
    maps = torch.randn(2, 3, 7, 9).contiguous(memory_format=layout)
    _, indices = F.max_pool2d(maps, 2, 2, return_indices=True)
    cotangent = torch.randn(2, 3, 7, 9)
    gradients = []
    for undo in (lambda x: unpool(x, Pooled(indices, (7, 9))), lambda x: F.max_unpool2d(x, indices, 2, 2, 0, [7, 9])):
        values = torch.ones(2, 3, 3, 4).contiguous(memory_format=layout).requires_grad_()
        (undo(values) * cotangent).sum().backward()
        gradients.append(values.grad)
    assert torch.equal(*gradients)  # type: ignore[arg-type]


@pytest.mark.parametrize("network", [SegNet, DeconvNet])
def test_only_the_choice_among_nearly_equal_values_differs_in_bfloat16(
    network: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the indices of float32 the whole network agrees closely: unpooling itself loses nothing."""
    arguments = {"bottleneck": "lite"} if network is DeconvNet else {}
    built = network(5, encoder="vgg11_bn", pretrained=False, **arguments).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, (_, pools) = built.coarse_logits(images), built.encoder(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            maps, of_bfloat16 = built.encoder(images)
            assert any(not torch.equal(a.indices, b.indices) for a, b in zip(pools, of_bfloat16, strict=True))
            monkeypatch.setattr(built.encoder, "forward", lambda _: (maps, pools))
            found = built.coarse_logits(images).float()
    assert (found - expected).norm() / expected.norm() < 0.03


def test_weights_come_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loaded like those of ``Encoder``, whose tests cover the errors."""
    weights = _narrow_vgg().state_dict()
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda _, name: str(tmp_path / name))
    real = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda *names, **arguments: real(*names, **arguments | {"mlp_ratio": 0.01})
    )
    found = VGGEncoder("vgg11_bn", pretrained=True).state_dict()
    assert len(found) == 56
    assert all(torch.equal(value, weights[name]) for name, value in found.items())
    network = DeconvNet(2, encoder="vgg11_bn")
    assert network.pretrained
    connected = network.encoder.fully_connected
    assert connected is not None
    assert torch.equal(connected[0].weight, weights["pre_logits.fc1.weight"])
    assert torch.equal(connected[3].weight, weights["pre_logits.fc2.weight"])


def _narrow_vgg() -> nn.Module:
    """With all of VGG's layers, of which the fully connected ones would be half a gigabyte."""
    network: nn.Module = timm.create_model("vgg11_bn", pretrained=False, num_classes=1000, mlp_ratio=0.01)
    return network


def test_other_numbers_of_channels_are_handled_by_timm() -> None:
    encoder = VGGEncoder("vgg11_bn", pretrained=False, in_channels=5)
    assert encoder.widths[0] == (5, 64)
    assert len(encoder.mean) == len(encoder.std) == 5
    assert encoder.eval()(torch.zeros(1, 5, 32, 32))[0].shape == (1, 512, 1, 1)


@pytest.mark.parametrize("name", ["resnet50", "repvgg_a0", "vgg12"])
def test_an_encoder_that_is_not_a_vgg_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(
        InputError, match=f"encoder '{name}' is not a VGG.*vgg16_bn.*or a network for any encoder"
    ) as refused:
        VGGEncoder(name)
    assert "\n" not in refused.value.line()


def test_an_image_too_small_is_refused_as_by_every_encoder() -> None:
    encoder = VGGEncoder("vgg11_bn", pretrained=False).eval()
    for size in ((31, 90), (90, 31), (1, 1)):
        with pytest.raises(InputError, match=f"cannot process a {size[0]} x {size[1]} image; 32 x 32 is enough"):
            encoder(torch.zeros(1, 3, *size))
    encoder.train()
    with pytest.raises(InputError, match=r"single 63 x 40 image cannot train.*use images of 64 x 64 or more"):
        encoder(torch.zeros(1, 3, 63, 40))
    with pytest.raises(InputError, match="cannot process a 8 x 8 image; 32 x 32 is enough"):
        encoder(torch.zeros(2, 3, 8, 8))
    for shape in ((2, 3, 32, 32), (1, 3, 64, 32)):
        assert encoder(torch.zeros(shape))[0][:, 0].numel() == 2


def test_an_unused_classifier_does_not_slow_down_the_encoder() -> None:
    """Half a gigabyte of random numbers took two seconds of every start."""
    made: list[int] = []
    real = nn.Conv2d.reset_parameters

    def watched(layer: nn.Conv2d) -> None:
        made.append(layer.weight.numel())
        real(layer)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(nn.Conv2d, "reset_parameters", watched)
        VGGEncoder("vgg11_bn", pretrained=False)
    assert max(made) == 512 * 512 * 9
