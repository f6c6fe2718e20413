"""UNetClassic equals figure 1 of the paper, run with torch's functions only, from a state dict named as milesial's port has it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pytest
import torch
from comparing import relative
from torch import Tensor, nn
from torch.nn import functional as F

import imageseg
from imageseg.errors import InputError
from imageseg.models.unet_classic import UNetClassic

Randomize = Callable[[nn.Module], nn.Module]

# The operation, its name, channels before and after. "convs" is two 3x3 convolutions, each with normalization and ReLU.
TABLE = [
    ("convs", "inc", 3, 64),
    ("pool", "", 64, 64),
    ("convs", "down1", 64, 128),
    ("pool", "", 128, 128),
    ("convs", "down2", 128, 256),
    ("pool", "", 256, 256),
    ("convs", "down3", 256, 512),
    ("pool", "", 512, 512),
    ("convs", "down4", 512, 1024),
    ("up", "up1", 1024, 512),
    ("join", "", 512, 1024),
    ("convs", "up1", 1024, 512),
    ("up", "up2", 512, 256),
    ("join", "", 256, 512),
    ("convs", "up2", 512, 256),
    ("up", "up3", 256, 128),
    ("join", "", 128, 256),
    ("convs", "up3", 256, 128),
    ("up", "up4", 128, 64),
    ("join", "", 64, 128),
    ("convs", "up4", 128, 64),
    ("score", "outc", 64, 4),
]
BILINEAR = [
    *TABLE[:8],
    ("convs", "down4", 512, 512),
    ("resize", "", 512, 512),
    ("join", "", 512, 1024),
    ("convs", "up1", 1024, 256),
    ("resize", "", 256, 256),
    ("join", "", 256, 512),
    ("convs", "up2", 512, 128),
    ("resize", "", 128, 128),
    ("join", "", 128, 256),
    ("convs", "up3", 256, 64),
    ("resize", "", 64, 64),
    ("join", "", 64, 128),
    ("convs", "up4", 128, 64),
    ("score", "outc", 64, 4),
]
MIDDLE = {"up1": 512, "up2": 256, "up3": 128}
"""Number of channels between both convolutions of the bilinear variant; the others have the number of channels after them."""


def _our_name(theirs: str) -> str:
    """Rename keys by their prefixes only."""
    theirs = re.sub(r"^inc\.double_conv\.", "encoder.0.", theirs)
    theirs = re.sub(r"^down(\d)\.maxpool_conv\.1\.double_conv\.", r"encoder.\1.", theirs)
    theirs = re.sub(r"^up(\d)\.up\.", lambda found: f"ups.{int(found[1]) - 1}.", theirs)
    theirs = re.sub(r"^up(\d)\.conv\.double_conv\.", lambda found: f"decoder.{int(found[1]) - 1}.", theirs)
    return re.sub(r"^outc\.conv\.", "classifier.", theirs)


def _their_shapes(table: list[tuple[str, str, int, int]]) -> dict[str, tuple[int, ...]]:
    """The keys and shapes of milesial's port, as its checkpoints have them."""
    shapes: dict[str, tuple[int, ...]] = {}
    for operation, name, before, after in table:
        if operation == "convs":
            between = MIDDLE.get(name, after) if table is BILINEAR else after
            prefix = _double_conv(name)
            shapes |= {f"{prefix}.0.weight": (between, before, 3, 3), f"{prefix}.3.weight": (after, between, 3, 3)}
            for layer, width in ((1, between), (4, after)):
                kinds = ("weight", "bias", "running_mean", "running_var")
                shapes |= {f"{prefix}.{layer}.{kind}": (width,) for kind in kinds}
                shapes[f"{prefix}.{layer}.num_batches_tracked"] = ()
        elif operation == "up":
            shapes |= {f"{name}.up.weight": (before, after, 2, 2), f"{name}.up.bias": (after,)}
        elif operation == "score":
            shapes |= {f"{name}.conv.weight": (after, before, 1, 1), f"{name}.conv.bias": (after,)}
    return shapes


