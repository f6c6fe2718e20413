"""Trains every network for a few steps in each precision, and compares its CUDA logits with those of the CPU."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

import imageseg
from accelerator_parts.setting import CLASSES, Row, Setting, attempt, backends

NETWORKS: dict[str, dict[str, Any]] = {
    "DeepLabv3_plus": {"encoder": "resnet18"},
    "DeepLabV3": {"encoder": "resnet18", "output_stride": 8},
    "SegFormer": {"encoder": "mit_b0"},
    "EoMT": {"encoder": "vit_small_patch16_dinov3", "num_blocks": 3},
    "ViTLinear": {"encoder": "vit_small_patch16_dinov3"},
    "UNet": {"encoder": "resnet18"},
    "UPerNet": {"encoder": "resnet18"},
    "PSPNet": {"encoder": "resnet18"},
    "FPN": {"encoder": "resnet18"},
    "FCN": {"encoder": "vgg11"},
    "LRASPP": {"encoder": "mobilenetv3_large_100"},
    "EfficientViT": {"encoder": "efficientvit_b0"},
    "SegNet": {"encoder": "vgg11_bn"},
    "DeConvNet": {"encoder": "vgg11_bn", "bottleneck": "lite"},
    "UNetClassic": {"channels": (16, 32, 64, 128, 256)},
}
SMALL = ("LRASPP", "SegNet")
PRECISIONS: dict[str, torch.dtype | None] = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16, "32-true": None}
TOLERANCE = 1e-3
"""Largest accepted difference of float32 logits without TF32, as a share of the largest logit."""
UNPOOLING = ("SegNet", "DeConvNet")
"""Networks whose pooling indices may differ where two values are equal to rounding; 99 % of their logits must agree."""


def run(setting: Setting) -> Iterator[Row]:
    """Per network one row of logits and one row per precision."""
    known = set(imageseg.MODELS)
    for name in [*NETWORKS, *sorted(known - NETWORKS.keys())]:
        if setting.small and name not in SMALL:
            continue
        if name not in known or name not in NETWORKS:
            yield Row(name, "skipped", {}, "is not in imageseg.MODELS" if name not in known else "has no encoder here")
            continue
        yield attempt(setting, f"{name}, logits on CUDA and CPU", partial(compared, setting, name))
        for precision in PRECISIONS:
            yield attempt(setting, f"{name}, {precision}", partial(trained, setting, name, precision))


def built(name: str, arguments: dict[str, Any]) -> Any:
    """A network with random weights, the same each time."""
    torch.manual_seed(0)
    return imageseg.build_model(name, CLASSES, **arguments, **({"pretrained": False} if "encoder" in arguments else {}))


def compared(setting: Setting, name: str) -> Row:
    """The difference of logits between the two devices, in float32 without TF32."""
    network = built(name, NETWORKS[name]).eval()
    side = 64 if setting.small else 256
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    with torch.inference_mode(), backends(benchmark=False, tf32=False):
        expected = network(images)
        found = copy.deepcopy(network).to(setting.device)(images.to(setting.device)).cpu()
    differences = ((found - expected).abs() / expected.abs().max()).flatten()
    largest = float(differences.max())
    most = float(differences.kthvalue(max(1, int(0.99 * differences.numel()))).values)
    agrees = (most if name in UNPOOLING else largest) <= TOLERANCE
    note = "both on the CPU: no device" if not setting.on_cuda else f"tolerance {TOLERANCE:g}"
    return Row(
        f"{name}, logits on CUDA and CPU",
        "ok" if agrees else "failed",
        {"largest_relative": largest, "relative_of_99_percent": most},
        note,
    )


def trained(setting: Setting, name: str, precision: str) -> Row:
    """The loss of the first and of the last steps on one batch."""
    dtype, title = PRECISIONS[precision], f"{name}, {precision}"
    if dtype == torch.float16 and not setting.on_cuda:
        return Row(title, "skipped", {}, "float16 is for CUDA devices")
    number, side, count = (2, 64, 4) if setting.small else (8, 256, 20)
    loss = "mask_classification" if name == "EoMT" else "cross_entropy"
    task = task_of(built(name, NETWORKS[name]), setting, loss=loss, lr=5e-4, steps=count)
    optimizer = task.configure_optimizers()["optimizer"]
    scaler = torch.amp.GradScaler(setting.device.type, enabled=dtype == torch.float16)
    batch = painted(setting, number, side, side)
    losses: list[Tensor] = []
    for step in range(count):
        task.trainer.global_step = step
        task.on_train_batch_start(batch, step)
        with torch.autocast(setting.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            value = task.training_step(batch, step)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(value.detach().float())
    curve = torch.stack(losses).cpu()
    few = max(1, count // 5)
    first, last = float(curve[:few].mean()), float(curve[-few:].mean())
    finite = bool(curve.isfinite().all()) and all(bool(p.isfinite().all()) for p in task.network.parameters())
    note = (
        "" if finite and last < first else "loss or weights are not finite" if not finite else "the loss does not fall"
    )
    return Row(title, "failed" if note else "ok", {"first_loss": first, "last_loss": last}, note)


def task_of(network: Any, setting: Setting, *, loss: str = "cross_entropy", lr: float = 1e-4, steps: int = 1000) -> Any:
    """The task of a training run, on the device, without a trainer."""
    from imageseg.training.task import SegmentationTask

    labels = imageseg.LabelSpace(tuple(imageseg.Label(f"class {i}", (i, 0, 0), (i,)) for i in range(CLASSES)))
    task: Any = SegmentationTask(network, labels, optimizer="adamw", lr=lr, weight_decay=1e-2, loss=loss)  # type: ignore[arg-type]
    task = task.train().to(setting.device)
    task.trainer = SimpleNamespace(gradient_clip_val=None, estimated_stepping_batches=steps, global_step=0)
    task.log = lambda *_, **__: None
    return task


def painted(setting: Setting, number: int, height: int, width: int) -> dict[str, Any]:
    """A batch in which the class of a block determines its color: any network learns it."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, CLASSES, (number, height // 32, width // 32), generator=generator)
    mask = blocks.repeat_interleave(32, 1).repeat_interleave(32, 2).to(torch.uint8)
    colors = torch.randint(0, 256, (CLASSES, 3), generator=generator, dtype=torch.uint8)
    image = colors[mask.long()].permute(0, 3, 1, 2)  # channels_last memory order
    mask[:, :4] = 255
    return {"image": image.to(setting.device), "mask": mask.to(setting.device), "name": []}
