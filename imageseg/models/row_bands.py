"""Work on parts of a picture, one after the other or one per thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")


def ranges(size: int, step: int) -> list[tuple[int, int]]:
    """``size`` rows as (top, bottom) of bands of ``step`` rows; the last may have fewer."""
    return [(top, min(top + step, size)) for top in range(0, size, step)]


def each_part(work: Callable[[Part], Result], parts: Sequence[Part], device: torch.device) -> Iterator[Result]:
    """``work`` of every part, in their order; on a processor in as many threads as torch would use.

    One thread per part instead of all threads in each of its small steps: these would mostly wait for each other, and far
    worse so where other programs use the processor too. Nothing that is done here is recorded for a gradient.

    Args:
        work: calls torch; must not depend on what other parts do.
        parts: of one size, the last ones perhaps smaller.
        device: where the tensors are. A graphics card gets one part after the other.
    """
    threads = min(torch.get_num_threads(), len(parts))
    if device.type != "cpu" or threads == 1:
        for part in parts:
            with torch.no_grad():
                result = work(part)
            yield result
        return
    is_inference = torch.is_inference_mode_enabled()

    def alone(part: Part) -> Result:
        torch.set_num_threads(1)
        with torch.inference_mode(is_inference), torch.no_grad():
            return work(part)

    try:
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(alone, parts)
    finally:
        torch.set_num_threads(torch.get_num_threads())  # of this thread; some of what the others have set is for all
