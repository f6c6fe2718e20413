"""Parameters, multiply-adds, time and memory of every network for a 512 x 512 image, compared with torchvision or SMP.

``python benchmarks/networks.py`` measures all networks, or those named as arguments. Prediction goes from one uint8 image to
class indices; a training step is forward, cross-entropy, backward and SGD on two images. Our networks run as ``imageseg`` runs
them (channels_last); "fast" is ``imageseg predict --fast``. The reference is the same network of torchvision or
segmentation_models_pytorch (SMP), used as its documentation shows, in float32 and with bfloat16 autocast; "best of each" compares
the fastest mode of both.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torchvision
from measuring import Row, growth_in_megabytes, in_turn, report
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import imageseg
from imageseg.inference.fold_batchnorm import fold_batchnorm
from imageseg.models.base import Network

CLASSES, SIDE = 21, 512
SMP_DEEPLABV3_PLUS: dict[str, Any] = {
    "separable": True,
    "norm_between": False,
    "aspp_conv": True,
    "decoder_convs": 1,
    "rates": (12, 24, 36),
    "first_block": "full",
    "align_corners": True,
}
"""Arguments of our DeepLabv3_plus that make it equal to SMP's."""


class Twins(NamedTuple):
    """A network, and the equal one of another library."""

    model: str
    arguments: dict[str, Any]
    twin: Callable[[], nn.Module] | None = None


def _torchvision(name: str) -> nn.Module:
    makers: Any = torchvision.models.segmentation
    network: nn.Module = getattr(makers, name)(weights=None, weights_backbone=None, num_classes=CLASSES)
    return network


def _smp(name: str, encoder: str, **arguments: Any) -> nn.Module:
    import segmentation_models_pytorch as smp  # only here, so that the table can be read without it

    network: nn.Module = getattr(smp, name)(encoder_name=encoder, encoder_weights=None, classes=CLASSES, **arguments)
    return network


NETWORKS = (
    Twins("FCN", {"encoder": "vgg16"}),
    Twins("FCN", {"encoder": "resnet50", "variant": "dilated"}, partial(_torchvision, "fcn_resnet50")),
    Twins("DeConvNet", {"encoder": "vgg16_bn"}),
    Twins("UNet", {"encoder": "resnet50"}, partial(_smp, "Unet", "resnet50")),
    Twins("UNetClassic", {}),
    Twins("SegNet", {"encoder": "vgg16_bn"}),
    Twins("FPN", {"encoder": "resnet50", "smooth": False, "align_corners": True}, partial(_smp, "FPN", "resnet50")),
    Twins("PSPNet", {"encoder": "resnet50"}),
    Twins("DeepLabV3", {"encoder": "resnet50", "output_stride": 8}, partial(_torchvision, "deeplabv3_resnet50")),
    Twins(
        "DeepLabv3_plus",
        {"encoder": "resnet50", **SMP_DEEPLABV3_PLUS},
        partial(_smp, "DeepLabV3Plus", "resnet50"),
    ),
    Twins(
        "UPerNet",
        {"encoder": "resnet50", "channels": 256, "aux": False, "level_norm": True, "align_corners": True},
        partial(_smp, "UPerNet", "resnet50"),
    ),
    Twins("LRASPP", {"encoder": "mobilenetv3_large_100"}, partial(_torchvision, "lraspp_mobilenet_v3_large")),
    Twins("SegFormer", {"encoder": "mit_b0", "align_corners": True}, partial(_smp, "Segformer", "mit_b0")),
    Twins("EfficientViT", {"encoder": "efficientvit_b1"}),
    Twins("ViTLinear", {"encoder": "vit_small_patch16_dinov3"}),
    Twins("EoMT", {"encoder": "vit_small_patch16_dinov3", "num_blocks": 3}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="networks to measure (default: all)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each side (default: 3)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--side", type=int, default=SIDE, help="height and width of the images (default: 512)")
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=("prediction", "training"),
        default=("prediction", "training"),
        help="what to measure",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    given = parser.parse_args()
    known = {twins.model for twins in NETWORKS}
    if unknown := set(given.names) - known:
        parser.error(f"no network is called {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    torch.set_num_threads(given.threads)
    warnings.filterwarnings("ignore", message="batch size 1")
    rows = []
    for place, twins in enumerate(NETWORKS):
        if given.names and twins.model not in given.names:
            continue
        if not given.json:
            print(size_and_work(twins, given.side), flush=True)
        for row in measured(place, given.side, given.repeats, parts=given.parts):
            rows.append(row)
            if not given.json:
                report([row], as_json=False, headed=len(rows) == 1)
    if given.json:
        report(rows, as_json=True)


def size_and_work(twins: Twins, side: int) -> str:
    """Return the title with parameters and multiply-adds, counted on the meta device."""
    with torch.device("meta"):
        network = _ours(twins).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, 3, side, side))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return f"\n{_title(twins)}: {parameters:,} parameters, {counter.get_total_flops() / 2e9:.2f} GMACs"


