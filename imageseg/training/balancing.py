"""The order of a run's training samples: counts the classes of its masks where the recipe asks for balance."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from imageseg.datasets.base import SegmentationDataset
from imageseg.datasets.statistics.counts import Counts, count_pictures
from imageseg.pipeline.balance import balanced_order
from imageseg.pipeline.stream import Order
from imageseg.progress_bars import Update
from imageseg.training.data import StreamData

logger = logging.getLogger(__name__)


class Balanced(NamedTuple):
    """The order of a run, and what it was made from."""

    order: Order | None
    """None is the plain one, which needs no counts."""
    pixels: Counts | None
    """(C,) of the training split, where they were counted."""


def balanced(
    dataset: SegmentationDataset,
    data: StreamData,
    *,
    seed: int,
    progress: Callable[[], AbstractContextManager[Update | None]] = nullcontext,
) -> Balanced:
    """The order that ``data.loading.balance`` names.

    Args:
        dataset: whose masks are counted, once: the counts are kept until a file changes.
        data: the splits.
        seed: of the order.
        progress: gives a function to call with (masks counted, in all) for the length of a block.

    Raises:
        InputError: a mask that cannot be read, or none with a labelled pixel.
    """
    loading = data.loading
    if loading.balance == "none":
        return Balanced(None, None)
    with progress() as update:
        counts = count_pictures(dataset, data.train_samples.pairs, split=loading.train_split, progress=update)
    order, choice = balanced_order(loading.balance, counts, names=dataset.labels.names, seed=seed)
    if choice is not None:
        logger.info(choice)
    return Balanced(order, counts.pixels.sum(axis=0))
