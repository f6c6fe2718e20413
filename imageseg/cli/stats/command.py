"""imageseg stats: how many images and objects a dataset has, how often each class occurs, and class weights from that."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from imageseg.cli.dataset_arguments import DatasetParser
from imageseg.errors import InputError, command

if TYPE_CHECKING:
    import argparse

    from imageseg.datasets.base import SegmentationDataset
    from imageseg.datasets.pairs import Listing
    from imageseg.datasets.statistics.counts import ClassCounts, Objects

RULES = ("median_frequency", "enet", "effective_number")


class Statistics(NamedTuple):
    """What the command counted, for the terminal, JSON and the chart."""

    name: str
    root: Path
    listings: dict[str, Listing]
    objects: dict[str, Objects | None]
    split: str | None
    """Of the classes; None where no split has masks."""
    counts: ClassCounts | None
    weights: dict[str, list[float]]
    """Rule -> one weight per class, NaN for a class that does not occur."""


def run(arguments: Sequence[str]) -> int:
    """Counts and prints; exit code 3 where pictures or masks without partner are left out."""
    parser = _parser()
    given, dataset = parser.parse(arguments)
    if not 0 <= given.beta < 1:
        raise InputError(f"--beta must be at least 0 and below 1, found {given.beta}")
    if given.chart:
        from imageseg.cli.stats.chart import require_matplotlib

        require_matplotlib(given.chart)
    statistics = _counted(given, dataset)
    if given.chart:
        from imageseg.cli.stats.chart import write_chart

        if statistics.counts is None:
            raise InputError(f"{statistics.name} at {statistics.root} has no masks, so that there is nothing to draw")
        write_chart(Path(given.chart), statistics, dataset.labels)
    if given.json:
        print(json.dumps(_as_json(statistics, dataset.labels.names)))
    else:
        from imageseg.cli.stats.tables import print_statistics

        print_statistics(statistics, dataset.labels, rule=given.weights)
    if given.chart:
        print(f"chart written to {given.chart}", file=sys.stderr)
    return _tell_faults(statistics)


def pasted(weights: Sequence[float]) -> str:
    """Weights as ``--task.class_weights`` takes them; 1 for a class that does not occur: no pixel will ask for it."""
    return f"[{','.join(f'{1.0 if math.isnan(weight) else weight:.4g}' for weight in weights)}]"


def _parser() -> DatasetParser:
    parser = DatasetParser(
        prog="imageseg stats",
        description="Counts the images and objects of each split, and for one split how often each class occurs: its share\n"
        "of the valid pixels and of the images. From that follow class weights, ready to be pasted.\n"
        "Counts are kept in the user's cache folder until a file changes.",
    )
    parser.add_argument("--split", help="this split alone; unset, all of them, and the classes of the first with masks")
    parser.add_argument(
        "--weights", choices=RULES, default=RULES[0], help="the rule whose weights are printed to be pasted"
    )
    parser.add_argument("--beta", type=float, default=0.9999, help="of the effective number (default: 0.9999)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, with all weights")
    parser.add_argument("--chart", metavar="FILE.png", help="also draw the classes (needs the extra 'report')")
    parser.add_argument("--no-cache", action="store_true", help="count anew, and keep nothing")
    parser.add_workers()
    return parser


def _counted(given: argparse.Namespace, dataset: SegmentationDataset) -> Statistics:
    from imageseg.datasets import DATASETS
    from imageseg.datasets.statistics import class_weights
    from imageseg.datasets.statistics.counts import count_objects, count_per_image
    from imageseg.progress_bars import file_progress

    name, cache = DATASETS.resolve(given.use), not given.no_cache
    listings = {split: dataset.listing(split) for split in ([given.split] if given.split else dataset.splits)}
    with_masks = [split for split, listing in listings.items() if any(pair.mask for pair in listing.pairs)]
    if given.split and not with_masks:
        raise InputError(
            f"{name} {given.split}: no picture has a mask, so that no class can be counted; pass another --split"
        )
    objects: dict[str, Objects | None] = {}
    for split, listing in listings.items():
        with file_progress(f"objects of {split}") as progress:
            objects[split] = count_objects(dataset, listing.pairs, split=split, progress=progress, cache=cache)
    if not with_masks:
        return Statistics(name, dataset.root, listings, objects, None, None, {})
    split = with_masks[0]
    with file_progress(f"classes of {split}") as progress:
        pairs = listings[split].pairs
        counts = count_per_image(
            dataset, pairs, split=split, workers=given.workers, progress=progress, cache=cache
        ).total()
    weights = {
        "median_frequency": class_weights.median_frequency(counts.pixels, counts.image_pixels),
        "enet": class_weights.enet(counts.pixels),
        "effective_number": class_weights.effective_number(counts.images, beta=given.beta),
    }
    as_lists = {rule: values.tolist() for rule, values in weights.items()}
    return Statistics(name, dataset.root, listings, objects, split, counts, as_lists)


def _as_json(statistics: Statistics, names: Sequence[str]) -> dict[str, Any]:
    splits = {}
    for split, listing in statistics.listings.items():
        objects = statistics.objects[split]
        splits[split] = {
            "images": len(listing.pairs),
            "objects": None if objects is None else objects.count,
            "images_with_known_objects": None if objects is None else objects.images,
            "without_mask": len(listing.without_mask),
            "without_image": len(listing.without_image),
        }
    found: dict[str, Any] = {"dataset": statistics.name, "root": str(statistics.root), "splits": splits}
    counts = statistics.counts
    if counts is None:
        return found
    classes = {
        name: {
            "pixels": int(counts.pixels[index]),
            "pixel_share": counts.pixels[index] / counts.valid if counts.valid else None,
            "images": int(counts.images[index]),
            "image_share": counts.images[index] / counts.masks,
        }
        for index, name in enumerate(names)
    }
    weights = {
        rule: [None if math.isnan(weight) else weight for weight in values]
        for rule, values in statistics.weights.items()
    }
    return found | {
        "split": statistics.split,
        "masks": counts.masks,
        "valid_pixels": counts.valid,
        "ignored_pixels": counts.ignored,
        "classes": classes,
        "weights": weights,
    }


def _tell_faults(statistics: Statistics) -> int:
    faulty = {split: faults for split, listing in statistics.listings.items() if (faults := listing.faults())}
    lister = command("check", statistics.name, "--root", statistics.root)
    for split, faults in faulty.items():
        what = ", ".join(fault for fault, _ in faults)
        print(f"imageseg: left out of {split}: {what}; {lister} lists them", file=sys.stderr)
    return 3 if faulty else 0
