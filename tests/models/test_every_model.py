"""The contract of ``Network``, tested on every entry of ``imageseg.MODELS``."""

from __future__ import annotations

import copy
import functools
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import timm
import torch
from comparing import relative
from torch import Tensor, nn
from torch.nn import functional as F

import imageseg
from imageseg.inference.fold_batchnorm import fold_batchnorm
from imageseg.models.base import Network
from imageseg.models.layers.blocks import PooledBatchNorm
from imageseg.registry import parameters_of

CLASSES = 5
ENCODERS: dict[str, tuple[str, ...]] = {
    "DeConvNet": ("vgg11_bn",),
    "EfficientViT": ("resnet18", "efficientvit_b0"),
    "EoMT": ("vit_tiny_patch16_dinov3_qkvb", "test_vit"),  # rotary and learned positions
    "FCN": ("vgg11", "resnet18"),
    "FCN caffe": ("vgg11",),
    "FCN d6": ("resnet18",),
    "FCN dilated": ("mobilenetv3_small_050",),
    "LRASPP": ("mobilenetv3_small_050", "resnet18"),
    "SegFormer": ("pvt_v2_b0", "convnext_atto", "resnet18"),
    "SegNet": ("vgg11_bn",),
    "UNetClassic": ("resnet18",),  # it has none of its own; this one's mean and standard deviation are ImageNet's
    "UPerNet": ("resnet18", "pvt_v2_b0", "convnext_atto"),
    "ViTLinear": ("vit_tiny_patch16_dinov3_qkvb", "test_vit"),
}
"""Encoders to test a network on, where resnet18 and mobilenetv3_small_050 do not suit it."""
ARGUMENTS: dict[str, dict[str, Any]] = {
    "DeConvNet": {
        "bottleneck": "lite"
    },  # with the paper's it has 200 million parameters, and needs images of 224 x 224 or more
    "DeepLabV3": {"output_stride": 8, "channels": 64},  # at 16, logits of 64 x 64 images would be 4 x 4
    "EoMT": {"num_queries": 12},
    "FCN": {"channels": 64},
    "PSPNet": {"channels": 64},
    "SegFormer": {"channels": 32},
    "UNetClassic": {"channels": (8, 16, 32, 64, 128)},
    "UPerNet": {"channels": 32, "aux_channels": 16},
}
"""Arguments that make a network small enough to test."""
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "FCN caffe": ("FCN", {"variant": "16s", "pad": "caffe", "channels": 64}),
    "FCN dilated": ("FCN", {"variant": "dilated", "aux": True}),
    "FCN d6": ("FCN", {"variant": "d6"}),
}
"""Variants of a network that are tested like a network of their own: the network and its arguments."""
MOVABLE: dict[str, dict[str, Any]] = {"PSPNet": {"bins": (1,)}, "UPerNet": {"bins": (1,)}}
"""Arguments that make a network translation equivariant, which means over fixed cells are not."""
BFLOAT16_ERROR = {
    # Pooling of nearly equal values may select another one in bfloat16, which is then unpooled one pixel off.
    "SegNet": 0.3,
    "DeConvNet": 0.3,
}
"""Relative error of bfloat16 logits that is inherent to a network, if it may exceed 0.1."""
WITHOUT_TRANSLATION = {
    "ViTLinear": "a ViT uses the position of a patch in the image",
    "EoMT": "a ViT uses the position of a patch in the image",
}
"""Networks that are not translation equivariant, and why."""
OVERFITTED_MIOU = {"ViTLinear": 0.88}
"""Sufficient mIoU on two overfitted images instead of 0.95: 4 x 4 logits, resized by 16, miss some of the borders."""
WITHOUT_BATCH_STATISTICS = {"EoMT": "it normalizes every token by itself, so a single value is enough"}
"""Networks that train on an image of any size, and why."""


def _encoders(model: str) -> tuple[str, ...]:
    return ENCODERS.get(model, ("resnet18", "mobilenetv3_small_050"))


CASES = [(model, encoder) for model in (*imageseg.MODELS, *FORMS) for encoder in _encoders(model)]


@functools.cache
def _built(model: str, encoder: str, **further: Any) -> Network:
    torch.manual_seed(0)
    name, arguments = FORMS.get(model, (model, ARGUMENTS.get(model, {})))
    takes = parameters_of(imageseg.MODELS[name])
    chosen = {"encoder": encoder, "pretrained": False, **arguments, **further}
    network = imageseg.build_model(name, CLASSES, **{name: value for name, value in chosen.items() if name in takes})
    for layer in network.modules():  # FCN's score layers are initialized with zero, which would hide everything
        if isinstance(layer, nn.Conv2d) and not layer.weight.any():
            nn.init.normal_(layer.weight, std=0.01)
    return network


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