def _double_conv(name: str) -> str:
    if name.startswith("down"):
        return f"{name}.maxpool_conv.1.double_conv"
    return "inc.double_conv" if name == "inc" else f"{name}.conv.double_conv"


def _paper(
    table: list[tuple[str, str, int, int]], state: Mapping[str, Tensor], images: Tensor, *, align_corners: bool = False
) -> Tensor:
    """Logits from a state dict with the names of milesial's port."""
    maps, skips = images, []
    for operation, name, before, after in table:
        assert maps.shape[1] == before, name
        if operation == "convs":
            for layer in (0, 3):
                maps = F.conv2d(maps, state[f"{_double_conv(name)}.{layer}.weight"], padding=1)
                kinds = ("running_mean", "running_var", "weight", "bias")
                maps = F.batch_norm(maps, *(state[f"{_double_conv(name)}.{layer + 1}.{kind}"] for kind in kinds)).relu()
        elif operation == "pool":
            skips.append(maps)
            maps = F.max_pool2d(maps, 2)
        elif operation == "up":
            maps = F.conv_transpose2d(maps, state[f"{name}.up.weight"], state[f"{name}.up.bias"], stride=2)
        elif operation == "resize":
            maps = F.interpolate(maps, size=skips[-1].shape[-2:], mode="bilinear", align_corners=align_corners)
        elif operation == "join":
            skip = skips.pop()
            padded = maps.new_zeros(*maps.shape[:2], *skip.shape[-2:])
            padded[:, :, : maps.shape[-2], : maps.shape[-1]] = maps
            maps = torch.cat([skip, padded], dim=1)
        else:
            maps = F.conv2d(maps, state[f"{name}.conv.weight"], state[f"{name}.conv.bias"])
        assert maps.shape[1] == after, name
    return maps


@pytest.fixture
def network(randomize: Randomize) -> UNetClassic:
    network = UNetClassic(4)
    randomize(network)
    return network.eval()


@pytest.fixture
def bilinear(randomize: Randomize) -> UNetClassic:
    network = UNetClassic(4, up="bilinear")
    randomize(network)
    return network.eval()


def _theirs(network: UNetClassic, table: list[tuple[str, str, int, int]]) -> dict[str, Tensor]:
    state = dict(network.named_parameters()) | dict(network.named_buffers())
    return {name: state[_our_name(name)] for name in _their_shapes(table)}


@pytest.mark.parametrize("up", ["deconv", "bilinear"])
def test_keys_follow_milesials_by_prefix(up: str) -> None:
    with torch.device("meta"):
        network = imageseg.build_model("UNetClassic", 4, up=up)
    ours = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    theirs = _their_shapes(BILINEAR if up == "bilinear" else TABLE)
    assert {_our_name(name): shape for name, shape in theirs.items()} == ours
    assert {"inc.double_conv.0.weight", "up4.conv.double_conv.4.running_var", "outc.conv.bias"} < theirs.keys()


@pytest.mark.parametrize("size", [(64, 96), (97, 131), (16, 31)])
def test_logits_equal_the_papers(network: UNetClassic, size: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        found, expected = network.coarse_logits(images), _paper(TABLE, _theirs(network, TABLE), images)
    assert found.shape == (2, 4, *size)
    assert relative(found, expected) < 1e-5


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(64, 96), (97, 131)])
def test_logits_of_the_bilinear_variant(bilinear: UNetClassic, size: tuple[int, int], *, align_corners: bool) -> None:
    bilinear.align_corners = align_corners
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        found, state = bilinear.coarse_logits(images), _theirs(bilinear, BILINEAR)
        assert relative(found, _paper(BILINEAR, state, images, align_corners=align_corners)) < 1e-5
        other = _paper(BILINEAR, state, images, align_corners=not align_corners)
    assert relative(found, other) > 1e-2, "other corners went unnoticed"


