"""Faults of label values: what the masks store compared with what the label table declares."""

from __future__ import annotations

from pathlib import Path

from imageseg.checking.file_facts import MaskFacts
from imageseg.checking.finding import Finding, Place, error, note, warning
from imageseg.checking.label_values import declared_colors
from imageseg.checking.mask_pixels import ValueFacts, int_to_rgb
from imageseg.checking.scan import Scan
from imageseg.errors import counted
from imageseg.labels import IGNORE, LabelSpace

_MAX_ID = 65535  # largest value that a label table can declare
_INSTANCE_IDS = range(1000, 34000)


def no_label_table(scan: Scan) -> Finding | None:
    """A dataset without a label table."""
    if not scan.label_error or scan.label_file is not None:
        return None
    readable = bool(scan.values.ids or scan.values.colors)
    if not scan.own_masks:
        fix = "Correct what the line above reports."
    elif readable:
        fix = (
            f"The masks hold {_summary(scan)}. Use --fix-config to write a table for them, then name the classes in it."
        )
    else:
        fix = "No mask can be read yet. Fix the masks first, then use --fix-config to write a table for them."
    return error(
        [Place(scan.root, scan.label_error)],
        meaning="Without a label table it is unknown which stored value is which class, so values were not checked.",
        fix=fix,
        fixable=scan.own_masks and readable,
    )


def wrong_label_table(scan: Scan) -> Finding | None:
    """A label table that exists but cannot be used."""
    if not scan.label_error or scan.label_file is None:
        return None
    misnamed = scan.label_file.name != "labels.yaml"
    fixable = bool(scan.own_masks and (scan.values.ids or scan.values.colors))
    what = f"Rename {scan.label_file.name} to labels.yaml" if misnamed else "Correct what the line above reports"
    return error(
        [Place(scan.root, scan.label_error)],
        meaning="The label table exists but cannot be used: training stops, and values were not checked.",
        fix=f"{what}; --fix-config would write a new table without your class names." if fixable else f"{what}.",
        fixable=fixable,
    )


def binary_255(scan: Scan) -> Finding | None:
    """Masks of 0 and 255, where 255 would be ignored."""
    if not scan.values.binary or scan.labels is None:
        return None
    places = [Place(path) for path in scan.values.binary]
    meaning = (
        "These masks hold only 0 and 255. 255 is the ignored value, so that the complete foreground would be excluded from "
        "training and evaluation."
    )
    fix = "Declare 255 as class 1, that is {255: 1}: a row with values: [255], and remove 255 from ignored_values."
    if any(0 < value < IGNORE for value in scan.values.ids):
        return warning(places, meaning=f"{meaning} Other masks have a class 1.", fix=fix, fixable=scan.own_masks)
    return error(places, meaning=meaning, fix=fix, fixable=scan.own_masks)


def shifted_ids(scan: Scan) -> Finding | None:
    """Ids that start at 1 under a table that starts at 0."""
    if not scan.values.shifted or scan.labels is None:
        return None
    count = len(scan.labels)
    zero = (
        f", including 0, which is probably 'other' as in ADE20K (if it is a class, the table lacks a row for {count})"
        if 0 in scan.values.ids
        else " but never 0"
    )
    border = scan.values.separator
    trimap = f" {border} separates the two others everywhere, as the border of a trimap does: consider ignoring it."
    return error(
        [Place(path) for path in scan.values.shifted],
        meaning=f"The masks hold ids up to {count}{zero}; the table declares 0 to {count - 1}. Every class would be read as "
        f"its neighbor, and the last one would be undeclared.{trimap if border and border != IGNORE else ''}",
        fix="Shift the table, not the files: values: [1] for the first class, [2] for the second, and so on; move 0 to "
        "ignored_values.",
        fixable=scan.own_masks,
    )


def label_ids_as_train_ids(scan: Scan) -> Finding | None:
    """Cityscapes' labelIds under a table of train ids."""
    if not scan.values.label_ids:
        return None
    above = sorted(value for value in scan.values.ids if 18 < value < IGNORE)
    return error(
        [Place(path) for path in scan.values.label_ids],
        meaning=f"The table declares Cityscapes' 19 train ids, 0 to 18; the masks hold {', '.join(map(str, above[:6]))}, as "
        "labelIds do, where 7 is road and 26 is car. Classes would be confused, and some values are undeclared.",
        fix="Declare the labelIds (road [7], sidewalk [8], building [11], ...), or use the _labelTrainIds files.",
        fixable=scan.own_masks,
    )


