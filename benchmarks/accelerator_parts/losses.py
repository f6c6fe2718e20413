"""Value and gradient of every loss on coarse logits, against its plain form on logits of the full size."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from accelerator_parts.setting import CLASSES, Row, Setting, attempt, measured, release

TOLERANCE = 1e-3


def run(setting: Setting) -> Iterator[Row]:
    """One row per loss and stride; "plain_wins" names the losses whose default form CUDA should change."""
    from imageseg.training.task import PIXEL_LOSSES

    for stride in (4,) if setting.small else (4, 8, 16):
        for name in PIXEL_LOSSES:
            yield attempt(setting, f"{name}, from stride {stride}", partial(compared, setting, name, stride))


def compared(setting: Setting, name: str, stride: int) -> Row:
    """Time and memory of both forms."""
    from imageseg.models.base import resize
    from imageseg.training.losses.plain import LOSSES
    from imageseg.training.task import PIXEL_LOSSES

    number, height, width = (1, 64, 128) if setting.small else (8, 512, 1024)
    torch.manual_seed(0)
    coarse = torch.randn(number, CLASSES, height // stride, width // stride, device=setting.device).requires_grad_()
    mask = torch.randint(0, CLASSES, (number, height, width), dtype=torch.uint8, device=setting.device)
    mask[:, : height // 10] = 255
    forms: dict[str, Any] = {
        "ours": lambda: PIXEL_LOSSES[name](coarse, mask),
        "plain": lambda: LOSSES[name](resize(coarse, mask.shape[1:]), mask, None),
    }
    values: dict[str, float] = {}
    losses: dict[str, Tensor] = {}
    gradients: dict[str, Tensor] = {}
    for way, form in forms.items():

        def once(form: Any = form) -> Tensor:
            loss = form()
            coarse.grad = None
            loss.backward()
            return loss.detach()

        release()
        values |= {
            f"{way}_{key}": found for key, found in measured(setting, once, repeats=2 if setting.small else 10).items()
        }
        losses[way] = once()
        gradients[way] = coarse.grad.clone()  # type: ignore[union-attr]
    scale = float(gradients["plain"].abs().max()) or 1.0
    differs = float((gradients["ours"] - gradients["plain"]).abs().max()) / scale
    equal = torch.allclose(losses["ours"], losses["plain"], rtol=TOLERANCE) and differs <= TOLERANCE
    values["gradient_difference"] = differs
    faster = values["plain_ms"] < values["ours_ms"]
    note = "plain is faster" if faster else "ours is faster"
    return Row(
        f"{name}, from stride {stride}", "measured" if equal else "failed", values, note if equal else "the two differ"
    )
