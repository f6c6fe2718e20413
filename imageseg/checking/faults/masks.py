"""Faults of mask files: file types and pixels that cannot hold labels, or hold them in a misleading way."""

from __future__ import annotations

from imageseg.checking.finding import Finding, Place, error, note, warning
from imageseg.checking.mask_pixels import int_to_rgb
from imageseg.checking.scan import Scan, looks_like_a_photo
from imageseg.errors import counted

_SIXTEEN_BIT_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_LABEL_MODES = ("1", "L", "P", "RGB", *_SIXTEEN_BIT_MODES)


def mask_looks_like_photo(scan: Scan) -> Finding | None:
    """A photo among the masks."""
    return error(
        [
            Place(
                path, f"{counted(mask.pixels.distinct, 'value', 'different values')}, {mask.pixels.flat:.0%} of it flat"
            )
            for path, mask in scan.masks()
            if looks_like_a_photo(mask)
        ],
        meaning="These masks hold many values and hardly any flat area, as photos do: some files or the two folders may be "
        "swapped.",
        fix="Open them, and replace them by the real masks.",
    )


def jpeg_mask(scan: Scan) -> Finding | None:
    """A mask with JPEG compression, which changes its values."""
    return error(
        [
            Place(path, counted(mask.pixels.distinct, "value", "different values"))
            for path, mask in scan.masks()
            if mask.header.format == "JPEG" and mask.error and mask.decodes and not looks_like_a_photo(mask)
        ],
        meaning="JPEG compression changes values: it mixes neighboring labels and creates ids that nobody annotated.",
        fix="Export the masks as PNG from the annotation tool. Converting these files to PNG keeps the damage.",
    )


def rgba_bitmask(scan: Scan) -> Finding | None:
    """An instance bitmask of BDD100K in place of a semantic mask."""
    return error(
        [Place(path) for path, mask in scan.masks() if mask.error and mask.is_instance_bitmask],
        meaning="RGBA files with small red values and varying alpha are instance bitmasks, as in BDD100K's ins_seg and "
        "pan_seg: red is the category, blue and alpha number the objects. They are not semantic masks.",
        fix="Use the semantic masks (BDD100K: labels/sem_seg/masks), or save the red channel alone as a grayscale PNG.",
    )


def mask_mode(scan: Scan) -> Finding | None:
    """A pixel type that holds no labels."""
    return error(
        [
            Place(path, mask.error if mask.header.mode in _LABEL_MODES else f"pixel mode {mask.header.mode}")
            for path, mask in scan.masks()
            if mask.error and mask.decodes and not mask.is_instance_bitmask
            if mask.header.mode != "F" and mask.header.format != "JPEG" and not looks_like_a_photo(mask)
        ],
        meaning="A mask has one channel of 8 or 16 bits, a palette, or RGB colors; the dataset cannot read labels from these "
        "files.",
        fix="Save them as grayscale PNGs of ids. If they are colors with an opaque alpha channel, remove that channel.",
    )


def float_mask(scan: Scan) -> Finding | None:
    """Labels as floating-point numbers."""
    return error(
        [Place(path) for path, mask in scan.masks() if mask.error and mask.decodes and mask.header.mode == "F"],
        meaning="These masks hold floating-point numbers, but labels are integers; perhaps they were scaled to 0 to 1.",
        fix="Undo any scaling, then save them as integers: astype('uint8') for ids up to 255.",
    )


def antialiased_mask(scan: Scan) -> Finding | None:
    """Undeclared values on borders only."""
    masks = dict(scan.masks())
    return error(
        [
            Place(path, _list([value.value for value in strays], colors=masks[path].colored))
            for path, strays in scan.values.strays.items()
        ],
        meaning="Undeclared values occur only in thin lines between declared ones: the masks were drawn with anti-aliasing, "
        "resized with interpolation, or compressed as JPEG at some point.",
        fix="Export them again without anti-aliasing, and resize masks with nearest neighbor only.",
    )


def smoothed_mask(scan: Scan) -> Finding | None:
    """Declared values on borders, where interpolation would create them."""
    masks = dict(scan.masks())
    return warning(
        [
            Place(path, f"{masks[path].pixels.blended:.0%} of the border pixels lie between the ids of their neighbors")
            for path in scan.values.smoothed
        ],
        meaning="Along the borders there are ids between those of the two sides, as after resizing with interpolation: a line "
        "of class 1 or 2 around every object of class 3. All of these ids are declared, so no other check reports them.",
        fix="Resize the original masks again, with nearest neighbor only.",
    )


def sixteen_bit_mask(scan: Scan) -> Finding | None:
    """A 16-bit mask, which some programs truncate to 8 bits."""
    return note(
        [
            Place(path, f"largest id {max((value.value for value in mask.pixels.values), default=0)}")
            for path, mask in scan.sound_masks()
            if mask.header.mode in _SIXTEEN_BIT_MODES
        ],
        meaning="16-bit masks are read exactly here; other programs (OpenCV's grayscale mode) truncate their ids to 8 bits.",
        fix="No action is needed. If all ids are below 256, 8-bit files need half the space.",
    )


def palette_mask(scan: Scan) -> Finding | None:
    """A mask of the user's with a palette, which other programs read as colors."""
    if not scan.own_masks:
        return None
    return note(
        [Place(path) for path, mask in scan.sound_masks() if mask.header.mode == "P"],
        meaning="Palette files are read as ids here; other programs (OpenCV, convert('RGB')) read their colors instead.",
        fix="No action is needed. If such programs must read them too, convert them to grayscale PNGs of the same ids.",
    )


def _list(values: list[int], *, colors: bool) -> str:
    shown = [str(int_to_rgb(value)) if colors else str(value) for value in values[:6]]
    more = f" and {len(values) - 6} more" if len(values) > 6 else ""
    return f"{'colors' if colors else 'values'} {', '.join(shown)}{more}"