@pytest.mark.parametrize("up", ["deconv", "bilinear"])
def test_logits_and_gradients_equal_in_double_precision(up: str, request: pytest.FixtureRequest) -> None:
    network: UNetClassic = request.getfixturevalue("network" if up == "deconv" else "bilinear").double()
    table = TABLE if up == "deconv" else BILINEAR
    images = torch.randn(1, 3, 18, 33, dtype=torch.float64)
    found, expected = network.coarse_logits(images), _paper(table, _theirs(network, table), images)
    assert relative(found.detach(), expected.detach()) < 1e-10
    parameters = list(network.parameters())
    gradients = [torch.autograd.grad(logits.square().sum(), parameters) for logits in (found, expected)]
    assert max(relative(*pair) for pair in zip(*gradients, strict=True)) < 1e-9


def test_the_comparison_notices_another_order_of_concatenation(network: UNetClassic) -> None:
    state = _theirs(network, TABLE)
    weight = state["up4.conv.double_conv.0.weight"]
    swapped = state | {"up4.conv.double_conv.0.weight": torch.cat([weight[:, 64:], weight[:, :64]], dim=1)}
    images = torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        assert relative(network.coarse_logits(images), _paper(TABLE, swapped, images)) > 1e-2


@pytest.mark.parametrize(
    ("num_classes", "up", "count"), [(2, "deconv", 31_037_698), (19, "deconv", 31_038_803), (2, "bilinear", 17_263_042)]
)
def test_parameter_counts(num_classes: int, up: str, count: int) -> None:
    with torch.device("meta"):
        network = imageseg.build_model("UNetClassic", num_classes, up=up)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


@pytest.mark.parametrize("up", ["deconv", "bilinear"])
@pytest.mark.parametrize("channels", [(8, 16), (8, 12, 20, 30)])
def test_other_widths_and_depths(up: str, channels: tuple[int, ...]) -> None:
    network = imageseg.build_model("UNetClassic", 3, up=up, channels=channels, in_channels=4).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 4, 37, 29)).shape == (1, 3, 37, 29)


def test_an_image_too_small_is_refused_with_the_size_that_is_enough() -> None:
    network = UNetClassic(2, channels=(4, 4, 4, 4, 4)).eval()
    for size in ((15, 90), (90, 15), (1, 1)):
        with pytest.raises(InputError, match=f"cannot process a {size[0]} x {size[1]} image; 16 x 16 is enough"):
            network(torch.zeros(1, 3, *size))
    assert network(torch.zeros(1, 3, 16, 16)).shape == (1, 2, 16, 16)
    network.train()
    with pytest.raises(InputError, match=r"single 31 x 16 image cannot train.*use images of 32 x 32 or more"):
        network(torch.zeros(1, 3, 31, 16))
    with pytest.raises(InputError, match="cannot process a 8 x 8 image; 16 x 16 is enough"):
        network(torch.zeros(2, 3, 8, 8))
    assert network(torch.zeros(1, 3, 32, 16)).shape == (1, 2, 32, 16)
    assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 2, 16, 16)


@pytest.mark.parametrize("channels", [(64,), (3, 5), (0, 2), ()])
def test_wrong_widths_are_refused(channels: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="channels must be two or more even numbers, finest level first, found"):
        UNetClassic(2, channels=channels)


def test_an_unknown_upsampling_is_refused() -> None:
    with pytest.raises(InputError, match="up must be 'deconv' or 'bilinear', found 'nearest'"):
        imageseg.build_model("UNetClassic", 2, up="nearest")


def test_it_starts_from_no_published_weights() -> None:
    network = imageseg.build_model("unet-classic", 2, channels=(4, 4))
    assert not network.pretrained
    with pytest.raises(InputError, match="UNetClassic has no argument 'pretrained'"):
        imageseg.build_model("UNetClassic", 2, pretrained=True)
