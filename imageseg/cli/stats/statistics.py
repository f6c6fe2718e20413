"""The statistics of a dataset: images and objects of each split, classes of one split, and class weights from these."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from imageseg.errors import InputError

if TYPE_CHECKING:
    from imageseg.datasets.base import SegmentationDataset
    from imageseg.datasets.pairs import Listing
    from imageseg.datasets.statistics.counts import ClassCounts, Objects

RULES = ("median_frequency", "enet", "effective_number")
"""Names of the rules for class weights."""


class Statistics(NamedTuple):
    """What was counted, for the terminal, JSON and the chart."""

    name: str
    root: Path
    listings: dict[str, Listing]
    objects: dict[str, Objects | None]
    split: str | None
    """Split whose classes were counted; None if no split has masks."""
    counts: ClassCounts | None
    weights: dict[str, list[float]]
    """Rule -> one weight per class, NaN for a class that does not occur."""


def count(
    name: str, dataset: SegmentationDataset, split: str | None, *, beta: float, workers: int | None, cache: bool
) -> Statistics:
    """Count the images and objects of all splits, and the classes of the first split with masks.

    Args:
        name: Name of the dataset.
        dataset: Dataset to count.
        split: The only split to count. If None, all splits are counted.
        beta: Hyperparameter of the rule "effective_number".
        workers: Number of worker processes (default: one per CPU core).
        cache: Whether to read counts from the cache and to store them there.

    Raises:
        InputError: The dataset or the split does not exist, or the given split has no masks.
    """
    from imageseg.datasets.statistics import class_weights
    from imageseg.datasets.statistics.counts import count_objects, count_per_image
    from imageseg.progress_bars import file_progress

    listings = {each: dataset.listing(each) for each in ([split] if split else dataset.splits)}
    with_masks = [each for each, listing in listings.items() if any(pair.mask for pair in listing.pairs)]
    if split and not with_masks:
        raise InputError(
            f"{name} {split}: no image has a mask, so that no classes can be counted; pass another --split"
        )
    objects: dict[str, Objects | None] = {}
    for each, listing in listings.items():
        with file_progress(f"objects of {each}") as progress:
            objects[each] = count_objects(dataset, listing.pairs, split=each, progress=progress, cache=cache)
    if not with_masks:
        return Statistics(name, dataset.root, listings, objects, None, None, {})
    first = with_masks[0]
    with file_progress(f"classes of {first}") as progress:
        pairs = listings[first].pairs
        counts = count_per_image(dataset, pairs, split=first, workers=workers, progress=progress, cache=cache).total()
    weights = {
        "median_frequency": class_weights.median_frequency(counts.pixels, counts.image_pixels),
        "enet": class_weights.enet(counts.pixels),
        "effective_number": class_weights.effective_number(counts.images, beta=beta),
    }
    as_lists = {rule: values.tolist() for rule, values in weights.items()}
    return Statistics(name, dataset.root, listings, objects, first, counts, as_lists)
