"""The stored values of all masks compared with the label table: undeclared values, and the mistake that explains them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from imageseg.checking.file_facts import MaskFacts
from imageseg.checking.mask_pixels import Color, ValueFacts, rgb_to_int
from imageseg.datasets.cityscapes import labels as cityscapes_labels
from imageseg.labels import IGNORE, LabelSpace

# Measured: at most 4 % of the border pixels lie between a lower and a higher neighbor in the original masks of CamVid,
# BDD100K, Cityscapes and VOC (11 % in the smallest of ToyScenes), and 12 to 50 % once they were resized with interpolation.
# Undeclared values are evidence too, so that the threshold is lower if there are any.
_MAX_BLENDED_IF_UNDECLARED = 0.1
_MAX_BLENDED = 0.14
_MIN_STRAYS = 3
# Masks of three or four ids are judged only if all of their ids form areas: a thin line around objects, whatever its id, has
# pixels of lower and of higher ids on its sides. Measured in masks of COCO, CamVid, BDD100K and Cityscapes with the classes
# merged to three or four: at most 9 %, and at most 4 % in the median mask of each set; 8 to 18 % in Oxford's pets once they
# were resized with interpolation.
_MAX_BLENDED_OF_FEW = 0.07

CITYSCAPES_IDS = tuple(label.values[0] for label in cityscapes_labels.IDS.labels)
"""The labelIds of the 19 evaluated classes, in the order of their train ids."""
_LABEL_IDS = range(34)
_BACKGROUND_NAMES = (
    "background",
    "_background_",
    "void",
    "unlabeled",
    "unlabelled",
    "other",
    "none",
    "unknown",
    "ignore",
)


@dataclass
class ValueReport:
    """Result of the comparison. A stray is an undeclared value that only interpolated borders explain.

    Attributes:
        ids: Every id in masks of ids, except strays -> number of pixels.
        colors: Every color in masks of colors, as an integer, except strays -> number of pixels.
        masks_of: Id, or -1 - color -> number of masks that contain it.
        strays: Mask -> its strays.
        smoothed: Masks with interpolated borders in which every value is declared.
        unknown: Mask of ids -> undeclared ids that none of the mistakes below explains.
        unknown_colors: Mask of colors -> undeclared colors.
        binary: Masks of 0 and 255 in which 255 must be a class.
        shifted: Masks whose ids are all one higher than those of the table.
        label_ids: Masks with Cityscapes' labelIds under a table of train ids.
        separator: The id that separates the two others everywhere, if there are exactly three ids.
        palette: Id -> its color in the mask files' palettes, if all of them agree.
    """

    ids: Counter[int] = field(default_factory=Counter)
    colors: Counter[int] = field(default_factory=Counter)
    masks_of: Counter[int] = field(default_factory=Counter)
    strays: dict[Path, list[ValueFacts]] = field(default_factory=dict)
    smoothed: list[Path] = field(default_factory=list)
    unknown: dict[Path, list[ValueFacts]] = field(default_factory=dict)
    unknown_colors: dict[Path, list[ValueFacts]] = field(default_factory=dict)
    binary: list[Path] = field(default_factory=list)
    shifted: list[Path] = field(default_factory=list)
    label_ids: list[Path] = field(default_factory=list)
    separator: int | None = None
    palette: dict[int, Color] = field(default_factory=dict)

    @property
    def explained(self) -> bool:
        """Whether one mistake explains all ids, so that a class that seems absent is only misread."""
        return bool(self.binary or self.shifted or self.label_ids)


def compare(masks: Iterable[tuple[Path, MaskFacts]], labels: LabelSpace | None) -> ValueReport:
    """Compare the values of all readable masks with the label table; without one, report what the pixels alone show."""
    report = ValueReport()
    id_masks: dict[Path, list[ValueFacts]] = {}
    masks = list(masks)
    strays_of = _strays(masks, labels)
    known_colors = declared_colors(labels) if labels is not None else set()
    for path, mask in masks:
        strays = set(strays_of.get(path, ()))
        if strays:
            report.strays[path] = [value for value in mask.pixels.values if value in strays]
        elif mask.pixels.blended > _MAX_BLENDED and mask.pixels.distinct > _MIN_STRAYS + 1:
            report.smoothed.append(path)
        values = [value for value in mask.pixels.values if value not in strays]
        for value in values:
            (report.colors if mask.colored else report.ids)[value.value] += value.pixels
            report.masks_of[-1 - value.value if mask.colored else value.value] += 1
        if not mask.colored:
            id_masks[path] = values
        elif labels is not None:
            unknown = [value for value in values if value.value not in known_colors]
            report.unknown_colors.update({path: unknown} if unknown else {})
    report.smoothed += _smoothed_of_few([(path, mask) for path, mask in masks if path not in report.strays])
    report.separator = _separator(masks, report.ids)
    report.palette = _common_palette(masks)
    if labels is not None and id_masks:
        _explain(report, id_masks, labels)
    return report


def declared_ids(labels: LabelSpace) -> set[int]:
    """Return the stored values of all classes."""
    return {value for label in labels.labels for value in label.values}


def declared_colors(labels: LabelSpace) -> set[int]:
    """Return all colors that the table declares, ignored ones included, as integers."""
    return {rgb_to_int(color) for color in (*(label.color for label in labels.labels), *labels.ignored_colors)}


def _strays(masks: list[tuple[Path, MaskFacts]], labels: LabelSpace | None) -> dict[Path, list[ValueFacts]]:
    """Return the strays of each mask with interpolated borders; none if too few different values would be strays."""
    known_ids: set[int] = set() if labels is None else declared_ids(labels) | set(labels.ignored_values)
    known_colors: set[int] = set() if labels is None else declared_colors(labels)
    found: dict[Path, list[ValueFacts]] = {}
    for path, mask in masks:
        if mask.pixels.blended <= _MAX_BLENDED_IF_UNDECLARED:
            continue
        known = known_colors if mask.colored else known_ids
        strays = [
            value
            for value in mask.pixels.values
            if value.value not in known and value.is_thin and (labels is not None or value.is_blend)
        ]
        if strays:
            found[path] = strays
    distinct = {value.value for strays in found.values() for value in strays}
    return found if len(distinct) >= _MIN_STRAYS else {}


def _explain(report: ValueReport, id_masks: dict[Path, list[ValueFacts]], labels: LabelSpace) -> None:
    """Fill in the mistake that explains the undeclared ids; those that remain are unknown."""
    declared = declared_ids(labels)
    unknown = set(report.ids) - declared - set(labels.ignored_values)
    if _are_label_ids(set(report.ids), unknown, declared):
        report.label_ids = list(id_masks)
    elif binary := _binary(id_masks, labels):
        report.binary = binary
        unknown -= {0, IGNORE}
    elif _are_shifted(report.ids, unknown, labels):
        report.shifted = list(id_masks)
    if not (report.label_ids or report.shifted):
        for path, values in id_masks.items():
            rest = [value for value in values if value.value in unknown]
            report.unknown.update({path: rest} if rest else {})


def _are_label_ids(found: set[int], unknown: set[int], declared: set[int]) -> bool:
    return (
        declared == set(range(len(CITYSCAPES_IDS)))
        and bool(unknown & set(CITYSCAPES_IDS) - {len(CITYSCAPES_IDS)})
        and found <= {*_LABEL_IDS, IGNORE}
    )


def _binary(id_masks: dict[Path, list[ValueFacts]], labels: LabelSpace) -> list[Path]:
    """Return masks of 0 and 255, if no class of the table has the value 255 and no mask combines 255 with a class."""
    if len(labels) > 2 or IGNORE in declared_ids(labels):
        return []
    found = []
    for path, values in id_masks.items():
        distinct = {value.value for value in values}
        if IGNORE not in distinct:
            continue
        if not distinct <= {0, IGNORE}:
            return []
        if any(value.value == IGNORE and value.inner for value in values):
            found.append(path)
    return found


def _are_shifted(ids: Counter[int], unknown: set[int], labels: LabelSpace) -> bool:
    """Whether the masks hold ids 1 to N under a table of 0 to N - 1.

    They may hold 0 too, as "other" in ADE20K: then the table's first class has a name of its own, and 0 is rarer than an
    average class. A frequent 0 is a background, and the table lacks a row at its end instead.
    """
    if declared_ids(labels) != set(range(len(labels))) or unknown != {len(labels)}:
        return False
    is_other = labels.names[0].lower() not in _BACKGROUND_NAMES and ids[0] * (len(labels) + 1) < ids.total()
    return ids[0] == 0 or is_other


def _smoothed_of_few(masks: list[tuple[Path, MaskFacts]]) -> list[Path]:
    """Return smoothed masks of three or four ids, if they are at least half of such masks: resizing affects all of them."""
    few = [
        (path, mask.pixels)
        for path, mask in masks
        if not mask.colored
        and mask.pixels.distinct in (3, 4)
        and not any(value.is_thin for value in mask.pixels.values)
    ]
    smoothed = [path for path, pixels in few if pixels.blended > _MAX_BLENDED_OF_FEW]
    return smoothed if 2 * len(smoothed) >= len(few) else []


def _common_palette(masks: list[tuple[Path, MaskFacts]]) -> dict[int, Color]:
    colors: dict[int, set[Color]] = {}
    for _, mask in masks:
        for value, color in mask.palette:
            colors.setdefault(value, set()).add(color)
    return {value: min(found) for value, found in colors.items() if len(found) == 1}


def _separator(masks: list[tuple[Path, MaskFacts]], ids: Counter[int]) -> int | None:
    values = sorted(ids)
    if len(values) != 3:
        return None
    touching = {pair for _, mask in masks if not mask.colored for pair in mask.pixels.touching}
    for value in values:
        one, other = (each for each in values if each != value)
        if touching == {tuple(sorted((one, value))), tuple(sorted((other, value)))}:
            return value
    return None
