"""Compare two implementations fairly, by alternating runs in one process and taking medians, and print the results."""

from __future__ import annotations

import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One comparison of imageseg ("ours") with a reference ("theirs"); smaller is better."""

    name: str
    ours: float
    theirs: float
    unit: str

    @property
    def ratio(self) -> float:
        """Ratio of theirs to ours: above 1 if imageseg is better."""
        return self.theirs / max(self.ours, 1e-9)


def in_turn(ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Return the median milliseconds of both, run alternately after one warm-up so that a load peak affects both."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 1):
        for run, kept in zip((ours, theirs), times, strict=True):
            start = time.perf_counter()
            run()
            if turn:
                kept.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[0]), statistics.median(times[1])


def growth_in_megabytes(make: Callable[..., Callable[[], Any]], *arguments: Any) -> float:
    """Return how far peak resident memory rises while ``make(*arguments)()`` runs once in a new process with one thread.

    Args:
        make: Module-level function that returns the function to measure. What it allocates itself does not count.
        arguments: Arguments of ``make``; they must be picklable.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_grown, (make, arguments))


def _grown(make: Callable[..., Callable[[], Any]], arguments: tuple[Any, ...]) -> float:
    import torch

    torch.set_num_threads(1)
    run = make(*arguments)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _peak()
    run()
    return _peak() - before


def _peak() -> float:
    with Path("/proc/self/status").open() as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


def report(rows: Sequence[Row], *, as_json: bool, headed: bool = True) -> None:
    """Print the rows as a table, or as a JSON list of {name, ours, theirs, ratio, unit}."""
    if as_json:
        print(json.dumps([{**row._asdict(), "ratio": row.ratio} for row in rows]))
        return
    if headed:
        print(f"{'':<62}{'ours':>10}{'theirs':>10}  {'':<4}{'ratio':>7}")
    for row in rows:
        print(f"{row.name:<62}{row.ours:>10.1f}{row.theirs:>10.1f}  {row.unit:<4}{row.ratio:>6.1f}x", flush=True)