@pytest.fixture
def fresh(case: tuple[str, str]) -> Network:
    """The network as initialized."""
    return copy.deepcopy(_built(*case))


@pytest.fixture
def network(fresh: Network, randomize: Callable[[nn.Module], nn.Module]) -> Network:
    """The network in evaluation mode, with normalizations that are not the identity."""
    randomize(fresh)
    return fresh.eval()


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def _images(count: int, height: int, width: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("size", [(97, 131), (33, 65), (64, 32)])
def test_logits_have_the_size_of_the_images(network: Network, size: tuple[int, int]) -> None:
    with torch.no_grad():
        logits = network(_images(2, *size))
    assert logits.shape == (2, CLASSES, *size)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()
    assert (logits.flatten(2).std(dim=2) > 0).all(), "a constant map is not a plausible result for a random image"


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 5)])
def test_a_tiny_image_is_predicted_or_refused_with_the_size_that_is_enough(
    network: Network, size: tuple[int, int]
) -> None:
    try:
        with torch.no_grad():
            logits = network(_images(1, *size))
    except ValueError as error:
        assert re.search(r"\d+ x \d+ is enough", str(error))  # noqa: PT017 (either outcome keeps the contract)
    else:
        assert logits.shape == (1, CLASSES, *size)
        assert torch.isfinite(logits).all()


def test_uint8_and_floating_point_images_give_the_same(network: Network) -> None:
    images = _images(1, 40, 56)
    with torch.no_grad():
        assert torch.equal(network(images), network(images.float()))


def test_images_of_one_batch_do_not_influence_each_other(network: Network) -> None:
    images = _images(2, 40, 56)
    with torch.no_grad():
        together, alone = network(images), network(images[1:])
    assert relative(together[1:], alone) < 1e-5


def test_normalization_is_that_of_the_encoders_weights(network: Network, case: tuple[str, str]) -> None:
    images = _images(1, 40, 56)
    config = timm.get_pretrained_cfg(case[1])
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (config.mean, config.std))
    by_hand = ((images.double() / 255 - mean) / std).float()
    with torch.no_grad():
        expected = F.interpolate(network.coarse_logits(by_hand), size=(40, 56), mode="bilinear", align_corners=False)
        assert relative(network(images), expected) < 1e-4
        unnormalized = F.interpolate(network.coarse_logits(images.float()), size=(40, 56), mode="bilinear")
        assert relative(network(images), unnormalized) > 0.1


def test_predicted_classes_are_the_largest_logits(network: Network) -> None:
    images = _images(2, 33, 41)
    with torch.no_grad():
        classes = network.predict_classes(images)
        expected = network(images).numpy().argmax(axis=1)
    assert classes.dtype == torch.uint8
    assert np.array_equal(classes.numpy(), expected)


def test_auxiliary_logits_have_the_size_of_the_main_ones(network: Network) -> None:
    images = _images(1, 40, 56)
    with torch.no_grad():
        logits, auxiliary = network.forward_with_aux(images)
        assert torch.equal(logits, network(images))
    assert all(logits.shape == (1, CLASSES, 40, 56) for logits in auxiliary)


def test_prediction_is_the_same_every_time(network: Network) -> None:
    images = _images(1, 40, 56)
    with torch.no_grad():
        assert torch.equal(network(images), network(images))


def test_prediction_leaves_no_trace_in_the_network(network: Network) -> None:
    before = copy.deepcopy(network.state_dict())
    with torch.no_grad():
        network(_images(2, 40, 56))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_state_dict_carries_everything_over(network: Network, case: tuple[str, str]) -> None:
    other = copy.deepcopy(_built(*case)).eval()
    images = _images(1, 40, 56)
    with torch.no_grad():
        for parameter in network.parameters():  # a VGG has no normalization that would tell both apart
            parameter.mul_(1.1)
        expected = network(images)
        assert not torch.equal(other(images), expected)
        other.load_state_dict(copy.deepcopy(network.state_dict()))
        assert torch.equal(other(images), expected)


def test_memory_order_does_not_matter(network: Network) -> None:
    images = _images(2, 48, 64)
    with torch.no_grad():
        expected = network(images)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        found = network(images.contiguous(memory_format=torch.channels_last))
    assert relative(found, expected) < 1e-4


