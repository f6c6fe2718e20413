"""Faults of pictures, alone and beside their masks: sizes, orientation, kinds of pixels, and copies across splits."""

from __future__ import annotations

from pathlib import Path

from imageseg.checking.file_facts import MaskFacts, PictureFacts
from imageseg.checking.finding import Finding, Place, error, note, warning
from imageseg.checking.perceptual_hash import SMALLEST
from imageseg.checking.scan import Scan

_ORIENTATIONS = {
    **{2: "mirrored", 3: "upside down", 4: "mirrored upside down", 5: "mirrored, on its side"},
    **{6: "on its side", 7: "mirrored, on its side", 8: "on its side"},
}


def size_mismatch(scan: Scan) -> Finding | None:
    """A mask of another size than its picture."""
    return error(
        [
            Place(path, f"{_by(mask.size)}, its picture is {_by(picture.header.upright)}")
            for path, mask, picture in _both(scan)
            if mask.size not in (picture.header.upright, picture.header.upright[::-1])
        ],
        meaning="A mask must have its picture's size to the pixel; here it is not known which pixel belongs to which.",
        mend="Export the masks at the pictures' own size, or resize them with nearest neighbour, never with smoothing.",
    )


def turned_mask(scan: Scan) -> Finding | None:
    """A mask whose height and width are its picture's swapped."""
    places = []
    for path, mask, picture in _both(scan):
        height, width = picture.header.upright
        if height != width and mask.size == (width, height):
            tag = picture.header.orientation
            why = f"its EXIF tag {tag} says: {_ORIENTATIONS[tag]}" if tag > 1 else "it has no EXIF tag"
            places.append(Place(path, f"{_by(mask.size)}, its picture is {_by(picture.header.upright)} upright; {why}"))
    return error(
        places,
        meaning="Height and width of mask and picture are swapped. A picture is read upright, as its EXIF tag says and as "
        "viewers show it; a mask that was drawn on the unturned pixels, or turned once too often, lies across it.",
        mend="Turn these masks upright (a tag of 6: by 90 degrees clockwise; of 8: anticlockwise), or turn the pixels of the "
        "pictures and delete their tags.",
    )


def unclear_orientation(scan: Scan) -> Finding | None:
    """A picture with an orientation tag where the sizes cannot tell whether the mask was drawn upright."""
    places = []
    for path, mask, picture in _both(scan):
        tag, (height, width) = picture.header.orientation, picture.header.upright
        if tag > 1 and mask.size == (height, width) and (height == width or tag <= 4):
            places.append(Place(path, f"its picture's EXIF tag {tag} says: {_ORIENTATIONS[tag]}"))
    return warning(
        places,
        meaning="The pictures have an EXIF orientation tag and are turned upright when they are read. Whether their masks "
        "were drawn upright cannot be seen from the sizes, because turning does not change them.",
        mend="Look at one of these masks beside its picture in a viewer: both should show the same way up.",
    )


def picture_is_a_mask(scan: Scan) -> Finding | None:
    """A flat drawing of few colours among the pictures."""
    return warning(
        [
            Place(path, f"{facts.shades} shades of grey, {facts.flat:.0%} of it flat")
            for path, facts in scan.pictures()
            if _is_sound(facts) and 1 < facts.shades <= 32 and facts.flat > 0.5
        ],
        meaning="These pictures consist of a few flat colours, as masks do: perhaps the two folders, or some files, are swapped.",
        mend="Look at them; put masks where masks belong.",
    )


def float_picture(scan: Scan) -> Finding | None:
    """Floating-point pixels, whose range nobody knows."""
    return error(
        [Place(path, facts.error) for path, facts in scan.pictures() if facts.error and facts.header.mode == "F"],
        meaning="Pictures of floating-point pixels are not read: what is black and what is white is nowhere written.",
        mend="Save them with 8 or 16 bits per channel.",
    )


def dark_picture(scan: Scan) -> Finding | None:
    """10 or 12 bits in a file of 16."""
    return warning(
        [
            Place(path, f"its brightest value is {facts.brightest} of 65535")
            for path, facts in scan.pictures()
            if _is_sound(facts) and 0 < facts.brightest < 4096
        ],
        meaning="16-bit pictures are read with 65535 as white. These use less than a sixteenth of that, probably because the "
        "camera has 10 or 12 bits, and would be almost black.",
        mend="Multiply their values by 16 (12 bits) or 64 (10 bits), or save them with 8 bits.",
    )


def unusual_picture(scan: Scan) -> Finding | None:
    """Grey, CMYK, deep or transparent pictures, and how they are read."""
    return note(
        [
            Place(path, _READ_AS[facts.header.mode])
            for path, facts in scan.pictures()
            if _is_sound(facts) and facts.header.mode in _READ_AS
        ],
        meaning="These pictures are not plain 8-bit RGB. They are read as the lines say.",
        mend="Nothing, if that suits; mixed kinds can make a network learn the kind.",
    )


def blank_picture(scan: Scan) -> Finding | None:
    """One value everywhere."""
    return note(
        [Place(path) for path, facts in scan.pictures() if _is_sound(facts) and facts.shades == 1],
        meaning="These pictures are of one flat grey or colour: there is nothing to learn from them.",
        mend="Look whether they were exported rightly.",
    )


def same_picture(scan: Scan) -> Finding | None:
    """The same file in two splits, byte for byte."""
    return error(
        [
            Place(copy.path, f"in {copy.split}; the same bytes as {scan.shown(copy.twin)} in {copy.twin_split}")
            for copy in scan.copies
            if copy.same_bytes
        ],
        meaning="The same picture is in two splits, byte for byte: the score would count what was learned by heart.",
        mend="Keep it in one split.",
    )


def similar_picture(scan: Scan) -> Finding | None:
    """A copy in another split that was re-encoded, resized or brightened."""
    return warning(
        [
            Place(copy.path, f"in {copy.split}; shows the same as {scan.shown(copy.twin)} in {copy.twin_split}")
            for copy in scan.copies
            if not copy.same_bytes
        ],
        meaning="Two splits hold pictures that show the same but for size, compression or light; the score would count what "
        "was learned by heart.",
        mend="Look at both; keep one. Frames of one video belong into one split.",
    )


_READ_AS = {
    "L": "grey: three equal channels",
    "1": "black and white: three equal channels",
    "LA": "grey with alpha: three equal channels, alpha dropped",
    "RGBA": "RGB with alpha: alpha dropped",
    "PA": "palette with alpha: its colours, alpha dropped",
    "CMYK": "CMYK: converted to RGB without a colour profile",
    "16-bit RGB": "RGB of 16 bits: the upper 8 of them",
    **dict.fromkeys(("I;16", "I;16B", "I;16L", "I;16N", "I"), "grey of 16 bits: scaled to 8, three equal channels"),
}


def _is_sound(facts: PictureFacts) -> bool:
    return not facts.error and not facts.header.oversized and facts.header.width * facts.header.height >= SMALLEST**2


def _both(scan: Scan) -> list[tuple[Path, MaskFacts, PictureFacts]]:
    """Masks beside their pictures, where both could be decoded."""
    return [
        (facts.pair.mask, facts.mask, facts.picture)
        for facts in scan.facts
        if facts.pair.mask and facts.mask and facts.mask.decodes and not facts.picture.error
        if not facts.picture.header.oversized and not facts.mask.header.oversized
    ]


def _by(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"
