"""Faults of images, alone and with their masks: size, orientation, pixel type, and duplicates across splits."""

from __future__ import annotations

from pathlib import Path

from imageseg.checking.file_facts import ImageFacts, MaskFacts
from imageseg.checking.finding import Finding, Place, error, note, warning
from imageseg.checking.perceptual_hash import MIN_SIZE
from imageseg.checking.scan import Scan

_ORIENTATIONS = {
    2: "mirrored",
    3: "rotated by 180 degrees",
    4: "mirrored and rotated by 180 degrees",
    5: "mirrored and rotated by 90 degrees",
    6: "rotated by 90 degrees",
    7: "mirrored and rotated by 90 degrees",
    8: "rotated by 90 degrees",
}


def size_mismatch(scan: Scan) -> Finding | None:
    """A mask whose size differs from that of its image."""
    return error(
        [
            Place(path, f"{_size(mask.size)}, its image is {_size(image.header.upright)}")
            for path, mask, image in _decoded_pairs(scan)
            if mask.size not in (image.header.upright, image.header.upright[::-1])
        ],
        meaning="A mask must have exactly the size of its image; otherwise it is unknown which pixels belong together.",
        fix="Export the masks at the size of the images, or resize them with nearest neighbor, never with interpolation.",
    )


def rotated_mask(scan: Scan) -> Finding | None:
    """A mask whose height and width are those of its image swapped."""
    places = []
    for path, mask, image in _decoded_pairs(scan):
        height, width = image.header.upright
        if height != width and mask.size == (width, height):
            tag = image.header.orientation
            why = f"its EXIF tag {tag} means: {_ORIENTATIONS[tag]}" if tag > 1 else "it has no EXIF tag"
            places.append(Place(path, f"{_size(mask.size)}, its upright image is {_size(image.header.upright)}; {why}"))
    return error(
        places,
        meaning="Height and width of mask and image are swapped. Images are rotated upright by their EXIF tag when they are "
        "read, as viewers do; these masks were drawn on the stored pixels without the rotation, or rotated once too often.",
        fix="Rotate these masks upright (EXIF tag 6: 90 degrees clockwise; 8: 90 degrees counterclockwise), or rotate the "
        "pixels of the images and remove their EXIF tags.",
    )


def unclear_orientation(scan: Scan) -> Finding | None:
    """An image with an orientation tag whose size does not show whether the mask was drawn upright."""
    places = []
    for path, mask, image in _decoded_pairs(scan):
        tag, (height, width) = image.header.orientation, image.header.upright
        if tag > 1 and mask.size == (height, width) and (height == width or tag <= 4):
            places.append(Place(path, f"the EXIF tag {tag} of its image means: {_ORIENTATIONS[tag]}"))
    return warning(
        places,
        meaning="The images have an EXIF orientation tag and are rotated upright when they are read. The sizes do not show "
        "whether their masks were drawn upright, because this rotation does not change them.",
        fix="Open one of these masks next to its image in a viewer; both must have the same orientation.",
    )


def image_looks_like_mask(scan: Scan) -> Finding | None:
    """An image of few flat colors, as masks are."""
    return warning(
        [
            Place(path, f"{facts.gray_levels} gray levels, {facts.flat:.0%} of it flat")
            for path, facts in scan.images()
            if _is_sound(facts) and 1 < facts.gray_levels <= 32 and facts.flat > 0.5
        ],
        meaning="These images consist of a few flat colors, as masks do: some files or the two folders may be swapped.",
        fix="Open them, and move masks to the folder of masks.",
    )


def float_image(scan: Scan) -> Finding | None:
    """An image with floating-point pixels, whose range is undefined."""
    return error(
        [Place(path, facts.error) for path, facts in scan.images() if facts.error and facts.header.mode == "F"],
        meaning="Images with floating-point pixels are not supported: the file does not define which values are black and "
        "white.",
        fix="Save them with 8 or 16 bits per channel.",
    )


def dark_image(scan: Scan) -> Finding | None:
    """A 16-bit image that uses 10 or 12 bits only."""
    return warning(
        [
            Place(path, f"its largest value is {facts.maximum} of 65535")
            for path, facts in scan.images()
            if _is_sound(facts) and 0 < facts.maximum < 4096
        ],
        meaning="In 16-bit images, 65535 is white. These use less than a sixteenth of that range, probably because the camera "
        "has 10 or 12 bits, and would be nearly black.",
        fix="Multiply their values by 16 (12 bits) or 64 (10 bits), or save them with 8 bits.",
    )


def unusual_image(scan: Scan) -> Finding | None:
    """A grayscale, CMYK, 16-bit or transparent image, and how it is read."""
    return note(
        [
            Place(path, _READ_AS[facts.header.mode])
            for path, facts in scan.images()
            if _is_sound(facts) and facts.header.mode in _READ_AS
        ],
        meaning="These images are not plain 8-bit RGB. They are read as listed here; a network can learn to tell such types "
        "apart instead of the classes.",
        fix="No action is needed if all images are alike; otherwise convert them to 8-bit RGB.",
    )


def blank_image(scan: Scan) -> Finding | None:
    """An image with one value everywhere."""
    return note(
        [Place(path) for path, facts in scan.images() if _is_sound(facts) and facts.gray_levels == 1],
        meaning="These images have a single gray level everywhere: nothing can be learned from them.",
        fix="Check whether they were exported correctly.",
    )


def duplicate_image(scan: Scan) -> Finding | None:
    """The same file in two splits, byte for byte."""
    return error(
        [
            Place(copy.path, f"in {copy.split}; the same bytes as {scan.shown(copy.original)} in {copy.original_split}")
            for copy in scan.duplicates
            if copy.same_bytes
        ],
        meaning="The same image is in two splits, byte for byte: the score would reward memorized images.",
        fix="Keep it in one split.",
    )


def near_duplicate_image(scan: Scan) -> Finding | None:
    """A re-encoded, resized or brightened copy in another split."""
    return warning(
        [
            Place(copy.path, f"in {copy.split}; shows the same as {scan.shown(copy.original)} in {copy.original_split}")
            for copy in scan.duplicates
            if not copy.same_bytes
        ],
        meaning="Two splits contain images that differ only in size, compression or brightness: the score would reward "
        "memorized images.",
        fix="Compare the two and keep one. Put all frames of one video into the same split.",
    )


_READ_AS = {
    "L": "grayscale: three equal channels",
    "1": "black and white: three equal channels",
    "LA": "grayscale with alpha: three equal channels, alpha dropped",
    "RGBA": "RGB with alpha: alpha dropped",
    "PA": "palette with alpha: the palette's colors, alpha dropped",
    "CMYK": "CMYK: converted to RGB without a color profile",
    "16-bit RGB": "16-bit RGB: the upper 8 bits",
    **dict.fromkeys(
        ("I;16", "I;16B", "I;16L", "I;16N", "I"), "16-bit grayscale: scaled to 8 bits, three equal channels"
    ),
}


def _is_sound(facts: ImageFacts) -> bool:
    return not facts.error and not facts.header.oversized and facts.header.width * facts.header.height >= MIN_SIZE**2


def _decoded_pairs(scan: Scan) -> list[tuple[Path, MaskFacts, ImageFacts]]:
    """Return the path and facts of each mask with the facts of its image, if both could be decoded."""
    return [
        (facts.pair.mask, facts.mask, facts.image)
        for facts in scan.facts
        if facts.pair.mask and facts.mask and facts.mask.decodes and not facts.image.error
        if not facts.image.header.oversized and not facts.mask.header.oversized
    ]


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"