def measured(place: int, side: int, repeats: int, *, parts: Sequence[str]) -> Iterator[Row]:
    """Compare with the reference; without one, compare fast prediction with float32, and channels_last with contiguous."""
    if "prediction" in parts:
        yield from _predictions(place, side, repeats)
    if "training" in parts:
        other = "theirs" if NETWORKS[place].twin else "contiguous"
        for dtype in ("fp32", "bf16"):
            times = in_turn(step(place, "ours", dtype, side), step(place, other, dtype, side), repeats)
            yield Row(f"{_title(NETWORKS[place])}, training step, {dtype}, ours / {other}", *times, "ms")
            memory = [growth_in_megabytes(step, place, way, dtype, side) for way in ("ours", other)]
            yield Row("  memory", *memory, "MB")


def _predictions(place: int, side: int, repeats: int) -> Iterator[Row]:
    twins = NETWORKS[place]
    title, sides = _title(twins), ("theirs", "theirs bf16") if twins.twin else ("ours",)
    best: dict[str, float] = {}
    for mine, others in (("ours", sides[0]), ("fast", sides[-1])):
        if mine != others:
            times = in_turn(predicting(place, mine, side), predicting(place, others, side), repeats)
            best[mine], best[others] = times
            yield Row(f"{title}, image, {mine} / {others}", *times, "ms")
            if mine == "ours":  # before folding, which would run the network and allocate its memory
                memory = [growth_in_megabytes(predicting, place, way, side) for way in (mine, others)]
                yield Row("  memory", *memory, "MB")
    if twins.twin:
        ours, theirs = min(best["ours"], best["fast"]), min(best[way] for way in sides)
        yield Row("  best of each", ours, theirs, "ms")


def predicting(place: int, way: str, side: int) -> Callable[[], Tensor]:
    """Return a function that predicts the classes of one uint8 image."""
    twins, images = NETWORKS[place], torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8)
    torch.manual_seed(0)
    if way in ("ours", "fast"):
        network = _ours(twins).eval()
        network = fold_batchnorm(network) if way == "fast" else network
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = images.contiguous(memory_format=torch.channels_last)
        return partial(_classes_of_ours, network, images, half=way == "fast")
    assert twins.twin is not None
    return partial(_classes_of_theirs, twins.twin().eval(), images, half=way == "theirs bf16")


@torch.inference_mode()
def _classes_of_ours(network: Network, images: Tensor, *, half: bool) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        return network.predict_classes(images)


@torch.inference_mode()
def _classes_of_theirs(network: nn.Module, images: Tensor, *, half: bool) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        return _logits_of_theirs(network, images).argmax(1)


def _logits_of_theirs(network: nn.Module, images: Tensor) -> Tensor:
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    found = network((images / 255 - mean) / std)
    logits: Tensor = found["out"] if isinstance(found, dict) else found
    return logits


def step(place: int, way: str, dtype: str, side: int) -> Callable[[], None]:
    """Return a function that runs one training step on two images."""
    twins, images = NETWORKS[place], torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    mask = torch.randint(0, CLASSES, (2, side, side))
    if way == "theirs":
        assert twins.twin is not None
        network = twins.twin().train()
        logits = partial(_logits_of_theirs, network)
    else:
        network = logits = _ours(twins).train()
        if way == "ours":
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            images = images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

    def once() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16"):
            loss = F.cross_entropy(logits(images).float(), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return once


def _ours(twins: Twins) -> Network:
    arguments = twins.arguments | ({"pretrained": False} if "encoder" in twins.arguments else {})
    return imageseg.build_model(twins.model, CLASSES, **arguments)


def _title(twins: Twins) -> str:
    return " ".join([twins.model, *(str(value) for value in twins.arguments.values() if isinstance(value, str))])


if __name__ == "__main__":
    main()
