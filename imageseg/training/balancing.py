"""The order of a run's training samples: counts the classes of its masks where the recipe asks for balance."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from imageseg.datasets.base import SegmentationDataset
from imageseg.datasets.statistics import Counts, count_pictures
from imageseg.pipeline.sampler import balanced_order
from imageseg.pipeline.stream import Order
from imageseg.training.data import StreamData


class Balanced(NamedTuple):
    """The order of a run, and what it was made from."""

    order: Order | None
    """None is the plain one, which needs no counts."""
    pixels: Counts | None
    """(C,) of the training split, where they were counted."""


def balanced(
    dataset: SegmentationDataset, data: StreamData, *, seed: int, say: Callable[[str], None] | None = None
) -> Balanced:
    """The order that ``data.loading.balance`` names.

    Args:
        dataset: whose masks are counted, once: the counts are kept until a file changes.
        data: the splits.
        seed: of the order.
        say: is told what was chosen, and why.

    Raises:
        InputError: a mask that cannot be read, or none with a labelled pixel.
    """
    loading = data.loading
    if loading.balance == "none":
        return Balanced(None, None)
    with _counting(f"classes of {loading.train_split}") as progress:
        counts = count_pictures(dataset, data.train_samples.pairs, split=loading.train_split, progress=progress)
    order, choice = balanced_order(loading.balance, counts, names=dataset.labels.names, seed=seed)
    if choice is not None and say is not None:
        say(choice)
    return Balanced(order, counts.pixels.sum(axis=0))


@contextlib.contextmanager
def _counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, where that is a terminal."""
    columns = (TextColumn(what), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    task = bar.add_task(what, total=None)

    def update(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        bar.start()  # only now, because counts that were kept need no bar; starting again does nothing

    try:
        yield update
    finally:
        bar.stop()
