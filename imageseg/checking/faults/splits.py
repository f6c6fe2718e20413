"""Faults of splits: missing, impossible to list, or without masks, so that training would not start."""

from __future__ import annotations

from pathlib import Path

from imageseg.checking.finding import Finding, Place, error
from imageseg.checking.scan import Scan
from imageseg.datasets.pairs import Pair
from imageseg.errors import counted

_REQUIRED = ("train", "val")
_SYNONYMS = {"train": ("training",), "val": ("valid", "validation", "dev"), "test": ("testing",)}
_GUIDE = "docs/how-to/custom-dataset.md"


def no_split(scan: Scan) -> Finding | None:
    """A root without any split."""
    if scan.splits:
        return None
    return error(
        [Place(scan.root)],
        meaning="There is no split: neither a folder below images nor a list file.",
        fix="Move the images to images/train and images/val, and their masks to masks/train and masks/val.",
    )


def unlistable_split(scan: Scan) -> Finding | None:
    """A split whose files the dataset cannot list."""
    places = [Place(scan.root, f"{split}: {files.error}") for split, files in scan.splits.items() if files.error]
    own = f"Correct what the line above reports; {_GUIDE} shows the layout of a Folder dataset."
    published = f"Follow the line above; it names the files that {scan.name} looks for."
    return error(
        places,
        meaning="The files of a split cannot be listed, so that the split was not checked.",
        fix=own if scan.own_masks else published,
    )


def missing_split(scan: Scan) -> Finding | None:
    """A dataset without train or val."""
    missing = [split for split in _REQUIRED if split not in scan.splits]
    if not scan.splits or not missing or not scan.all_splits:
        return None
    existing = f"existing {'split' if len(scan.splits) == 1 else 'splits'}: {', '.join(scan.splits)}"
    places = [Place(scan.root, f"no {split}; {existing}") for split in missing]
    if list(scan.splits) == ["unlisted"]:  # VOC's name for all images if there are no lists
        places = [Place(scan.root, "no ImageSets/Segmentation/train.txt and val.txt")]
        fix = "Unpack ImageSets of the devkit too: its lists define which images are train and which are val."
    elif scan.own_masks:
        fix = " ".join(_how_to_create(split, scan) for split in missing)
    else:
        fix = f"Unpack the files of {' and '.join(missing)} too, or train on other splits: --data.{missing[0]}_split NAME."
    return error(
        places,
        meaning="Training needs images to learn from (train) and others to select the best checkpoint (val), and stops if one "
        "of the two is missing.",
        fix=fix,
    )


def split_without_masks(scan: Scan) -> Finding | None:
    """A list of images without masks for a split that needs masks."""
    places, fixes = [], []
    for split in _REQUIRED:
        files = scan.splits.get(split)
        alone = [pair for pair in files.pairs if pair.mask is None] if files is not None else []
        if files is None or not alone:
            continue
        detail = f"{counted(len(alone), 'image', 'images')} without a mask, such as {scan.shown(alone[0].image)}"
        places.append(Place(files.listed_in or scan.root, detail if files.listed_in else f"{split}: {detail}"))
        fixes.append(
            _how_to_pair(files.listed_in, alone[0], scan) if files.listed_in else f"Unpack the masks of {split} too."
        )
    return error(
        places,
        meaning="Images without masks can be predicted, but not used for training or evaluation: training stops at once.",
        fix=" ".join(fixes),
    )


def _how_to_create(missing: str, scan: Scan) -> str:
    """Return what to do if a split of the user's own does not exist under its name."""
    lists = next((files.listed_in.parent for files in scan.splits.values() if files.listed_in), None)
    if lists is not None:
        other = next((name for name in _SYNONYMS[missing] if (lists / f"{name}.txt").is_file()), None)
        if other is not None:
            return f"Rename {scan.shown(lists / f'{other}.txt')} to {missing}.txt."
        share = "10 to 20 % of the existing lines" if missing == "val" else "the images to learn from"
        return f"Create {scan.shown(lists / f'{missing}.txt')} and move {share} to it."
    other = next((split for split in scan.splits if split.lower() in _SYNONYMS[missing]), None)
    if other is not None:
        return f"Rename images/{other} and masks/{other} to {missing}, or train with --data.{missing}_split {other}."
    share = "10 to 20 % of the images" if missing == "val" else "the images to learn from"
    return f"Move {share} to images/{missing}, and their masks to masks/{missing}."


def _how_to_pair(path: Path, pair: Pair, scan: Scan) -> str:
    """Return the line that the list should contain, with the path of the mask if it is found."""
    masks = scan.root / "masks"
    found = next((mask for mask in sorted(masks.rglob(f"{pair.image.stem}.*")) if mask.is_file()), None)
    mask = scan.shown(found) if found else f"masks/{pair.image.stem}.png"
    return f"Add the mask after each image in {scan.shown(path)}, as in '{scan.shown(pair.image)} {mask}'."
