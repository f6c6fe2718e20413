"""DeconvNet equals its authors' layer list, run with torch's functions only."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from comparing import relative
from index_tables import VGG16, VGG16_KEYS, Row, run_table
from torch import nn
from torch.nn import functional as F

import imageseg
from imageseg.errors import InputError
from imageseg.models.deconvnet import DeconvNet

CLASSES = 21
# The authors' inference prototxt.
DECONVOLUTIONS: list[Row] = [
    ("unpool", "unpool5", 512, 512),
    ("deconv", "deconv5_1", 512, 512),
    ("deconv", "deconv5_2", 512, 512),
    ("deconv", "deconv5_3", 512, 512),
    ("unpool", "unpool4", 512, 512),
    ("deconv", "deconv4_1", 512, 512),
    ("deconv", "deconv4_2", 512, 512),
    ("deconv", "deconv4_3", 512, 256),
    ("unpool", "unpool3", 256, 256),
    ("deconv", "deconv3_1", 256, 256),
    ("deconv", "deconv3_2", 256, 256),
    ("deconv", "deconv3_3", 256, 128),
    ("unpool", "unpool2", 128, 128),
    ("deconv", "deconv2_1", 128, 128),
    ("deconv", "deconv2_2", 128, 64),
    ("unpool", "unpool1", 64, 64),
    ("deconv", "deconv1_1", 64, 64),
    ("deconv", "deconv1_2", 64, 64),
    ("score", "seg-score", 64, CLASSES),
]
TABLE: list[Row] = [
    *VGG16,
    ("fc", "fc6", 512, 4096),
    ("conv", "fc7", 4096, 4096),
    ("unfc", "fc6-deconv", 4096, 512),
    *DECONVOLUTIONS,
]
LITE: list[Row] = [
    *VGG16,
    ("conv", "fc6", 512, 1024),
    ("conv", "fc7", 1024, 1024),
    ("deconv", "fc6-deconv", 1024, 512),
    *DECONVOLUTIONS,
]
DECODER_KEYS = {
    "deconv5_1": ("decoder.0.0.0", "decoder.0.0.1"),
    "deconv5_2": ("decoder.0.1.0", "decoder.0.1.1"),
    "deconv5_3": ("decoder.0.2.0", "decoder.0.2.1"),
    "deconv4_1": ("decoder.1.0.0", "decoder.1.0.1"),
    "deconv4_2": ("decoder.1.1.0", "decoder.1.1.1"),
    "deconv4_3": ("decoder.1.2.0", "decoder.1.2.1"),
    "deconv3_1": ("decoder.2.0.0", "decoder.2.0.1"),
    "deconv3_2": ("decoder.2.1.0", "decoder.2.1.1"),
    "deconv3_3": ("decoder.2.2.0", "decoder.2.2.1"),
    "deconv2_1": ("decoder.3.0.0", "decoder.3.0.1"),
    "deconv2_2": ("decoder.3.1.0", "decoder.3.1.1"),
    "deconv1_1": ("decoder.4.0.0", "decoder.4.0.1"),
    "deconv1_2": ("decoder.4.1.0", "decoder.4.1.1"),
    "seg-score": ("classifier", ""),
}
KEYS = (
    VGG16_KEYS
    | DECODER_KEYS
    | {
        "fc6": ("encoder.fully_connected.0", "encoder.fully_connected.1"),
        "fc7": ("encoder.fully_connected.3", "encoder.fully_connected.4"),
        "fc6-deconv": ("bottleneck.0.0", "bottleneck.0.1"),
    }
)
LITE_KEYS = (
    VGG16_KEYS
    | DECODER_KEYS
    | {
        "fc6": ("bottleneck.0.0", "bottleneck.0.1"),
        "fc7": ("bottleneck.1.0", "bottleneck.1.1"),
        "fc6-deconv": ("bottleneck.2.0", "bottleneck.2.1"),
    }
)


@pytest.fixture
def lite(randomize: Callable[[nn.Module], nn.Module]) -> DeconvNet:
    network = DeconvNet(CLASSES, pretrained=False, bottleneck="lite")
    randomize(network)
    return network.eval()


@pytest.mark.slow
def test_logits_equal_those_of_the_layer_list(randomize: Callable[[nn.Module], nn.Module]) -> None:
    with torch.device("meta"):  # the initialization of 252 million parameters would take longer than all else
        network = DeconvNet(CLASSES, pretrained=False)
    network.to_empty(device="cpu").eval()
    randomize(network)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            bound = (6 / layer.weight[0].numel()) ** 0.5
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.uniform_(layer.bias, -0.1, 0.1)  # type: ignore[arg-type]
    state = network.state_dict()
    assert {key.rpartition(".")[0] for key in state} == {key for pair in KEYS.values() for key in pair if key}
    with torch.no_grad():
        for size in ((224, 224), (250, 300)):
            images = torch.randn(1, 3, *size)
            found = network.coarse_logits(images)
            assert found.shape == (1, CLASSES, *size)
            assert relative(found, run_table(TABLE, state, KEYS, images)) < 1e-5
        assert relative(found, run_table(TABLE, state, KEYS, images, forget_indices=True)) > 1e-2


def test_logits_and_gradients_with_the_lite_bottleneck_equal_in_double_precision(lite: DeconvNet) -> None:
    lite.double()
    images = torch.randn(2, 3, 45, 70, dtype=torch.float64)
    state = dict(lite.named_parameters()) | dict(lite.named_buffers())
    found, expected = lite.coarse_logits(images), run_table(LITE, state, LITE_KEYS, images)
    assert relative(found.detach(), expected.detach()) < 1e-10
    parameters = list(lite.parameters())
    gradients = [torch.autograd.grad(logits.square().sum(), parameters) for logits in (found, expected)]
    assert max(relative(*pair) for pair in zip(*gradients, strict=True)) < 1e-9
    assert {key.rpartition(".")[0] for key in lite.state_dict()} == {
        key for pair in LITE_KEYS.values() for key in pair if key
    }


def test_the_comparison_notices_forgotten_indices_and_swapped_layers(lite: DeconvNet) -> None:
    images = torch.randn(1, 3, 97, 131)
    swapped = LITE_KEYS | {"deconv5_2": LITE_KEYS["deconv5_1"], "deconv5_1": LITE_KEYS["deconv5_2"]}
    with torch.no_grad():
        found, state = lite.coarse_logits(images), lite.state_dict()
        assert relative(found, run_table(LITE, state, LITE_KEYS, images)) < 1e-5
        assert relative(found, run_table(LITE, state, LITE_KEYS, images, forget_indices=True)) > 1e-2
        assert relative(found, run_table(LITE, state, swapped, images)) > 1e-2


def test_logits_change_without_pooling_indices(lite: DeconvNet, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found = lite.coarse_logits(images)
        maps, pools = lite.encoder(images)
        for pooled in pools:
            pooled.indices.zero_()
        monkeypatch.setattr(lite.encoder, "forward", lambda _: (maps, pools))
        assert relative(lite.coarse_logits(images), found) > 1e-2


def test_a_deconvolution_of_stride_1_is_a_convolution_with_the_flipped_kernel() -> None:
    layer = nn.ConvTranspose2d(5, 7, 3, padding=1)
    maps = torch.randn(2, 5, 9, 11)
    flipped = layer.weight.permute(1, 0, 2, 3).flip(2, 3)
    assert relative(layer(maps).detach(), F.conv2d(maps, flipped, layer.bias, padding=1).detach()) < 1e-5


@pytest.mark.parametrize(("bottleneck", "count"), [("fc7x7", 251_805_653), ("lite", 39_974_869)])
def test_parameter_counts(bottleneck: str, count: int) -> None:
    with torch.device("meta"):
        network = imageseg.build_model("DeConvNet", CLASSES, pretrained=False, bottleneck=bottleneck)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


@pytest.mark.parametrize("size", [(223, 300), (300, 223), (192, 192), (8, 8)])
@pytest.mark.parametrize("training", [False, True])
def test_images_below_224_are_refused_up_front(size: tuple[int, int], *, training: bool) -> None:
    with torch.device("meta"):
        network = DeconvNet(2, encoder="vgg11_bn", pretrained=False).train(training)
    with pytest.raises(InputError, match=r"224 x 224 is enough, or pass --network\.bottleneck lite") as refused:
        network(torch.zeros(1, 3, *size, device="meta"))
    assert f"{size[0]} x {size[1]}" in refused.value.line()
    assert "\n" not in refused.value.line()


def test_a_single_image_of_224_trains_with_a_warning() -> None:
    """Its fc6 and fc7 are one value per channel, which batch statistics do not have."""
    with torch.device("meta"):
        network = DeconvNet(2, encoder="vgg11_bn", pretrained=False).train()
        with pytest.warns(UserWarning, match="batch size 1"):
            logits = network(torch.zeros(1, 3, 224, 224))
    assert logits.shape == (1, 2, 224, 224)


def test_fully_connected_layers_with_the_published_weights_are_in_the_encoder() -> None:
    with torch.device("meta"):
        paper = DeconvNet(2, pretrained=False)
        lite = DeconvNet(2, pretrained=False, bottleneck="lite")
    in_encoder = {name for name, _ in paper.named_parameters() if name.startswith("encoder.fully_connected.")}
    assert {"encoder.fully_connected.0.weight", "encoder.fully_connected.3.weight"} < in_encoder
    assert lite.encoder.fully_connected is None


def test_an_unknown_bottleneck_is_refused() -> None:
    with pytest.raises(InputError, match="bottleneck must be 'fc7x7' or 'lite', found 'fc'"):
        DeconvNet(2, pretrained=False, bottleneck="fc")  # type: ignore[arg-type]


@pytest.mark.parametrize("spelling", ["DeConvNet", "DeconvNet", "deconvnet", "deconv-net", "DECONVNET"])
def test_all_spellings_find_the_network(spelling: str) -> None:
    assert imageseg.MODELS.resolve(spelling) == "DeConvNet"
    assert imageseg.MODELS[spelling] is DeconvNet
