"""Which precision a run takes that leaves it open: bfloat16 where it is hardware and measured to be faster, else float32."""

from __future__ import annotations

import copy
import os
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from imageseg.hardware import has_fast_bfloat16
from imageseg.models.base import Network
from imageseg.user_cache import cached, content_key

FULL, MIXED = "32-true", "bf16-mixed"

_LARGEST_PICTURE, _MOST_PICTURES = 256, 2
_TURNS = 3
_SECONDS = 4.0
"""After which the probe ends, with at least one step each way."""
_GAIN = 1.1
"""How many times faster bfloat16 must be, since its sums are coarser."""


def chosen_precision(
    network: Network,
    *,
    described: Any,
    device: torch.device,
    processes: int,
    crop_size: Sequence[int],
    batch_size: int,
    channels_last: bool,
    say: Callable[[str], None],
) -> str:
    """Decides, and says in a line what and why.

    What was measured is kept in the user's cache folder, so that the same run on the same machine decides the same again.

    Args:
        network: stays as it is: weights, statistics, and what is drawn after this.
        described: its name and arguments, as plain values: what was measured is kept under them.
        device: that the run will use.
        processes: of the run. Several on processors would have to agree on what each has measured, so they take float32.
        crop_size: of the run.
        batch_size: likewise.
        channels_last: likewise.
        say: takes the line.

    Returns:
        One of Lightning's names: "bf16-mixed" or "32-true".
    """
    if not has_fast_bfloat16(device) or device.type not in ("cpu", "cuda"):
        return FULL
    if device.type == "cuda":
        say(f"precision: {MIXED} (bfloat16 is hardware here; --trainer.precision {FULL} switches it off)")
        return MIXED
    if processes > 1:
        say(f"precision: {FULL} ({processes} processes; --trainer.precision {MIXED} may be faster)")
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
    gain = f"{full / mixed:.1f}x as fast as float32"
    if full < _GAIN * mixed:
        say(f"precision: {FULL} (bfloat16 is {gain} here; --trainer.precision {MIXED} takes it all the same)")
        return FULL
    say(f"precision: {MIXED} ({gain} here; --trainer.precision {FULL} switches it off)")
    return MIXED


def seconds_per_step(
    network: Network, *, crop_size: Sequence[int], batch_size: int, channels_last: bool
) -> tuple[float, float]:
    """The shortest seconds of forward and backward on the processor in float32 and in bfloat16, measured in turn.

    On a copy of the network, with few and small pictures, so that it takes seconds; the generators stay where they are.
    """
    order = torch.channels_last if channels_last else torch.contiguous_format
    height, width = (min(side, _LARGEST_PICTURE) for side in crop_size)
    channels = network.mean.shape[1]
    images = torch.zeros(min(batch_size, _MOST_PICTURES), channels, height, width).contiguous(memory_format=order)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        trial = copy.deepcopy(network).train().to(memory_format=order)
        images.uniform_(0, 255, generator=torch.Generator().manual_seed(0))
        began = time.perf_counter()
        for _ in range(1 + _TURNS):
            for half in seconds:
                start = time.perf_counter()
                _step(trial, images, half=half)
                # The first turn also prepares; it counts where it stays the only one.
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
