"""The training step of imageseg against the loop that a good engineer writes around torchvision, SMP or timm.

Both sides run on one batch that is on the device already, in bfloat16 autocast and channels_last, with fused AdamW. The other side
also lets cuDNN search for kernels and allows TF32; "ours" runs as `imageseg train` does, "ours, cuDNN search" with both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from networks import SMP_DEEPLABV3_PLUS
from torch import Tensor, nn
from torch.nn import functional as F

from accelerator_parts.networks import built, painted, task_of
from accelerator_parts.setting import CLASSES, Row, Setting, attempt, backends, measured

AUX_WEIGHT = 0.4


class Pair(NamedTuple):
    """A network of ours and its counterpart."""

    model: str
    arguments: dict[str, Any]
    counterpart: Callable[[], nn.Module]


def _smp(name: str, encoder: str) -> nn.Module:
    import segmentation_models_pytorch as smp

    network: nn.Module = getattr(smp, name)(encoder_name=encoder, encoder_weights=None, classes=CLASSES)
    return network


def _torchvision() -> nn.Module:
    from torchvision.models.segmentation import deeplabv3_resnet50

    network: nn.Module = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True)
    return network


class _LinearOnViT(nn.Module):
    """timm's ViT, frozen, with a linear layer on its patch tokens."""

    def __init__(self, name: str, side: tuple[int, int]) -> None:
        super().__init__()
        import timm

        self.body = timm.create_model(name, img_size=side, num_classes=0).requires_grad_(False).eval()
        self.norm = nn.BatchNorm2d(self.body.embed_dim)
        self.head = nn.Conv2d(self.body.embed_dim, CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            (maps,) = self.body.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)
        logits = self.head(self.norm(maps))
        return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)

    def train(self, mode: bool = True) -> _LinearOnViT:
        super().train(mode)
        self.body.eval()
        return self


SIZE, SMALL_SIZE = (512, 1024), (64, 128)
PAIRS = (
    Pair(
        "DeepLabv3_plus",
        {"encoder": "resnet50", **SMP_DEEPLABV3_PLUS},
        partial(_smp, "DeepLabV3Plus", "resnet50"),
    ),
    Pair("DeepLabV3", {"encoder": "resnet50", "output_stride": 8, "aux": True}, _torchvision),
    Pair("SegFormer", {"encoder": "mit_b2", "align_corners": True}, partial(_smp, "Segformer", "mit_b2")),
    Pair(
        "ViTLinear",
        {"encoder": "vit_small_patch16_dinov3"},
        partial(_LinearOnViT, "vit_small_patch16_dinov3", SIZE),
    ),
)
SMALL_PAIRS = (
    Pair("DeepLabv3_plus", {"encoder": "resnet18"}, partial(_smp, "DeepLabV3Plus", "resnet18")),
    Pair(
        "ViTLinear",
        {"encoder": "vit_tiny_patch16_dinov3_qkvb"},
        partial(_LinearOnViT, "vit_tiny_patch16_dinov3_qkvb", SMALL_SIZE),
    ),
)
WAYS = ("theirs", "ours", "ours, cuDNN search")


def run(setting: Setting) -> Iterator[Row]:
    """All pairs as they are, then all compiled: compilation takes longest, and comes last."""
    for compiled in (False, True):
        for pair in SMALL_PAIRS if setting.small else PAIRS:
            found: dict[str, float] = {}
            for way in WAYS:
                name = f"{pair.model} {pair.arguments['encoder']}, {'compiled, ' if compiled else ''}{way}"
                if compiled and way == WAYS[2]:
                    continue
                if compiled and setting.small:
                    yield Row(name, "skipped", {}, "the small form compiles nothing")
                    continue
                row = attempt(setting, name, partial(_measured, setting, pair, way, name, compiled=compiled))
                if "images_per_second" in row.values:
                    found[way] = row.values["images_per_second"]
                    if way != "theirs" and "theirs" in found:
                        row.values["times_theirs"] = found[way] / found["theirs"]
                yield row


def _measured(setting: Setting, pair: Pair, way: str, name: str, *, compiled: bool) -> Row:
    number, (height, width) = (2, SMALL_SIZE) if setting.small else (8, SIZE)
    batch = painted(setting, number, height, width)
    with backends(benchmark=way != "ours", tf32=way != "ours"):
        make = _theirs if way == "theirs" else _ours
        values = measured(
            setting, make(setting, pair, batch, compiled=compiled), repeats=2 if setting.small else 20, warmups=5
        )
    return Row(name, "measured", {"images_per_second": 1000 * number / values["ms"], **values})


def _theirs(setting: Setting, pair: Pair, batch: dict[str, Any], *, compiled: bool) -> Callable[[], None]:
    torch.manual_seed(0)
    network: Any = pair.counterpart().train().to(setting.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=1e-2, fused=True)
    mean, deviation = (
        torch.tensor(values, device=setting.device).view(1, 3, 1, 1)
        for values in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    )
    forward = torch.compile(network, dynamic=False) if compiled else network

    def once() -> None:
        images = ((batch["image"] - mean) / deviation).contiguous(memory_format=torch.channels_last)
        mask = batch["mask"].long()
        with torch.autocast(setting.device.type, dtype=torch.bfloat16):
            found = forward(images)
            logits = found if isinstance(found, Tensor) else found["out"]
            loss = F.cross_entropy(logits, mask, ignore_index=255)
            if not isinstance(found, Tensor):
                loss = loss + AUX_WEIGHT * F.cross_entropy(found["aux"], mask, ignore_index=255)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return once


def _ours(setting: Setting, pair: Pair, batch: dict[str, Any], *, compiled: bool) -> Callable[[], None]:
    task = task_of(built(pair.model, pair.arguments), setting)
    if compiled:
        task.compile_network()
    optimizer = task.configure_optimizers()["optimizer"]

    def once() -> None:
        with torch.autocast(setting.device.type, dtype=torch.bfloat16):
            loss = task.training_step(batch, 0)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return once