def sixteen_bit_ids(scan: Scan) -> Finding | None:
    """Undeclared ids above 255."""
    places, instances = [], False
    for path, values in scan.values.unknown.items():
        large = [value for value in values if value.value > IGNORE]
        if large:
            places.append(Place(path, _pixels(large)))
            instances |= len({value.value for value in large if value.value in _INSTANCE_IDS}) > len(large) // 2
    hint = (
        ". Ids of 1000 and more are often instance ids (class x 1000 + number), as in Cityscapes' _instanceIds files"
        if instances
        else ""
    )
    return error(
        places,
        meaning=f"The masks hold ids above 255 that the table does not declare: training stops at the first of them{hint}.",
        fix="If they are classes, declare them (values up to 65535 are allowed). If they number objects, use semantic masks.",
        fixable=_can_declare(scan),
    )


def unknown_ids(scan: Scan) -> Finding | None:
    """Undeclared ids up to 255."""
    places = []
    for path, values in scan.values.unknown.items():
        small = [value for value in values if value.value <= IGNORE]
        if small:
            places.append(Place(path, _pixels(small)))
    return error(
        places,
        meaning="The masks hold ids that the table does not declare: training stops at the first of them.",
        fix="Declare each as a class of its own, add it to the values of a class, or list it under ignored_values.",
        fixable=_can_declare(scan),
    )


def rgb_mask(scan: Scan) -> Finding | None:
    """Colors where ids are expected."""
    places = []
    for path, mask in _colored(scan):
        if _known_share(mask, scan.labels) < 0.5:
            gray = all(len(set(int_to_rgb(value.value))) == 1 for value in mask.pixels.values)
            content = "ids in three equal channels" if gray else counted(mask.pixels.distinct, "color", "colors")
            places.append(Place(path, content))
    return error(
        places,
        meaning="These masks are RGB, and most of their colors are not in the label table, which expects ids or other colors.",
        fix="Declare the colors that occur, or save the ids in one channel.",
        fixable=_can_declare(scan),
    )


def unknown_colors(scan: Scan) -> Finding | None:
    """Some undeclared colors."""
    masks = dict(_colored(scan))
    return error(
        [
            Place(path, _pixels(values, colors=True))
            for path, values in scan.values.unknown_colors.items()
            if path in masks and _known_share(masks[path], scan.labels) >= 0.5
        ],
        meaning="The masks hold colors that the label table does not declare; colors must match exactly. Training stops at the "
        "first of them.",
        fix="Declare each as a class of its own, or list it under ignored_colors.",
        fixable=_can_declare(scan),
    )


def all_ignored(scan: Scan) -> Finding | None:
    """A mask without a single labeled pixel."""
    binary = set(scan.values.binary)
    return warning(
        [
            Place(path)
            for path, mask in scan.sound_masks()
            if scan.labels is not None and path not in binary and mask.pixels.values and not _labeled(mask, scan.labels)
        ],
        meaning="Every pixel of these masks is ignored, so that their images contribute nothing to training or evaluation.",
        fix="If they are placeholders, remove them from the split. Otherwise check ignored_values.",
    )


def nearly_empty_mask(scan: Scan) -> Finding | None:
    """A mask with a single class or hardly any labels."""
    places = []
    for path, mask in scan.sound_masks():
        total, labeled = mask.size[0] * mask.size[1], _labeled(mask, scan.labels)
        if path in scan.values.binary or not labeled or path in scan.values.strays:
            continue
        largest = max(labeled, key=lambda value: value.pixels)
        pixels = sum(value.pixels for value in labeled)
        if pixels < total / 100:
            places.append(Place(path, f"{pixels} of {total} pixels {'has' if pixels == 1 else 'have'} a label"))
        elif pixels - largest.pixels < pixels / 1000:
            places.append(Place(path, f"{_all_but(pixels - largest.pixels)} {_named(largest, mask, scan.labels)}"))
    return note(
        places,
        meaning="These masks hold nearly nothing but one class, or hardly any labels: the annotation may be unfinished.",
        fix="No action is needed if the images really look like that; otherwise complete the annotation.",
    )


def class_not_in_train(scan: Scan) -> Finding | None:
    """A class that other splits contain and train does not."""
    train = scan.splits.get("train")
    if scan.labels is None or _misread(scan) or train is None or train.error or not train.pairs:
        return None
    learned = _classes_in(scan, "train")
    places = []
    for split in scan.splits:
        not_learned = _classes_in(scan, split) - learned
        names = [name for name in scan.labels.names if name in not_learned]
        places += [Place(scan.root, f"in {split}, but not in train: {', '.join(names)}")] if names else []
    own = "Move images with these classes, and their masks, to train."
    return warning(
        places,
        meaning="Classes that do not occur in train cannot be learned, although other splits contain them.",
        fix=own if scan.own_masks else "Unpack all of train; if it is complete, no action is needed.",
    )


