"""SegNet equals its authors' layer list, run with torch's functions only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from comparing import relative
from index_tables import VGG16, VGG16_KEYS, Row, run_table
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import imageseg
from imageseg.models.segnet import SegNet

CLASSES = 11
# segnet_train.prototxt of the authors' SegNet-Tutorial.
TABLE: list[Row] = [
    *VGG16,
    ("unpool", "unpool5", 512, 512),
    ("conv", "conv5_3_D", 512, 512),
    ("conv", "conv5_2_D", 512, 512),
    ("conv", "conv5_1_D", 512, 512),
    ("unpool", "unpool4", 512, 512),
    ("conv", "conv4_3_D", 512, 512),
    ("conv", "conv4_2_D", 512, 512),
    ("conv", "conv4_1_D", 512, 256),
    ("unpool", "unpool3", 256, 256),
    ("conv", "conv3_3_D", 256, 256),
    ("conv", "conv3_2_D", 256, 256),
    ("conv", "conv3_1_D", 256, 128),
    ("unpool", "unpool2", 128, 128),
    ("conv", "conv2_2_D", 128, 128),
    ("conv", "conv2_1_D", 128, 64),
    ("unpool", "unpool1", 64, 64),
    ("conv", "conv1_2_D", 64, 64),
    ("score", "conv1_1_D", 64, CLASSES),
]
KEYS = VGG16_KEYS | {
    "conv5_3_D": ("decoder.0.0.0", "decoder.0.0.1"),
    "conv5_2_D": ("decoder.0.1.0", "decoder.0.1.1"),
    "conv5_1_D": ("decoder.0.2.0", "decoder.0.2.1"),
    "conv4_3_D": ("decoder.1.0.0", "decoder.1.0.1"),
    "conv4_2_D": ("decoder.1.1.0", "decoder.1.1.1"),
    "conv4_1_D": ("decoder.1.2.0", "decoder.1.2.1"),
    "conv3_3_D": ("decoder.2.0.0", "decoder.2.0.1"),
    "conv3_2_D": ("decoder.2.1.0", "decoder.2.1.1"),
    "conv3_1_D": ("decoder.2.2.0", "decoder.2.2.1"),
    "conv2_2_D": ("decoder.3.0.0", "decoder.3.0.1"),
    "conv2_1_D": ("decoder.3.1.0", "decoder.3.1.1"),
    "conv1_2_D": ("decoder.4.0.0", "decoder.4.0.1"),
    "conv1_1_D": ("classifier", ""),
}


@pytest.fixture(scope="module")
def built() -> SegNet:
    torch.manual_seed(0)
    return SegNet(CLASSES, pretrained=False)


@pytest.fixture
def network(built: SegNet, randomize: Callable[[nn.Module], nn.Module]) -> SegNet:
    randomize(built)
    return built.float().eval()


@pytest.mark.parametrize("size", [(224, 224), (97, 131)])
def test_logits_equal_those_of_the_layer_list(network: SegNet, size: tuple[int, int]) -> None:
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        found = network.coarse_logits(images)
        expected = run_table(TABLE, network.state_dict(), KEYS, images)
    assert found.shape == (1, CLASSES, *size)
    assert relative(found, expected) < 1e-5


def test_logits_and_gradients_equal_in_double_precision(network: SegNet) -> None:
    network.double()
    images = torch.randn(2, 3, 45, 70, dtype=torch.float64)
    state = dict(network.named_parameters()) | dict(network.named_buffers())
    found, expected = network.coarse_logits(images), run_table(TABLE, state, KEYS, images)
    assert relative(found.detach(), expected.detach()) < 1e-10
    parameters = list(network.parameters())
    gradients = [torch.autograd.grad(logits.square().sum(), parameters) for logits in (found, expected)]
    assert max(relative(*pair) for pair in zip(*gradients, strict=True)) < 1e-9


def test_every_key_is_in_the_layer_list(network: SegNet) -> None:
    named = {key for conv, norm in KEYS.values() for key in (conv, norm) if key}
    assert {key.rpartition(".")[0] for key in network.state_dict()} == named
    assert {name for operation, name, _, _ in TABLE if "pool" not in operation} == set(KEYS)


def test_the_comparison_notices_forgotten_indices_and_swapped_layers(network: SegNet) -> None:
    images = torch.randn(1, 3, 97, 131)
    swapped = KEYS | {"conv5_2_D": KEYS["conv5_1_D"], "conv5_1_D": KEYS["conv5_2_D"]}
    with torch.no_grad():
        found = network.coarse_logits(images)
        state = network.state_dict()
        assert relative(found, run_table(TABLE, state, KEYS, images, forget_indices=True)) > 1e-2
        assert relative(found, run_table(TABLE, state, swapped, images)) > 1e-2


def test_logits_change_without_pooling_indices(network: SegNet, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found = network.coarse_logits(images)
        maps, pools = network.encoder(images)
        for pooled in pools:
            pooled.indices.zero_()
        monkeypatch.setattr(network.encoder, "forward", lambda _: (maps, pools))
        assert relative(network.coarse_logits(images), found) > 1e-2


class _Operations(TorchDispatchMode):
    """Counts the calls of torch's functions."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("model", "arguments"), [("SegNet", {}), ("DeConvNet", {"bottleneck": "lite"})])
def test_the_decoder_gets_the_indices_and_nothing_else(model: str, arguments: dict[str, Any]) -> None:
    network = imageseg.build_model(model, 3, encoder="vgg11_bn", pretrained=False, **arguments).eval()
    with torch.no_grad(), _Operations() as operations:
        network.coarse_logits(torch.zeros(1, 3, 64, 64))
    assert operations.count["max_pool2d_with_indices"] == 5
    assert operations.count["scatter"] == 5
    assert operations.count["convolution"] > 10
    assert not {"cat", "add", "add_", "stack"} & operations.count.keys()


@pytest.mark.parametrize(("num_classes", "count"), [(11, 29_449_355), (21, 29_455_125)])
def test_parameter_counts(num_classes: int, count: int) -> None:
    with torch.device("meta"):
        network = SegNet(num_classes, pretrained=False)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_images_of_camvid_keep_their_size_through_odd_maps(network: SegNet) -> None:
    """360 x 480 is 45 x 60 and 23 x 30 before the last pools in the paper, which rounds up; here maps round down."""
    with torch.no_grad():
        _, pools = SegNet(2, encoder="vgg11_bn", pretrained=False).eval().encoder(torch.zeros(1, 3, 360, 480))
    assert [pooled.size for pooled in pools] == [(360, 480), (180, 240), (90, 120), (45, 60), (22, 30)]


@pytest.mark.parametrize("encoder", ["vgg13_bn", "vgg19_bn", "vgg11"])
def test_the_decoder_mirrors_any_vgg(encoder: str) -> None:
    with torch.device("meta"):
        network = SegNet(3, encoder=encoder, pretrained=False)
    down = [(layer.in_channels, layer.out_channels) for layer in _convs(network.encoder)]
    up = [(layer.in_channels, layer.out_channels) for layer in _convs(network.decoder)]
    assert up == [(after, before) for before, after in reversed(down[1:])]
    assert (network.classifier.in_channels, network.classifier.out_channels) == (64, 3)


def _convs(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
