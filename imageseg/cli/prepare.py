"""imageseg prepare: download a dataset and create the files that it needs once."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from imageseg.cli.dataset_arguments import DatasetParser
from imageseg.errors import InputError, command, counted

if TYPE_CHECKING:
    from imageseg.datasets.base import SegmentationDataset
    from imageseg.pipeline.store.build import StoreSummary


def run(arguments: Sequence[str]) -> int:
    """Download if requested, prepare, and report the number of images per split.

    Returns:
        Exit code: 0, or 3 if images or masks have no counterpart.
    """
    parser = DatasetParser(
        prog="imageseg prepare",
        description="Create the files that a dataset needs once: masks from the annotations of COCO or BDD100K or from\n"
        "the polygons of Cityscapes, and the scenes of ToyScenes. Reports the number of images per split, or the files\n"
        "that are missing. Existing files are kept; an interrupted run is continued.",
    )
    parser.add_argument(
        "--download", action="store_true", help="download the dataset from its owner first (VOC, COCO, ADE20K)"
    )
    parser.add_argument(
        "--mirror", metavar="URL", help="download the same files from this URL instead; checksums are verified as usual"
    )
    parser.add_argument(
        "--pack",
        action="store_true",
        help="also decode images and masks once into a packed store of 4 bytes per pixel, for 'train --data.pack true'; "
        "'prepare pack' is the same",
    )
    parser.add_argument(
        "--pack_folder",
        "--pack-folder",
        metavar="FOLDER",
        help="folder of the packed store (default: .imageseg in the root, or the user's cache folder if the root is read-only)",
    )
    parser.add_argument("--splits", metavar="SPLIT,...", help="splits to pack (default: train,val)")
    parser.add_workers()
    parser.add_argument("--json", action="store_true", help="print one JSON object to standard output")
    words = list(arguments)
    if words[:1] == ["pack"]:
        words = [*words[1:], "--pack"]
    given, dataset = parser.parse(words)
    from imageseg.datasets import DATASETS
    from imageseg.datasets.download.fetch import fetch
    from imageseg.progress_bars import byte_progress, file_progress

    if given.mirror and not given.download:
        raise InputError("--mirror is the URL for --download; pass both")
    if (given.pack_folder or given.splits) and not given.pack:
        raise InputError("--pack_folder and --splits are options of --pack; pass it too")
    if given.download:
        archives = dataset.archives()
        with byte_progress("download") as progress:
            fetch(archives, dataset.root, mirror=given.mirror, progress=progress)
    with file_progress("prepare") as progress:
        dataset.prepare(replace=True, workers=given.workers, progress=progress)
    stores = _packed(dataset, given) if given.pack else {}
    return _report(dataset, DATASETS.resolve(given.use), stores, as_json=given.json)


def _packed(dataset: SegmentationDataset, given: argparse.Namespace) -> dict[str, StoreSummary]:
    """Pack the splits into stores, and return these by split."""
    from imageseg.pipeline.store.build import build_store, store_folder
    from imageseg.progress_bars import file_progress

    usual = [split for split in ("train", "val") if split in dataset.splits]
    stores = {}
    for split in map(str.strip, given.splits.split(",")) if given.splits else usual:
        pairs, folder = dataset.pairs(split), store_folder(dataset, split, given.pack_folder)
        with file_progress(f"pack {split}") as progress:
            stores[split] = build_store(
                folder, pairs, dataset.labels, dataset.plain_reader, workers=given.workers, progress=progress
            )
    return stores


def _report(dataset: SegmentationDataset, name: str, stores: dict[str, StoreSummary], *, as_json: bool) -> int:
    """Print the report; return the exit code."""
    listings = {split: dataset.listing(split) for split in dataset.splits}
    counts = {split: len(listing.pairs) for split, listing in listings.items()}
    if as_json:
        report: dict[str, Any] = {"dataset": name, "root": str(dataset.root), "images": counts}
        if stores:
            report["packed"] = {
                split: {"folder": str(store.folder), "images": store.images, "done": store.done, "bytes": store.bytes}
                for split, store in stores.items()
            }
        print(json.dumps(report))
    else:
        there = ", ".join(f"{count} {split}" for split, count in counts.items())
        print(f"{name} in {dataset.root}: {there or 'no images'}")
        for split, listing in listings.items():
            if listing.by_choice:
                print(f"excluded from {split}: {listing.by_choice}")
        for split, store in stores.items():
            now = f"{store.done} of them new" if store.done else "nothing to do"
            images = counted(store.images, "image", "images")
            print(f"packed {split}: {images}, {now}, {store.bytes / 1e6:.1f} MB in {store.folder}")
    lister = command("check", name, "--root", dataset.root)
    exit_code = 0
    for split, listing in listings.items():
        for fault, first in listing.faults():
            print(f"{split}: {fault}, such as {first.name}; {lister} lists all of them", file=sys.stderr)
            exit_code = 3
    return exit_code
