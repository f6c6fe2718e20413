"""Automatic choice of the precision: bfloat16 if the hardware supports it and it is measured to be faster, else float32."""

from __future__ import annotations

import copy
import logging
import os
import platform
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from imageseg.hardware import has_fast_bfloat16
from imageseg.models.base import Network
from imageseg.user_cache import cached, content_key

logger = logging.getLogger(__name__)

FULL, MIXED = "32-true", "bf16-mixed"

_MAX_SIDE, _MAX_IMAGES = 256, 2
_ROUNDS = 3
_SECONDS = 4.0
"""Time limit of the measurement, which makes at least one step in each precision."""
_GAIN = 1.1
"""Minimum speed-up of bfloat16, because its sums are less accurate."""


def chosen_precision(
    network: Network,
    *,
    described: Any,
    device: torch.device,
    processes: int,
    crop_size: Sequence[int],
    batch_size: int,
    channels_last: bool,
) -> str:
    """Choose the precision and log the reason.

    Measurements are stored in the user's cache folder, so that the same run on the same machine makes the same choice again.

    Args:
        network: Network to measure; its weights, statistics and the state of the random generators do not change.
        described: Name and arguments of the network as plain values, under which the measurement is stored.
        device: Device of the run.
        processes: Number of processes of the run. Several CPU processes use float32, because their measurements could differ.
        crop_size: (height, width) of the training crops.
        batch_size: Images per step and device.
        channels_last: Whether images and weights are stored in channels_last memory format.

    Returns:
        Lightning's name of the precision: "bf16-mixed" or "32-true".
    """
    if not has_fast_bfloat16(device) or device.type not in ("cpu", "cuda"):
        return FULL
    if device.type == "cuda":
        logger.info(f"precision: {MIXED} (this GPU supports bfloat16; disable it with --trainer.precision {FULL})")
        return MIXED
    if processes > 1:
        logger.info(f"precision: {FULL} ({processes} CPU processes; --trainer.precision {MIXED} may be faster)")
        return FULL

    def measured() -> dict[str, float]:
        full, mixed = seconds_per_step(network, crop_size=crop_size, batch_size=batch_size, channels_last=channels_last)
        return {FULL: full, MIXED: mixed}

    seconds = cached(
        ["precision", described, list(crop_size), batch_size, channels_last],
        content_key(torch.__version__, platform.node(), os.cpu_count(), torch.get_num_threads()),
        measured,
        lambda values: float(values[FULL]) / float(values[MIXED]),
    )
    full, mixed = seconds[FULL], seconds[MIXED]
    gain = f"{full / mixed:.1f}x the speed of float32"
    if full < _GAIN * mixed:
        logger.info(f"precision: {FULL} (bfloat16 has {gain} here; enable it with --trainer.precision {MIXED})")
        return FULL
    logger.info(f"precision: {MIXED} ({gain} here; disable it with --trainer.precision {FULL})")
    return MIXED


def seconds_per_step(
    network: Network, *, crop_size: Sequence[int], batch_size: int, channels_last: bool
) -> tuple[float, float]:
    """Return the minimum time in seconds of forward and backward on the CPU in float32 and in bfloat16, measured in turn.

    Uses a copy of the network and few small images, so that it takes seconds; random generators keep their state.
    """
    order = torch.channels_last if channels_last else torch.contiguous_format
    height, width = (min(side, _MAX_SIDE) for side in crop_size)
    channels = network.mean.shape[1]
    images = torch.zeros(min(batch_size, _MAX_IMAGES), channels, height, width).contiguous(memory_format=order)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        trial = copy.deepcopy(network).train().to(memory_format=order)
        images.uniform_(0, 255, generator=torch.Generator().manual_seed(0))
        began = time.perf_counter()
        for _ in range(1 + _ROUNDS):
            for half in seconds:
                start = time.perf_counter()
                _step(trial, images, half=half)
                # The first round includes warm-up; it counts only if it remains the only one.
                seconds[half].append(time.perf_counter() - start)
            if time.perf_counter() - began > _SECONDS:
                break
    full, mixed = (min(found[1:] or found) for found in seconds.values())
    return full, mixed


def _step(network: Network, images: Tensor, *, half: bool) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        logits, auxiliary = network.coarse_logits_with_aux(network.normalize(images))
    torch.stack([maps.float().square().mean() for maps in (logits, *auxiliary)]).sum().backward()  # type: ignore[no-untyped-call]
    network.zero_grad(set_to_none=True)
