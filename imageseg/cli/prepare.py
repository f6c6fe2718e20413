"""imageseg prepare: make what a dataset needs once."""

from __future__ import annotations

from collections.abc import Sequence

from imageseg.cli.arguments import OneLineParser


def run(arguments: Sequence[str]) -> int:
    """Prepares, and says what is there."""
    parser = OneLineParser(
        prog="imageseg prepare",
        description="Makes what a dataset needs once, or says what it looked for. ToyScenes: paints its pictures.",
    )
    parser.add_argument("use", help="the dataset, for example ToyScenes")
    parser.add_argument(
        "--root", "--data.root", dest="root", help="where its files lie or will; unset, its default below data/"
    )
    given = parser.parse_args(list(arguments))
    from imageseg.datasets import DATASETS, build_dataset

    dataset = build_dataset(given.use, given.root)
    dataset.prepare()
    counts = {split: len(dataset.pairs(split)) for split in ("train", "val")}
    print(
        f"{DATASETS.resolve(given.use)} in {dataset.root}: {', '.join(f'{count} {split}' for split, count in counts.items())}"
    )
    return 0
