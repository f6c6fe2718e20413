"""Faults of mask files: kinds of file and of pixels that cannot hold labels, or hold them in a way that misleads."""

from __future__ import annotations

from imageseg.checking.finding import Finding, Place, error, note, warning
from imageseg.checking.mask_pixels import unpacked
from imageseg.checking.scan import Scan, looks_like_a_photo
from imageseg.errors import counted

_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_HOLD_LABELS = ("1", "L", "P", "RGB", *_DEEP)


def mask_is_a_picture(scan: Scan) -> Finding | None:
    """A photo among the masks."""
    return error(
        [
            Place(
                path, f"{counted(mask.pixels.distinct, 'value', 'different values')}, {mask.pixels.flat:.0%} of it flat"
            )
            for path, mask in scan.masks()
            if looks_like_a_photo(mask)
        ],
        meaning="These masks hold hundreds of values and hardly a flat spot, as photos do: perhaps the two folders, or some "
        "files, are swapped.",
        mend="Look at them; put the real masks in their place.",
    )


def jpeg_mask(scan: Scan) -> Finding | None:
    """A mask that went through JPEG, which invents values."""
    return error(
        [
            Place(path, counted(mask.pixels.distinct, "value", "different values"))
            for path, mask in scan.masks()
            if mask.header.format == "JPEG" and mask.error and mask.decodes and not looks_like_a_photo(mask)
        ],
        meaning="JPEG does not keep values: it blurs labels into their neighbours, and invents ids that nobody drew.",
        mend="Export the masks again from where they were drawn, as PNG. Converting these files to PNG keeps the damage.",
    )


def rgba_bitmask(scan: Scan) -> Finding | None:
    """BDD100K's bitmasks of instances, taken for semantic masks."""
    return error(
        [Place(path) for path, mask in scan.masks() if mask.error and mask.bitmask],
        meaning="RGBA files whose red channel is a small number and whose alpha varies are bitmasks of instances, as in "
        "BDD100K's ins_seg and pan_seg: red is a category, blue and alpha number the objects. They are no semantic masks.",
        mend="Use the semantic masks (BDD100K: labels/sem_seg/masks), or write the red channel alone as grey PNGs.",
    )


def mask_mode(scan: Scan) -> Finding | None:
    """A kind of pixels that holds no labels."""
    return error(
        [
            Place(path, mask.error if mask.header.mode in _HOLD_LABELS else f"pixel mode {mask.header.mode}")
            for path, mask in scan.masks()
            if mask.error and mask.decodes and not mask.bitmask
            if mask.header.mode not in ("F",) and mask.header.format != "JPEG" and not looks_like_a_photo(mask)
        ],
        meaning="A mask has one channel of 8 or 16 bits, a palette, or RGB colours; the dataset cannot read labels from these.",
        mend="Save them as grey PNGs of ids. If they are colours with a full alpha channel, dropping that channel is enough.",
    )


def float_mask(scan: Scan) -> Finding | None:
    """Labels as floating-point numbers."""
    return error(
        [Place(path) for path, mask in scan.masks() if mask.error and mask.decodes and mask.header.mode == "F"],
        meaning="These masks hold floating-point numbers. Labels are whole numbers; perhaps they were scaled to 0 to 1.",
        mend="Save them as integers: astype('uint8') for ids up to 255, after undoing any scaling.",
    )


def antialiased_mask(scan: Scan) -> Finding | None:
    """Undeclared values on borders only."""
    masks = dict(scan.masks())
    return error(
        [
            Place(path, _listed([value.value for value in strays], colors=masks[path].colored))
            for path, strays in scan.values.strays.items()
        ],
        meaning="Values that nobody declared occur only in thin lines between declared ones: the masks were drawn with "
        "smooth edges, resized with interpolation, or went through JPEG once.",
        mend="Export them again without anti-aliasing; resize masks with nearest neighbour only.",
    )


def smoothed_mask(scan: Scan) -> Finding | None:
    """Declared values on borders where only blends would be."""
    masks = dict(scan.masks())
    return warning(
        [
            Place(path, f"{masks[path].pixels.blended:.0%} of the border pixels lie between their neighbours' ids")
            for path in scan.values.smoothed
        ],
        meaning="Along the borders run ids that lie between those on both sides, as when a mask is resized with "
        "interpolation: a line of class 1 or 2 around every object of class 3. All of them are declared, so nothing "
        "else would tell.",
        mend="Resize masks with nearest neighbour only, from the originals.",
    )


def sixteen_bit_mask(scan: Scan) -> Finding | None:
    """Sixteen bits per pixel, which some readers cut to eight."""
    return note(
        [
            Place(path, f"largest id {max((value.value for value in mask.pixels.values), default=0)}")
            for path, mask in scan.sound_masks()
            if mask.header.mode in _DEEP
        ],
        meaning="16-bit masks are read exactly here; other programs (OpenCV's grey mode) cut their ids to 8 bits.",
        mend="Nothing; where all ids are below 256, 8 bits take half the space.",
    )


def palette_mask(scan: Scan) -> Finding | None:
    """A user's palette files, which other readers see as colours."""
    if not scan.own_masks:
        return None
    return note(
        [Place(path) for path, mask in scan.sound_masks() if mask.header.mode == "P"],
        meaning="Palette files are read as their ids here; other programs (OpenCV, convert('RGB')) see colours instead.",
        mend="Nothing; convert them to grey PNGs of the same ids if such programs must read them too.",
    )


def _listed(values: list[int], *, colors: bool) -> str:
    shown = [str(unpacked(value)) if colors else str(value) for value in values[:6]]
    more = f" and {len(values) - 6} more" if len(values) > 6 else ""
    return f"{'colours' if colors else 'values'} {', '.join(shown)}{more}"
