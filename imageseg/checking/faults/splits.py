"""Faults of splits: what is missing, cannot be listed, or has no masks, so that a training would not even start."""

from __future__ import annotations

from pathlib import Path

from imageseg.checking.finding import Finding, Place, error
from imageseg.checking.scan import Scan
from imageseg.datasets.pairs import Pair
from imageseg.errors import counted

_TRAINED_WITH = ("train", "val")
_MEANT = {"train": ("training",), "val": ("valid", "validation", "dev"), "test": ("testing",)}
_GUIDE = "docs/how-to/custom-dataset.md"


def no_split(scan: Scan) -> Finding | None:
    """A root without any split."""
    if scan.splits:
        return None
    return error(
        [Place(scan.root)],
        meaning="There is no split here: no folder below images, or no list of files.",
        mend="Put the pictures into images/train and images/val, and their masks into masks/train and masks/val.",
    )


def unlistable_split(scan: Scan) -> Finding | None:
    """A split whose files the dataset cannot even list."""
    places = [Place(scan.root, f"{split}: {files.error}") for split, files in scan.splits.items() if files.error]
    own = f"Mend what the line says; {_GUIDE} shows the layout of a Folder."
    published = f"Do what the line says; it names the files that {scan.name} looks for."
    return error(
        places,
        meaning="The files of a split cannot be listed, so that it could not be checked.",
        mend=own if scan.own_masks else published,
    )


def missing_split(scan: Scan) -> Finding | None:
    """A dataset without train or val."""
    missing = [split for split in _TRAINED_WITH if split not in scan.splits]
    if not scan.splits or not missing or not scan.all_splits:
        return None
    there = f"there {'is' if len(scan.splits) == 1 else 'are'} {', '.join(scan.splits)}"
    places = [Place(scan.root, f"no {split}; {there}") for split in missing]
    if list(scan.splits) == ["unlisted"]:  # VOC's name for everything that no list sorts
        places = [Place(scan.root, "no ImageSets/Segmentation/train.txt and val.txt")]
        mend = "Unpack ImageSets of the devkit too: its lists say which pictures are train and which are val."
    elif scan.own_masks:
        mend = " ".join(_how_to_get(split, scan) for split in missing)
    else:
        mend = f"Unpack the files of {' and '.join(missing)} too, or train on other splits: --data.{missing[0]}_split NAME."
    return error(
        places,
        meaning="Training needs pictures to learn from (train) and others to choose the best checkpoint by (val), and stops "
        "where one of the two is missing.",
        mend=mend,
    )


def split_without_masks(scan: Scan) -> Finding | None:
    """Pictures alone where training needs masks: a list of one column."""
    places, mends = [], []
    for split in _TRAINED_WITH:
        files = scan.splits.get(split)
        lonely = [pair for pair in files.pairs if pair.mask is None] if files is not None else []
        if files is None or not lonely:
            continue
        detail = f"{counted(len(lonely), 'picture', 'pictures')} alone, such as {scan.shown(lonely[0].image)}"
        places.append(Place(files.listed_in or scan.root, detail if files.listed_in else f"{split}: {detail}"))
        mends.append(
            _how_to_pair(files.listed_in, lonely[0], scan) if files.listed_in else f"Unpack the masks of {split} too."
        )
    return error(
        places,
        meaning="Pictures without masks can be predicted, but neither trained on nor scored: training stops at once.",
        mend=" ".join(mends),
    )


def _how_to_get(missing: str, scan: Scan) -> str:
    """What to do for a split of the user's own that is not there under its name."""
    lists = next((files.listed_in.parent for files in scan.splits.values() if files.listed_in), None)
    if lists is not None:
        other = next((name for name in _MEANT[missing] if (lists / f"{name}.txt").is_file()), None)
        if other is not None:
            return f"Rename {scan.shown(lists / f'{other}.txt')} to {missing}.txt."
        share = "a tenth to a fifth of the lines there" if missing == "val" else "the pictures to learn from"
        return f"Write {scan.shown(lists / f'{missing}.txt')}: move {share} into it."
    other = next((split for split in scan.splits if split.lower() in _MEANT[missing]), None)
    if other is not None:
        return f"Rename images/{other} and masks/{other} to {missing}, or train with --data.{missing}_split {other}."
    share = "a tenth to a fifth of the pictures" if missing == "val" else "the pictures to learn from"
    return f"Move {share} into images/{missing}, and their masks into masks/{missing}."


def _how_to_pair(path: Path, pair: Pair, scan: Scan) -> str:
    """The line that should be in the list, by the mask's own path where it is found."""
    masks = scan.root / "masks"
    found = next((mask for mask in sorted(masks.rglob(f"{pair.image.stem}.*")) if mask.is_file()), None)
    mask = scan.shown(found) if found else f"masks/{pair.image.stem}.png"
    return f"Write each picture's mask after it in {scan.shown(path)}, as in '{scan.shown(pair.image)} {mask}'."
