"""imageseg prepare: fetch a dataset, and make what it needs once."""

from __future__ import annotations

from collections.abc import Sequence

from imageseg.cli.dataset_arguments import DatasetParser


def run(arguments: Sequence[str]) -> int:
    """Fetches if asked to, prepares, and says what is there."""
    parser = DatasetParser(
        prog="imageseg prepare",
        description="Makes what a dataset needs once: masks from COCO's or BDD100K's annotations or from Cityscapes'\n"
        "polygons, the scenes of ToyScenes. Says what is there, or what it looked for. What is done is not done\n"
        "again; an interrupted run goes on where it was.",
    )
    parser.add_argument("--download", action="store_true", help="fetch the dataset from its owner first (VOC, COCO)")
    parser.add_argument(
        "--mirror", metavar="URL", help="fetch the same files from below this address instead; checksums hold"
    )
    parser.add_argument("--workers", type=int, help="processes; unset, one per processor")
    given, dataset = parser.parse(arguments)
    from imageseg.cli.progress import file_progress
    from imageseg.datasets import DATASETS
    from imageseg.datasets.download import fetch

    if given.download:
        archives = dataset.archives()
        with file_progress("download") as progress:
            fetch(archives, dataset.root, mirror=given.mirror, progress=progress)
    with file_progress("prepare") as progress:
        dataset.prepare(workers=given.workers, progress=progress)
    counts = {split: len(dataset.pairs(split)) for split in dataset.splits}
    there = ", ".join(f"{count} {split}" for split, count in counts.items())
    print(f"{DATASETS.resolve(given.use)} in {dataset.root}: {there or 'nothing'}")
    return 0
