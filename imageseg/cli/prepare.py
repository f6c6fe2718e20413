"""imageseg prepare: fetch a dataset, and make what it needs once."""

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
    parser.add_argument(
        "--pack",
        action="store_true",
        help="decode pictures and masks once, into 4 bytes per pixel, for 'train --data.pack true'; 'prepare pack' is the same",
    )
    parser.add_argument(
        "--pack_folder",
        "--pack-folder",
        metavar="FOLDER",
        help="where to; unset, .imageseg in the root, or the user's cache folder where the root may not be written",
    )
    parser.add_argument("--splits", metavar="SPLIT,...", help="what is packed; unset, train and val")
    parser.add_workers()
    parser.add_argument("--json", action="store_true", help="print what is there as JSON")
    words = list(arguments)
    if words[:1] == ["pack"]:
        words = [*words[1:], "--pack"]
    given, dataset = parser.parse(words)
    from imageseg.datasets import DATASETS
    from imageseg.datasets.download.fetch import fetch
    from imageseg.progress_bars import byte_progress, file_progress

    if given.mirror and not given.download:
        raise InputError("--mirror says where --download fetches from; pass both")
    if (given.pack_folder or given.splits) and not given.pack:
        raise InputError("--pack_folder and --splits say how --pack packs; pass it too")
    if given.download:
        archives = dataset.archives()
        with byte_progress("download") as progress:
            fetch(archives, dataset.root, mirror=given.mirror, progress=progress)
    with file_progress("prepare") as progress:
        dataset.prepare(replace=True, workers=given.workers, progress=progress)
    stores = _packed(dataset, given) if given.pack else {}
    return _report(dataset, DATASETS.resolve(given.use), stores, as_json=given.json)


def _packed(dataset: SegmentationDataset, given: argparse.Namespace) -> dict[str, StoreSummary]:
    """Packs the splits."""
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
    """Says what is there; the exit code says whether all of it has its partner."""
    listings = {split: dataset.listing(split) for split in dataset.splits}
    counts = {split: len(listing.pairs) for split, listing in listings.items()}
    if as_json:
        report: dict[str, Any] = {"dataset": name, "root": str(dataset.root), "pictures": counts}
        if stores:
            report["packed"] = {
                split: {"folder": str(store.folder), "pictures": store.images, "done": store.done, "bytes": store.bytes}
                for split, store in stores.items()
            }
        print(json.dumps(report))
    else:
        there = ", ".join(f"{count} {split}" for split, count in counts.items())
        print(f"{name} in {dataset.root}: {there or 'nothing'}")
        for split, listing in listings.items():
            if listing.by_choice:
                print(f"left out of {split}: {listing.by_choice}")
        for split, store in stores.items():
            now = f"{store.done} of them now" if store.done else "nothing was to do"
            pictures = counted(store.images, "picture", "pictures")
            print(f"packed {split}: {pictures}, {now}, {store.bytes / 1e6:.1f} MB in {store.folder}")
    lister = command("check", name, "--root", dataset.root)
    exit_code = 0
    for split, listing in listings.items():
        for fault, first in listing.faults():
            print(f"{split}: {fault}, such as {first.name}; {lister} lists them", file=sys.stderr)
            exit_code = 3
    return exit_code
