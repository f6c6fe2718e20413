"""`predict_classes` of every network in each of its modes, against the `interpolate + argmax` of its twin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import imageseg
from accelerator_parts.networks import NETWORKS as ENCODERS
from accelerator_parts.networks import SMALL, built
from accelerator_parts.setting import CLASSES, Row, Setting, attempt, backends, measured

WAYS = ("fp32", "bf16", "fast", "compiled bf16")


def run(setting: Setting) -> Iterator[Row]:
    """All networks in the modes that need no compiler, then compiled."""
    for ways in (WAYS[:3], WAYS[3:]):
        for name, arguments, twin in _networks(setting):
            for way in ways:
                title = f"{name} {arguments.get('encoder', '')}, {way}"
                if way.startswith("compiled") and setting.small:
                    yield Row(title, "skipped", {}, "the small form compiles nothing")
                    continue
                yield attempt(setting, title, partial(_measured, setting, title, name, arguments, way))
            if twin is not None and ways == WAYS[:3]:
                for way in WAYS[:2]:
                    title = f"{name} {arguments.get('encoder', '')}, twin, {way}"
                    yield attempt(setting, title, partial(_measured_twin, setting, title, twin, way))


def _networks(setting: Setting) -> Iterator[tuple[str, dict[str, Any], Callable[[], nn.Module] | None]]:
    """Name, arguments and twin, as `networks.py` next to this script compares them on the CPU."""
    if setting.small:
        yield from ((name, ENCODERS[name], None) for name in SMALL)
        return
    import networks

    networks.CLASSES = CLASSES  # read when a twin is built
    for entry in networks.NETWORKS:
        yield entry.model, entry.arguments, entry.twin


def _images(setting: Setting) -> Tensor:
    height, width = (64, 128) if setting.small else (1024, 2048)
    images = torch.randint(0, 256, (1, height, width, 3), dtype=torch.uint8, device=setting.device)
    return images.permute(0, 3, 1, 2)


def _measured(setting: Setting, title: str, name: str, arguments: dict[str, Any], way: str) -> Row:
    images = _images(setting)
    labels = imageseg.LabelSpace(tuple(imageseg.Label(f"class {i}", (i, 0, 0), (i,)) for i in range(CLASSES)))
    predictor = imageseg.Predictor(built(name, arguments), labels, device=setting.device.type, fast=way == "fast")
    network: Any = predictor.network
    if way.startswith("compiled"):
        network.coarse_logits = torch.compile(network.coarse_logits, dynamic=False)

    @torch.inference_mode()
    def once() -> Tensor:
        with torch.autocast(setting.device.type, dtype=torch.bfloat16, enabled=way != "fp32"):
            classes: Tensor = network.predict_classes(images)
        return classes

    return Row(title, "measured", measured(setting, once, repeats=2 if setting.small else 8))


def _measured_twin(setting: Setting, title: str, twin: Callable[[], nn.Module], way: str) -> Row:
    images, network = _images(setting), twin().eval().to(setting.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean, deviation = (
        torch.tensor(values, device=setting.device).view(1, 3, 1, 1)
        for values in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    )

    @torch.inference_mode()
    def once() -> Tensor:
        with torch.autocast(setting.device.type, dtype=torch.bfloat16, enabled=way != "fp32"):
            found = network(((images - mean) / deviation).contiguous(memory_format=torch.channels_last))
        logits: Tensor = found["out"] if isinstance(found, dict) else found
        if logits.shape[-2:] != images.shape[-2:]:
            logits = F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return logits.argmax(1)

    with backends(benchmark=True, tf32=False):
        return Row(title, "measured", measured(setting, once, repeats=8))