def test_bfloat16_agrees_where_the_network_is_confident(network: Network, case: tuple[str, str]) -> None:
    images = _images(2, 64, 64)
    with torch.no_grad():
        expected = network(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = network(images).float()
    assert not torch.equal(found, expected), "autocast did nothing"
    assert (found - expected).norm() / expected.norm() < BFLOAT16_ERROR.get(case[0], 0.1)
    best, second = expected.topk(2, dim=1).values.unbind(dim=1)
    sure = best - second >= (best - second).median()
    assert (found.argmax(1) == expected.argmax(1))[sure].float().mean() > 0.97


def test_an_exported_program_agrees(network: Network) -> None:
    images = _images(1, 64, 96)
    program = torch.export.export(network, (images,), strict=False).module()
    other = _images(1, 64, 96, seed=1)
    with torch.no_grad():
        assert relative(program(other), network(other)) < 1e-5


@pytest.mark.parametrize("model", [*imageseg.MODELS, *FORMS])
def test_a_compiled_network_agrees(model: str, randomize: Callable[[nn.Module], nn.Module]) -> None:
    """Traced and differentiated ahead of time, but run by torch's own kernels: no compiler is needed."""
    network = randomize(copy.deepcopy(_built(model, _encoders(model)[0]))).eval()
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    images = _images(1, 64, 72)
    with torch.no_grad():
        assert relative(compiled(images), network(images)) < 1e-5
    torch.compiler.reset()


def test_a_folded_network_agrees(network: Network, case: tuple[str, str]) -> None:
    quick = fold_batchnorm(network)
    in_use = [layer for name, layer in quick.named_modules() if not name.startswith("auxiliary")]
    norms = sum(isinstance(layer, nn.BatchNorm2d) for layer in in_use)
    assert norms == (case[0] == "ViTLinear"), "only ViTLinear normalizes what no convolution made"
    images = _images(2, 97, 65)
    with torch.no_grad():
        assert relative(quick(images), network(images)) < 1e-4


@pytest.mark.parametrize("in_channels", [1, 5])
@pytest.mark.parametrize("model", [*imageseg.MODELS, *FORMS])
def test_images_may_have_any_number_of_channels(model: str, in_channels: int) -> None:
    network = _built(model, _encoders(model)[-1], in_channels=in_channels).eval()
    images = torch.randint(0, 256, (1, in_channels, 64, 65), dtype=torch.uint8)
    with torch.no_grad():
        logits = network(images)
        images[:, -1] = 255 - images[:, -1]
        assert not torch.equal(network(images), logits), "the last channel has no effect"
    assert logits.shape == (1, CLASSES, 64, 65)


def test_a_moved_image_moves_the_logits(case: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A patch moved by 32 pixels on an empty canvas: maps that are not aligned with the pixel grid would not move exactly."""
    if case[0] in WITHOUT_TRANSLATION:
        pytest.skip(WITHOUT_TRANSLATION[case[0]])
    fresh = copy.deepcopy(_built(*case, **MOVABLE.get(case[0], {})))
    for layer in fresh.modules():
        if isinstance(layer, nn.BatchNorm2d):  # keeps zero zero, so that the canvas has no border
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    patch = torch.randint(0, 256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(3)).float()

    def logits(at: int) -> Tensor:
        canvas = fresh.mean.expand(1, 3, 512, 512).clone()
        canvas[:, :, at : at + 64, at : at + 64] = patch
        with torch.no_grad():
            return fresh.eval()(canvas)[:, :, at : at + 64, at : at + 64]

    before = logits(192)
    spread = (before - before.mean(dim=(2, 3), keepdim=True)).norm()
    assert (logits(224) - before).norm() / spread < 1e-3

    if fresh.coarse_logits(torch.zeros(1, 3, 64, 64)).shape[-1] < 64:
        interpolate = functools.partial(F.interpolate, mode="bilinear", align_corners=True)
        monkeypatch.setattr("imageseg.models.base.resize", lambda maps, size, **_: interpolate(maps, size=tuple(size)))
        assert (logits(224) - logits(192)).norm() / spread > 1e-2, "aligned corners went unnoticed"


def test_the_encoder_and_the_head_are_all_there_is(fresh: Network) -> None:
    encoder = {id(parameter) for parameter in fresh.encoder.parameters()}
    named = {id(parameter): name for name, parameter in fresh.named_parameters()}
    head = {name for identity, name in named.items() if identity not in encoder}
    assert encoder < named.keys()
    assert head
    assert not any(name.startswith("encoder.") for name in head)


def test_no_layer_and_no_parameter_is_used_twice(fresh: Network) -> None:
    """``[layer] * n`` would train one layer in n places."""
    modules = [id(module) for _, module in fresh.named_modules(remove_duplicate=False)]
    parameters = [id(parameter) for _, parameter in fresh.named_parameters(remove_duplicate=False)]
    assert len(set(modules)) == len(modules)
    assert len(set(parameters)) == len(parameters)


def test_every_parameter_that_trains_gets_a_gradient(network: Network) -> None:
    network.train()
    logits, auxiliary = network.forward_with_aux(_images(2, 64, 96))
    mask = torch.randint(0, CLASSES, (2, 64, 96), generator=torch.Generator().manual_seed(2))
    torch.stack([F.cross_entropy(maps, mask) for maps in (logits, *auxiliary)]).sum().backward()
    trained = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    assert [name for name, gradient in trained.items() if gradient is None or not bool((gradient != 0).any())] == []
    assert trained
    frozen = [p.grad for p in network.parameters() if not p.requires_grad]
    assert all(gradient is None for gradient in frozen)


def test_the_first_loss_is_that_of_a_uniform_guess(fresh: Network) -> None:
    mask = torch.randint(0, CLASSES, (2, 64, 96), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        loss = F.cross_entropy(fresh.train()(_images(2, 64, 96)), mask)
    assert float(loss) == pytest.approx(np.log(CLASSES), abs=0.35)


def test_a_batch_of_one_trains_and_warns_at_most_once(fresh: Network) -> None:
    fresh.train()
    pooled = any(isinstance(module, PooledBatchNorm) for module in fresh.modules())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for seed in range(2):
            fresh(_images(1, 64, 65, seed=seed)).square().mean().backward()
    assert [str(w.message).partition(":")[0] for w in caught] == (["batch size 1"] if pooled else [])
    assert all(torch.isfinite(p.grad).all() for p in fresh.parameters() if p.grad is not None)
    assert all(torch.isfinite(value).all() for value in fresh.state_dict().values())


def test_a_single_image_too_small_to_train_on_is_refused_with_the_size_that_is_enough(
    fresh: Network, case: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if case[0] in WITHOUT_BATCH_STATISTICS:
        pytest.skip(WITHOUT_BATCH_STATISTICS[case[0]])
    monkeypatch.setattr(PooledBatchNorm, "_warned", True)
    with pytest.raises(ValueError, match=r"8 x 8.*use images of (\d+) x \1 or more") as refused:
        fresh.train()(_images(1, 8, 8))
    named = re.search(r"images of (\d+) x", str(refused.value))
    assert named is not None
    side = int(named.group(1))
    assert fresh(_images(1, side, side)).shape == (1, CLASSES, side, side)


@pytest.mark.usefixtures("deterministic")
def test_training_is_deterministic(fresh: Network) -> None:
    images, mask = _images(2, 64, 64), torch.randint(0, CLASSES, (2, 64, 64))
    gradients = []
    for network in (fresh, copy.deepcopy(fresh)):
        torch.manual_seed(5)
        logits, auxiliary = network.train().forward_with_aux(images)
        torch.stack([F.cross_entropy(maps, mask) for maps in (logits, *auxiliary)]).sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters() if parameter.requires_grad])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("model", imageseg.MODELS)
def test_two_images_can_be_overfitted(model: str) -> None:
    network = copy.deepcopy(_built(model, _encoders(model)[-1]))
    mask = torch.randint(0, CLASSES, (2, 4, 4), generator=torch.Generator().manual_seed(4))
    mask = mask.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2)  # (2, 64, 64)
    colors = torch.tensor([[220, 30, 30], [30, 220, 30], [30, 30, 220], [220, 220, 30], [128, 128, 128]])
    noise = torch.randint(-25, 26, (2, 3, 64, 64), generator=torch.Generator().manual_seed(6))
    images = (colors[mask].permute(0, 3, 1, 2) + noise).to(torch.uint8)
    assert _miou(network, images, mask) < 0.5
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses, miou, enough = [np.inf], 0.0, OVERFITTED_MIOU.get(model, 0.95)
    while (miou <= enough or losses[-1] >= 0.3 * losses[1]) and len(losses) <= 100:
        for _ in range(10):
            loss = F.cross_entropy(network.train()(images), mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        miou = _miou(network, images, mask)
    assert miou > enough
    assert losses[-1] < 0.3 * losses[1]


def _miou(network: Network, images: Tensor, mask: Tensor) -> float:
    confusion = imageseg.ConfusionMatrix(CLASSES)
    with torch.no_grad():
        confusion.update(network.eval().predict_classes(images), mask)
    return confusion.scores().miou
