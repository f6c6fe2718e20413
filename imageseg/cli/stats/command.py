"""imageseg stats: number of images and objects in a dataset, frequency of each class, and class weights."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imageseg.cli.dataset_arguments import DatasetParser
from imageseg.cli.stats.statistics import RULES, Statistics, count
from imageseg.errors import InputError, command


def run(arguments: Sequence[str]) -> int:
    """Count and print. The exit code is 3 if images or masks without a partner were left out."""
    given, dataset = _parser().parse(arguments)
    from imageseg.datasets import DATASETS

    if not 0 <= given.beta < 1:
        raise InputError(f"--beta must be at least 0 and below 1, found {given.beta}")
    if given.chart:
        from imageseg.cli.stats.chart import require_matplotlib

        require_matplotlib(given.chart)
    name = DATASETS.resolve(given.use)
    statistics = count(name, dataset, given.split, beta=given.beta, workers=given.workers, cache=not given.no_cache)
    if given.chart:
        from imageseg.cli.stats.chart import write_chart

        if statistics.counts is None:
            raise InputError(f"{statistics.name} in {statistics.root} has no masks, so that there is nothing to draw")
        write_chart(Path(given.chart), statistics, dataset.labels)
    if given.json:
        print(json.dumps(_as_json(statistics, dataset.labels.names)))
    else:
        from imageseg.cli.stats.tables import print_statistics

        print_statistics(statistics, dataset.labels, rule=given.weights)
    if given.chart:
        print(f"chart written to {given.chart}", file=sys.stderr)
    return _report_left_out(statistics)


def _parser() -> DatasetParser:
    parser = DatasetParser(
        prog="imageseg stats",
        description="Count the images and objects of each split and, for one split, how often each class occurs, as a share of\n"
        "the valid (not ignored) pixels and of the images. Print class weights computed from these counts.\n"
        "Counts are cached in the user's cache folder until a file changes.",
    )
    parser.add_argument(
        "--split", help="the only split to count (default: all splits, and the classes of the first one with masks)"
    )
    parser.add_argument(
        "--weights", choices=RULES, default=RULES[0], help="rule of the weights to print (default: median_frequency)"
    )
    parser.add_argument(
        "--beta", type=float, default=0.9999, help="hyperparameter of effective_number (default: 0.9999)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object with the weights of all rules")
    parser.add_argument(
        "--chart", metavar="FILE.png", help="file for a chart of the classes (requires the extra 'report')"
    )
    parser.add_argument("--no-cache", action="store_true", help="count again and do not use the cache")
    parser.add_workers()
    return parser


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
    found = {"version": 1, "dataset": statistics.name, "root": str(statistics.root), "splits": splits}
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


def _report_left_out(statistics: Statistics) -> int:
    """Report images and masks without a partner on standard error, and return the exit code."""
    faulty = {split: faults for split, listing in statistics.listings.items() if (faults := listing.faults())}
    lister = command("check", statistics.name, "--root", statistics.root)
    for split, faults in faulty.items():
        what = ", ".join(fault for fault, _ in faults)
        print(f"imageseg: left out of {split}: {what}; {lister} lists them", file=sys.stderr)
    return 3 if faulty else 0
