"""imageseg prepare: fetch a dataset, and make what it needs once."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from imageseg.cli.dataset_arguments import DatasetParser
from imageseg.errors import InputError, command

if TYPE_CHECKING:
    from imageseg.datasets.base import SegmentationDataset


def run(arguments: Sequence[str]) -> int:
    """Fetches if asked to, prepares, and says what is there.

    Returns:
        0, or 3 where files are there without their partner.
    """
    parser = DatasetParser(
        prog="imageseg prepare",
        description="Makes what a dataset needs once: masks from COCO's or BDD100K's annotations or from Cityscapes'\n"
        "polygons, the scenes of ToyScenes. Says what is there, or what it looked for. What is done is not done\n"
        "again; an interrupted run goes on where it was.",
    )
    parser.add_argument(
        "--download", action="store_true", help="fetch the dataset from its owner first (VOC, COCO, ADE20K)"
    )
    parser.add_argument(
        "--mirror", metavar="URL", help="fetch the same files from below this address instead; checksums hold"
    )
    parser.add_workers()
    parser.add_argument("--json", action="store_true", help="print what is there as JSON")
    given, dataset = parser.parse(arguments)
    from imageseg.cli.progress import byte_progress, file_progress
    from imageseg.datasets import DATASETS
    from imageseg.datasets.download import fetch

    if given.mirror and not given.download:
        raise InputError("--mirror says where --download fetches from; pass both")
    if given.download:
        archives = dataset.archives()
        with byte_progress("download") as progress:
            fetch(archives, dataset.root, mirror=given.mirror, progress=progress)
    with file_progress("prepare") as progress:
        dataset.prepare(replace=True, workers=given.workers, progress=progress)
    return _report(dataset, DATASETS.resolve(given.use), as_json=given.json)


def _report(dataset: SegmentationDataset, name: str, *, as_json: bool) -> int:
    """Says what is there; the exit code says whether all of it has its partner."""
    listings = {split: dataset.listing(split) for split in dataset.splits}
    counts = {split: len(listing.pairs) for split, listing in listings.items()}
    if as_json:
        print(json.dumps({"dataset": name, "root": str(dataset.root), "pictures": counts}))
    else:
        there = ", ".join(f"{count} {split}" for split, count in counts.items())
        print(f"{name} in {dataset.root}: {there or 'nothing'}")
        for split, listing in listings.items():
            if listing.by_choice:
                print(f"left out of {split}: {listing.by_choice}")
    lister = command("check", name, "--root", dataset.root)
    exit_code = 0
    for split, listing in listings.items():
        for fault, first in listing.faults():
            print(f"{split}: {fault}, such as {first.name}; {lister} lists them", file=sys.stderr)
            exit_code = 3
    return exit_code
