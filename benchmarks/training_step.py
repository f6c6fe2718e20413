"""Training step compared with segmentation_models_pytorch and torchvision: time, memory, the loss alone, and machine limits.

``python benchmarks/training_step.py`` measures all networks, or those named as arguments, on 8 images of 256 x 256 pixels;
``--shapes 8x256 4x512`` selects other batches and ``--parts`` single measurements.

Both networks have the same weights; the benchmark stops if their logits differ. The reference is a plain training loop as in
the documentation of the library: float32, contiguous normalized images, ``F.cross_entropy`` (weight 0.5 for the auxiliary head, as
in torchvision's references) and ``torch.optim.AdamW``. Ours is ``SegmentationTask`` with its optimizer on uint8 images, in bfloat16
(which ``--trainer.precision auto`` selects on hardware that supports it natively) and in float32. The loss alone is computed from
logits of stride 4 for 19 classes at 512 x 1024.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torchvision
from measuring import Row, growth_in_megabytes, in_turn, report
from networks import SMP_DEEPLABV3_PLUS
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import imageseg
from imageseg import Label, LabelSpace
from imageseg.models.base import resize
from imageseg.training.losses.plain import LOSSES
from imageseg.training.task import PIXEL_LOSSES, SegmentationTask

CLASSES = 19
LABELS = LabelSpace(tuple(Label(f"class {i}", (i, 0, 0), (i,)) for i in range(CLASSES)))
AUX_WEIGHT = 0.5
NETWORKS: dict[str, tuple[str, dict[str, Any], Callable[[], nn.Module]]] = {
    "DeepLabv3_plus-resnet18": (
        "DeepLabv3_plus",
        {"encoder": "resnet18", **SMP_DEEPLABV3_PLUS},
        lambda: smp.DeepLabV3Plus("resnet18", encoder_weights=None, classes=CLASSES),
    ),
    "DeepLabV3-resnet50": (
        "DeepLabV3",
        {"encoder": "resnet50", "output_stride": 8, "aux": True},
        lambda: torchvision.models.segmentation.deeplabv3_resnet50(
            weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True
        ),
    ),
}
WAYS = ("theirs", "float32", "bfloat16")
PARTS = ("steps", "memory", "loss", "ceilings")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", choices=[*NETWORKS, []], help="networks to measure (default: all)")
    parser.add_argument(
        "--shapes", nargs="+", default=["8x256"], help="number of images x height and width (default: 8x256)"
    )
    parser.add_argument("--repeats", type=int, default=2, help="timed runs of each side (default: 2)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure (default: all)")
    parser.add_argument(
        "--losses", nargs="+", choices=list(PIXEL_LOSSES), default=["cross_entropy"], help="losses to measure"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    names = given.networks or list(NETWORKS)
    shapes = [(int(number), int(side)) for number, side in (shape.split("x") for shape in given.shapes)]
    makers: dict[str, Callable[[], Iterator[Row]]] = {
        "ceilings": partial(ceilings, given.repeats),
        "loss": partial(losses, given.losses, given.repeats),
        "memory": partial(memory, names, shapes),
        "steps": partial(steps, names, shapes, given.repeats),
    }
    rows = []
    for part, made in makers.items():
        for row in made() if part in given.parts else ():
            rows.append(row)
            if not given.json:
                report([row], as_json=False, headed=len(rows) == 1)
    if given.json:
        report(rows, as_json=True)


def steps(names: Sequence[str], shapes: Sequence[tuple[int, int]], repeats: int) -> Iterator[Row]:
    """Measure the milliseconds of a step: reference, float32 and bfloat16 alternately."""
    for name in names:
        check(name)
        for number, side in shapes:
            ways = {way: step(name, way, number, side) for way in WAYS}
            with FlopCounterMode(display=False) as counter:
                ways["theirs"]()
            found: dict[str, list[float]] = {way: [] for way in WAYS}
            for turn in range(repeats + 1):
                for way, once in ways.items():
                    start = time.perf_counter()
                    once()
                    if turn:
                        found[way].append(1000 * (time.perf_counter() - start))
            theirs, full, half = (statistics.median(found[way]) for way in WAYS)
            title = f"{name}, {number} x {side}"
            yield Row(f"{title}, {counter.get_total_flops() / 1e9:.0f} GFLOP, bfloat16", half, theirs, "ms")
            yield Row(f"{title}, float32", full, theirs, "ms")


def memory(names: Sequence[str], shapes: Sequence[tuple[int, int]]) -> Iterator[Row]:
    """Measure how far a first step raises peak resident memory, in new processes with one thread."""
    for name in names:
        for number, side in shapes:
            theirs, full, half = (growth_in_megabytes(step, name, way, number, side) for way in WAYS)
            yield Row(f"{name}, {number} x {side}, memory, bfloat16", half, theirs, "MB")
            yield Row(f"{name}, {number} x {side}, memory, float32", full, theirs, "MB")


def step(name: str, way: str, number: int, side: int) -> Callable[[], None]:
    """Return a function that runs a training step; the random weights are the same for all variants."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (number, side, side, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    mask = torch.randint(0, CLASSES, (number, side, side), dtype=torch.uint8)
    if way == "theirs":
        return _theirs(NETWORKS[name][2]().train(), images, mask)
    return _ours(_twin(name, NETWORKS[name][2]()), images, mask, half=way == "bfloat16")


