"""Faults of files: missing, misnamed, damaged or too large."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from imageseg.checking.finding import Finding, Place, error
from imageseg.checking.scan import Scan, SplitFiles
from imageseg.datasets.pairs import Pair
from imageseg.images import MAX_PIXELS


def duplicate_name(scan: Scan) -> Finding | None:
    """Two files in one folder whose names differ in the suffix only."""
    return error(
        [
            Place(second, f"next to {first.name}")
            for files in scan.splits.values()
            for first, second in sorted(set(files.same_name))
        ],
        meaning="Two files in one folder have the same name except for the suffix or its case, so that it is unclear which "
        "one belongs to its partner. Only the first was checked.",
        fix="Keep one of the two.",
    )


def mismatched_names(scan: Scan) -> Finding | None:
    """Images and masks whose names match except for case, or for an addition that all masks share."""
    return error(
        [Place(mask, f"its image seems to be {scan.shown(image)}") for image, mask in _renamed(scan)],
        meaning="Images and masks are paired by file name without suffix. These masks have no image of the same name, but one "
        "whose name differs in case or in an addition that all masks share.",
        fix="Rename the masks to match the images.",
    )


def missing_mask(scan: Scan) -> Finding | None:
    """An image without a mask."""
    known = {image for image, _ in _renamed(scan)}
    return error(
        _without_partner(scan, lambda files: files.without_mask, lambda pair: (pair.image, pair.mask), known),
        meaning="Images without a mask cannot be used for training or evaluation, and training stops at them.",
        fix="Add the masks, or remove the images.",
    )


def missing_image(scan: Scan) -> Finding | None:
    """A mask without an image, or an image that is listed but does not exist."""
    known = {mask for _, mask in _renamed(scan)}
    return error(
        _without_partner(scan, lambda files: files.without_image, lambda pair: (pair.mask, pair.image), known),
        meaning="Masks, or names in a list, have no image: the dataset was probably not copied completely.",
        fix="Add the images, or remove the masks and the names.",
    )


def empty_file(scan: Scan) -> Finding | None:
    """A file of zero bytes."""
    return error(
        [Place(path) for path, header in scan.headers() if header.bytes == 0 and path.is_file()],
        meaning="These files have no bytes: a download or a copy was interrupted, or the disk was full.",
        fix="Copy them again from their source.",
    )


def damaged_file(scan: Scan) -> Finding | None:
    """A file that cannot be decoded."""
    places = [
        Place(path, facts.error)
        for path, facts in scan.images()
        if facts.error and facts.header.bytes and facts.header.mode != "F"
    ]
    places += [Place(path, mask.error) for path, mask in scan.masks() if not mask.decodes and mask.header.bytes]
    return error(
        places,
        meaning="These files cannot be decoded completely: they are truncated, damaged, or no images.",
        fix="Copy or export them again. If the intact part of a truncated image is enough, open it and save it again.",
    )


def oversized_file(scan: Scan) -> Finding | None:
    """A file with more pixels than an image may have. Only its header was read."""
    return error(
        [
            Place(path, f"{header.width} x {header.height} pixels")
            for path, header in scan.headers()
            if header.oversized
        ],
        meaning=f"These files have more than {MAX_PIXELS:,} pixels. They are never decoded, because a small file of that kind "
        "can fill all memory (a decompression bomb); only their headers were read.",
        fix="If they are real images, cut them into tiles together with their masks.",
    )


def _without_partner(
    scan: Scan,
    select: Callable[[SplitFiles], list[Pair]],
    present_and_missing: Callable[[Pair], tuple[Path | None, Path | None]],
    known: set[Path],
) -> list[Place]:
    """Files whose partner is missing; if neither file exists, the missing one, which a list names."""
    places = {}
    for files in scan.splits.values():
        for pair in select(files):
            present, missing = present_and_missing(pair)
            if present in known or missing is None:
                continue
            if present is not None and present.exists():
                places[present] = Place(present, f"no {scan.shown(missing)}")
            else:
                places[missing] = Place(missing, "listed, but does not exist")
    return list(places.values())


def _renamed(scan: Scan) -> list[tuple[Path, Path]]:
    """Images and masks that are not paired only because their names differ in case or in an addition."""
    found: list[tuple[Path, Path]] = []
    for files in scan.splits.values():
        images = {pair.image.stem: pair.image for pair in files.without_mask}
        masks = {pair.mask.stem: pair.mask for pair in files.without_image if pair.mask and pair.mask.exists()}
        lower = {stem.lower(): image for stem, image in images.items()}
        found += [(lower[stem.lower()], mask) for stem, mask in masks.items() if stem.lower() in lower]
        prefix, suffix = _addition(images, masks)
        if prefix or suffix:
            found += [
                (image, masks[prefix + stem + suffix])
                for stem, image in images.items()
                if prefix + stem + suffix in masks
            ]
    return list(dict.fromkeys(found))


def _addition(images: dict[str, Path], masks: dict[str, Path]) -> tuple[str, str]:
    """What mask names have before and after the image's name, such as ``_mask``, if at least two pairs agree."""
    best, most = ("", ""), 1
    for mask in list(masks)[:3]:
        for stem in list(images)[:1000]:
            prefix, found, suffix = mask.partition(stem)
            if found and stem:
                count = sum(prefix + other + suffix in masks for other in images)
                if count > most:
                    best, most = (prefix, suffix), count
    return best