def class_never_seen(scan: Scan) -> Finding | None:
    """A class without a pixel in any mask."""
    unlisted = any(files.error for files in scan.splits.values())
    if scan.labels is None or _misread(scan) or unlisted or not (scan.values.ids or scan.values.colors):
        return None
    seen = set[str]().union(*(_classes_in(scan, split) for split in scan.splits))
    never = [name for name in scan.labels.names if name not in seen]
    where = "in no mask" if scan.all_splits else f"in no mask of {' and '.join(scan.splits)}"
    own = "No action is needed if more data will be added; otherwise remove these classes from the table."
    return note(
        [Place(scan.root, f"{where}: {', '.join(never)}")] if never else [],
        meaning="Classes of the table that occur in no mask cannot be learned; their IoU is undefined or 0.",
        fix=own if scan.own_masks else f"No action is needed if this is only a part of {scan.name}.",
    )


def _misread(scan: Scan) -> bool:
    """Whether a mistake explains why classes seem absent."""
    return scan.values.explained or rgb_mask(scan) is not None


def _can_declare(scan: Scan) -> bool:
    values, colors = scan.values.ids, scan.values.colors
    return bool(scan.own_masks and len(values) + len(colors) <= IGNORE and max(values, default=0) <= _MAX_ID)


def _colored(scan: Scan) -> list[tuple[Path, MaskFacts]]:
    """Masks of colors without strays; empty without a label table."""
    if scan.labels is None:
        return []
    return [(path, mask) for path, mask in scan.sound_masks() if mask.colored and path not in scan.values.strays]


def _known_share(mask: MaskFacts, labels: LabelSpace | None) -> float:
    """Share of the pixels whose color is declared."""
    known = declared_colors(labels) if labels else set()
    total = sum(value.pixels for value in mask.pixels.values)
    return sum(value.pixels for value in mask.pixels.values if value.value in known) / max(total, 1)


def _labeled(mask: MaskFacts, labels: LabelSpace | None) -> list[ValueFacts]:
    """The values that are not ignored."""
    if labels is None:
        return list(mask.pixels.values)
    if mask.colored:
        classes = {label.color for label in labels.labels}
        ignored = set(labels.ignored_colors) - classes
        return [value for value in mask.pixels.values if int_to_rgb(value.value) not in ignored]
    return [value for value in mask.pixels.values if value.value not in labels.ignored_values]


def _named(value: ValueFacts, mask: MaskFacts, labels: LabelSpace | None) -> str:
    """The name of the class of a value, or the value itself if it is undeclared."""
    for label in labels.labels if labels else ():
        if int_to_rgb(value.value) == label.color if mask.colored else value.value in label.values:
            return label.name
    return f"the color {int_to_rgb(value.value)}" if mask.colored else f"the value {value.value}"


def _classes_in(scan: Scan, split: str) -> set[str]:
    pairs = set(scan.splits[split].pairs)
    found: set[str] = set()
    for facts in scan.facts:
        if facts.pair in pairs and facts.mask and not facts.mask.error:
            found |= {_named(value, facts.mask, scan.labels) for value in facts.mask.pixels.values}
    return found


def _pixels(values: list[ValueFacts], *, colors: bool = False) -> str:
    """The first values with their numbers of pixels."""
    shown = ", ".join(
        f"{int_to_rgb(value.value) if colors else value.value} ({counted(value.pixels, 'pixel', 'pixels')})"
        for value in values[:4]
    )
    return f"{shown} and {len(values) - 4} more" if len(values) > 4 else shown


def _summary(scan: Scan) -> str:
    """The values of all masks, such as "ids 0, 1, 255 and 3 RGB colors"."""
    ids, colors = sorted(scan.values.ids), scan.values.colors
    parts = []
    if ids:
        parts.append(
            f"{'id' if len(ids) == 1 else 'ids'} {', '.join(map(str, ids[:12]))}{' and more' if len(ids) > 12 else ''}"
        )
    if colors:
        parts.append(counted(len(colors), "RGB color", "RGB colors"))
    return " and ".join(parts)


def _all_but(pixels: int) -> str:
    return f"all but {counted(pixels, 'pixel is', 'pixels are')}" if pixels else "all pixels are"