def _theirs(network: nn.Module, images: Tensor, mask: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(network.parameters())
    normalized, indices = _normalized(images).contiguous(), mask.long()

    def once() -> None:
        found = network(normalized)
        if isinstance(found, dict):
            loss = F.cross_entropy(found["out"], indices) + AUX_WEIGHT * F.cross_entropy(found["aux"], indices)
        else:
            loss = F.cross_entropy(found, indices)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return once


def _ours(network: Any, images: Tensor, mask: Tensor, *, half: bool) -> Callable[[], None]:
    task = SegmentationTask(
        network, LABELS, optimizer="adamw", lr=1e-3, weight_decay=1e-2, aux_weight=AUX_WEIGHT
    ).train()
    # Stand-ins for what Lightning provides, because only a step is run here.
    task.trainer = SimpleNamespace(gradient_clip_val=None, estimated_stepping_batches=1000)  # type: ignore[assignment]
    task.log = lambda *_: None  # type: ignore[method-assign, assignment]
    optimizer = task.configure_optimizers()["optimizer"]
    batch: Any = {"image": images, "mask": mask, "name": []}

    def once() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            loss = task.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return once


def _twin(name: str, theirs: nn.Module) -> Any:
    """Build our network with the weights of the reference, loaded from a file as a user would."""
    model, arguments, _ = NETWORKS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save(theirs.state_dict(), path)
        return imageseg.build_model(model, CLASSES, **arguments, pretrained=False, weights=str(path))


def _normalized(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (images / 255 - mean) / std


def check(name: str) -> None:
    """Stop if the logits of the two networks differ."""
    images = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    theirs = NETWORKS[name][2]().eval()
    with torch.inference_mode():
        expected = theirs(_normalized(images))
        expected = expected["out"] if isinstance(expected, dict) else expected
        found = _twin(name, theirs).eval()(images)
    if (found - expected).abs().max() > 1e-4 * expected.abs().max():
        raise SystemExit(f"{name}: the logits differ")


def losses(names: Sequence[str], repeats: int) -> Iterator[Row]:
    """Compare value and gradient of a loss for 8 x 19 x 512 x 1024 with the plain implementation: memory and time."""
    for name in names:
        theirs, ours = (growth_in_megabytes(loss, name, way, 4) for way in ("theirs", "ours"))
        yield Row(f"{name} at 8 x 19 x 512 x 1024, memory", ours, theirs, "MB")
        for stride in (4, 8):
            times = in_turn(loss(name, "ours", stride), loss(name, "theirs", stride), repeats)
            yield Row(f"{name} at 8 x 19 x 512 x 1024, from stride {stride}", *times, "ms")


def loss(name: str, way: str, stride: int) -> Callable[[], None]:
    """Return a function that computes the value and gradient of one loss."""
    logits = torch.randn(8, CLASSES, 512 // stride, 1024 // stride).requires_grad_()
    mask = torch.randint(0, CLASSES, (8, 512, 1024), dtype=torch.uint8)
    mask[torch.rand(mask.shape) < 0.1] = 255

    def once() -> None:
        logits.grad = None
        if way == "ours":
            PIXEL_LOSSES[name](logits, mask).backward()  # type: ignore[no-untyped-call]
        else:
            LOSSES[name](resize(logits, mask.shape[1:]), mask, None).backward()  # type: ignore[no-untyped-call]

    return once


def ceilings(repeats: int) -> Iterator[Row]:
    """Measure matrix product, convolution and copy on this machine, bfloat16 as "ours" and float32 as "theirs"."""
    side = 2048
    products = [partial(torch.mm, *torch.randn(2, side, side).to(kind)) for kind in (torch.bfloat16, torch.float32)]
    yield _with_rate("product of 2048 x 2048 matrices", in_turn(*products, repeats + 3), 2 * side**3 / 1e6, "GFLOP/s")
    convolutions = [
        partial(
            F.conv2d,
            torch.randn(8, 256, 64, 64).to(kind).contiguous(memory_format=torch.channels_last),
            torch.randn(256, 256, 3, 3).to(kind).contiguous(memory_format=torch.channels_last),
            padding=1,
        )
        for kind in (torch.bfloat16, torch.float32)
    ]
    work = 2 * 8 * 256 * 256 * 9 * 64 * 64 / 1e6
    yield _with_rate("3x3 convolution, 8 x 256 x 64 x 64", in_turn(*convolutions, repeats + 3), work, "GFLOP/s")
    values = 2**26
    copies = [
        partial(torch.empty(values, dtype=kind).copy_, torch.ones(values, dtype=kind))
        for kind in (torch.bfloat16, torch.float32)
    ]
    half, full = in_turn(*copies, repeats + 3)
    yield Row(
        f"copy of 2**26 values ({8 * values / full / 1e6:.0f} GB/s read and written in float32)", half, full, "ms"
    )


def _with_rate(name: str, times: tuple[float, float], work: float, unit: str) -> Row:
    half, full = times
    return Row(f"{name} ({work / half:.0f} and {work / full:.0f} {unit})", half, full, "ms")


if __name__ == "__main__":
    main()
