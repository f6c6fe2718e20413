"""Faults of files: what is missing, misnamed, damaged or too large."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from imageseg.checking.finding import Finding, Place, error
from imageseg.checking.scan import Scan, SplitFiles
from imageseg.datasets.pairs import Pair
from imageseg.images import MAX_PIXELS


def two_of_one_name(scan: Scan) -> Finding | None:
    """Two files of one folder whose names differ in the suffix only."""
    return error(
        [
            Place(twin, f"beside {first.name}")
            for files in scan.splits.values()
            for first, twin in sorted(set(files.twins))
        ],
        meaning="Two files of one folder have one name but for the suffix or its case, so that it is unclear which belongs "
        "to the partner of that name. The first of them was checked.",
        mend="Keep one of the two.",
    )


def names_differ(scan: Scan) -> Finding | None:
    """Pictures and masks that fit but for the case of letters, or for something that every mask's name has added."""
    return error(
        [Place(mask, f"its picture seems to be {scan.shown(image)}") for image, mask in _renamed(scan)],
        meaning="Pictures and masks are paired by name, suffix aside. These have no partner of their name, but one that "
        "differs in the case of letters or in an addition that all masks share.",
        mend="Rename the masks after their pictures.",
    )


def missing_mask(scan: Scan) -> Finding | None:
    """A picture without mask."""
    known = {image for image, _ in _renamed(scan)}
    return error(
        _lost(scan, lambda files: files.without_mask, lambda pair: (pair.image, pair.mask), known),
        meaning="Pictures without a mask cannot be trained on or scored, and training refuses to guess.",
        mend="Add the masks, or take the pictures away.",
    )


def missing_picture(scan: Scan) -> Finding | None:
    """A mask without picture, or a listed name without picture."""
    known = {mask for _, mask in _renamed(scan)}
    return error(
        _lost(scan, lambda files: files.without_image, lambda pair: (pair.mask, pair.image), known),
        meaning="Masks, or names in a list, without a picture: probably not everything was copied.",
        mend="Add the pictures, or take the masks or the names away.",
    )


def empty_file(scan: Scan) -> Finding | None:
    """A file of zero bytes."""
    return error(
        [Place(path) for path, header in scan.headers() if header.bytes == 0 and path.is_file()],
        meaning="Files without a single byte: a download or a copy that was cut off, or a full disk.",
        mend="Copy them again from where they came.",
    )


def damaged_file(scan: Scan) -> Finding | None:
    """A file that no reader can decode."""
    places = [
        Place(path, facts.error)
        for path, facts in scan.pictures()
        if facts.error and facts.header.bytes and facts.header.mode != "F"
    ]
    places += [Place(path, mask.error) for path, mask in scan.masks() if not mask.decodes and mask.header.bytes]
    return error(
        places,
        meaning="These cannot be decoded to their end: truncated, damaged, or no picture at all.",
        mend="Copy or export them again; if the rest of a truncated picture will do, open it and save it anew.",
    )


def oversized_file(scan: Scan) -> Finding | None:
    """More pixels than a picture may have. Only the header was read."""
    return error(
        [
            Place(path, f"{header.width} x {header.height} pixels")
            for path, header in scan.headers()
            if header.oversized
        ],
        meaning=f"More than {MAX_PIXELS:,} pixels: nothing here decodes them, because a small file of that kind can fill "
        "all memory (a decompression bomb). Only their headers were read.",
        mend="If they are real, cut them into tiles together with their masks.",
    )


def _lost(
    scan: Scan,
    of: Callable[[SplitFiles], list[Pair]],
    there_and_not: Callable[[Pair], tuple[Path | None, Path | None]],
    known: set[Path],
) -> list[Place]:
    """Files without partner; where not even the one is there, a list names it."""
    places = {}
    for files in scan.splits.values():
        for pair in of(files):
            there, missing = there_and_not(pair)
            if there in known or missing is None:
                continue
            if there is not None and there.exists():
                places[there] = Place(there, f"no {scan.shown(missing)}")
            else:
                places[missing] = Place(missing, "listed, but not there")
    return list(places.values())


def _renamed(scan: Scan) -> list[tuple[Path, Path]]:
    """Pictures and masks that lost each other by their names only."""
    found: list[tuple[Path, Path]] = []
    for files in scan.splits.values():
        images = {pair.image.stem: pair.image for pair in files.without_mask}
        masks = {pair.mask.stem: pair.mask for pair in files.without_image if pair.mask and pair.mask.exists()}
        lower = {stem.lower(): image for stem, image in images.items()}
        found += [(lower[stem.lower()], mask) for stem, mask in masks.items() if stem.lower() in lower]
        before, after = _addition(images, masks)
        if before or after:
            found += [
                (image, masks[before + stem + after])
                for stem, image in images.items()
                if before + stem + after in masks
            ]
    return list(dict.fromkeys(found))


def _addition(images: dict[str, Path], masks: dict[str, Path]) -> tuple[str, str]:
    """What every mask's name has before and after its picture's, such as ``_mask``; from two pairs on, not by chance."""
    best, most = ("", ""), 1
    for mask in list(masks)[:3]:
        for stem in list(images)[:1000]:
            before, there, after = mask.partition(stem)
            if there and stem:
                count = sum(before + other + after in masks for other in images)
                if count > most:
                    best, most = (before, after), count
    return best
