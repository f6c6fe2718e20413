"""Learning rate schedules: factors by which the base learning rates are multiplied at every optimizer step."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[float], float]


def poly(progress: float) -> float:
    """Polynomial decay with power 0.9 (DeepLab; Chen et al. 2017)."""
    return float((1 - progress) ** 0.9)


def cosine(progress: float) -> float:
    """Cosine decay from 1 to 0 (Loshchilov and Hutter 2017)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def constant(_progress: float) -> float:
    """Constant learning rate."""
    return 1.0


SCHEDULES: dict[str, Schedule] = {"poly": poly, "cosine": cosine, "constant": constant}


def factor_at(step: int, *, schedule: Schedule, total_steps: int, warmup_steps: int) -> float:
    """Return the factor at optimizer step ``step`` (counted from 0): the linear warm-up times the schedule."""
    warmup = min(1.0, (step + 1) / (warmup_steps + 1))
    return warmup * schedule(min(1.0, step / total_steps))
