"""Process an image band by band: one band after the other, or one band per CPU thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")


def ranges(size: int, step: int) -> list[tuple[int, int]]:
    """Split ``size`` rows into bands (top, bottom) of ``step`` rows. The last band may have fewer."""
    return [(top, min(top + step, size)) for top in range(0, size, step)]


def each_part(work: Callable[[Part], Result], parts: Sequence[Part], device: torch.device) -> Iterator[Result]:
    """Yield ``work(part)`` for each part in order; on the CPU, in as many threads as torch would use.

    Each part gets one thread. With all threads in each of its small operations, they would mostly wait for each other,
    especially where other programs use the CPU too. No operation is recorded for a gradient.

    Args:
        work: Function that calls torch and does not depend on the results of other parts.
        parts: Parts of the same size; the last ones may be smaller.
        device: Device of the tensors. A GPU processes one part after the other.
    """
    threads = min(torch.get_num_threads(), len(parts))
    if device.type != "cpu" or threads == 1:
        for part in parts:
            with torch.no_grad():
                result = work(part)
            yield result
        return
    is_inference = torch.is_inference_mode_enabled()

    def work_in_one_thread(part: Part) -> Result:
        torch.set_num_threads(1)
        with torch.inference_mode(is_inference), torch.no_grad():
            return work(part)

    try:
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(work_in_one_thread, parts)
    finally:
        torch.set_num_threads(torch.get_num_threads())  # some of what the worker threads set applies to all threads
