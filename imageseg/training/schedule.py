"""Learning-rate schedules: the factor on each group's rate at every optimiser step."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[float], float]


def poly(progress: float) -> float:
    """The schedule of DeepLab (Chen et al. 2017): (1 - progress) to the power of 0.9."""
    return float((1 - progress) ** 0.9)


def cosine(progress: float) -> float:
    """Half a cosine wave from 1 to 0 (Loshchilov and Hutter 2017)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def constant(_progress: float) -> float:
    """The same rate throughout."""
    return 1.0


SCHEDULES: dict[str, Schedule] = {"poly": poly, "cosine": cosine, "constant": constant}


def factor_at(step: int, *, schedule: Schedule, total_steps: int, warmup_steps: int) -> float:
    """The factor at optimiser step ``step``, counted from 0: a linear rise over the warm-up, times the schedule."""
    warmup = min(1.0, (step + 1) / (warmup_steps + 1))
    return warmup * schedule(min(1.0, step / total_steps))
