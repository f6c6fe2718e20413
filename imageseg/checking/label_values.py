"""The stored values of all masks held against the label table: what is undeclared, and the mistake that explains it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from imageseg.checking.file_facts import MaskFacts
from imageseg.checking.mask_pixels import ValueFacts
from imageseg.datasets.cityscapes import labels as cityscapes_labels
from imageseg.labels import IGNORE, LabelSpace

# Measured: of the pixels at borders, at most 4 in 100 lie between a lower and a higher neighbour in the masks of CamVid,
# BDD100K, Cityscapes and VOC as they are (11 in the tiniest of ToyScenes), and 12 to 50 in 100 once any of them was
# resized with interpolation. Where undeclared values tell too, less is proof enough.
_SMOOTHED_WITH_STRAYS = 0.1
_SMOOTHED = 0.14
_FEWEST_STRAYS = 3
# Of masks of three or four ids, only those are judged whose ids all form areas: a thin line drawn around objects, whatever
# its id, has pixels of lower and of higher ids side by side. Measured in masks of COCO, CamVid, BDD100K and Cityscapes with
# the classes merged to three or four: at most 9 in 100, at most 4 in the middle mask of any set; 8 to 18 in Oxford's pets
# once they were resized with interpolation.
_SMOOTHED_OF_FEW = 0.07

CITYSCAPES_IDS = tuple(label.values[0] for label in cityscapes_labels.IDS.labels)
"""The labelIds of the 19 scored classes, by train id."""
_LABEL_IDS = range(34)
_NO_CLASS = ("background", "_background_", "void", "unlabeled", "unlabelled", "other", "none", "unknown", "ignore")


@dataclass
class ValueReport:
    """What the values amount to.

    Attributes:
        ids: every id of the masks of ids, strays aside -> pixels.
        colors: every colour of the masks of colours, strays aside -> pixels.
        masks_of: id or colour (negative: -1 - colour) -> in how many masks.
        strays: mask -> its undeclared values that only smoothing explains.
        smoothed: masks whose borders are smooth although every value in them is declared.
        unknown: mask -> undeclared ids that nothing below explains.
        unknown_colors: mask of colours -> undeclared colours.
        binary: masks of 0 and 255 whose 255 must mean a class.
        shifted: masks whose ids are all one too high for the table.
        label_ids: masks that hold Cityscapes' labelIds where the table wants train ids.
        separator: of exactly three ids, the one that lies between the two others everywhere.
        palette: id -> its colour in the palette files that agree on it.
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
    palette: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    @property
    def explained(self) -> bool:
        """Whether one mistake explains all ids, so that a class that seems absent is merely misread."""
        return bool(self.binary or self.shifted or self.label_ids)


def compare(masks: Iterable[tuple[Path, MaskFacts]], labels: LabelSpace | None) -> ValueReport:
    """Holds the values of all readable masks against the table; without one, only what the pixels alone say."""
    report = ValueReport()
    of_ids: dict[Path, list[ValueFacts]] = {}
    masks = list(masks)
    smooth = _strays(masks, labels)
    for path, mask in masks:
        strays = set(smooth.get(path, ()))
        if strays:
            report.strays[path] = [value for value in mask.pixels.values if value in strays]
        elif mask.pixels.blended > _SMOOTHED and mask.pixels.distinct > _FEWEST_STRAYS + 1:
            report.smoothed.append(path)
        solid = [value for value in mask.pixels.values if value not in strays]
        for value in solid:
            (report.colors if mask.colored else report.ids)[value.value] += value.pixels
            report.masks_of[-1 - value.value if mask.colored else value.value] += 1
        if not mask.colored:
            of_ids[path] = solid
        elif labels is not None:
            unknown = [value for value in solid if value.value not in declared_colors(labels)]
            report.unknown_colors.update({path: unknown} if unknown else {})
    report.smoothed += _smoothed_of_few([(path, mask) for path, mask in masks if path not in report.strays])
    report.separator = _separator(masks, report.ids)
    report.palette = _palette(masks)
    if labels is not None and of_ids:
        _explain(report, of_ids, labels)
    return report


def declared_ids(labels: LabelSpace) -> set[int]:
    """The stored values of all classes."""
    return {value for label in labels.labels for value in label.values}


def declared_colors(labels: LabelSpace) -> set[int]:
    """All colours that the table can read, packed."""
    colors = [*(label.color for label in labels.labels), *labels.ignored_colors]
    return {red << 16 | green << 8 | blue for red, green, blue in colors}


def _strays(masks: list[tuple[Path, MaskFacts]], labels: LabelSpace | None) -> dict[Path, list[ValueFacts]]:
    found: dict[Path, list[ValueFacts]] = {}
    for path, mask in masks:
        if mask.pixels.blended <= _SMOOTHED_WITH_STRAYS:
            continue
        known = set() if labels is None else declared_colors(labels) if mask.colored else declared_ids(labels)
        known |= set() if labels is None or mask.colored else set(labels.ignored_values)
        strays = [
            value
            for value in mask.pixels.values
            if value.value not in known and value.is_thin and (labels is not None or value.is_blend)
        ]
        if strays:
            found[path] = strays
    kinds = {value.value for strays in found.values() for value in strays}
    return found if len(kinds) >= _FEWEST_STRAYS else {}


def _explain(report: ValueReport, of_ids: dict[Path, list[ValueFacts]], labels: LabelSpace) -> None:
    declared = declared_ids(labels)
    unknown = set(report.ids) - declared - set(labels.ignored_values)
    if _are_label_ids(set(report.ids), unknown, declared):
        report.label_ids = list(of_ids)
    elif binary := _binary(of_ids, labels):
        report.binary = binary
        unknown -= {0, IGNORE}
    elif _are_shifted(report.ids, unknown, labels):
        report.shifted = list(of_ids)
    if not (report.label_ids or report.shifted):
        for path, values in of_ids.items():
            rest = [value for value in values if value.value in unknown]
            report.unknown.update({path: rest} if rest else {})


def _are_label_ids(seen: set[int], unknown: set[int], declared: set[int]) -> bool:
    return (
        declared == set(range(len(CITYSCAPES_IDS)))
        and bool(unknown & set(CITYSCAPES_IDS) - {len(CITYSCAPES_IDS)})
        and seen <= {*_LABEL_IDS, IGNORE}
    )


def _binary(of_ids: dict[Path, list[ValueFacts]], labels: LabelSpace) -> list[Path]:
    """Masks of 0 and 255 alone, where the table has no class of value 255 and none ever lies beside it."""
    if len(labels) > 2 or IGNORE in declared_ids(labels):
        return []
    found = []
    for path, values in of_ids.items():
        kinds = {value.value for value in values}
        if IGNORE not in kinds:
            continue
        if not kinds <= {0, IGNORE}:
            return []
        if any(value.value == IGNORE and value.inner for value in values):
            found.append(path)
    return found


def _are_shifted(seen: Counter[int], unknown: set[int], labels: LabelSpace) -> bool:
    """Ids 1 to N for a table of 0 to N - 1.

    With 0 too, which may be "other" as in ADE20K, where the table's first class has a name of its own and 0 is rarer than
    an average class: a background would be frequent, and then the table lacks a row at its end instead.
    """
    if declared_ids(labels) != set(range(len(labels))) or unknown != {len(labels)}:
        return False
    is_other = labels.names[0].lower() not in _NO_CLASS and seen[0] * (len(labels) + 1) < seen.total()
    return seen[0] == 0 or is_other


def _smoothed_of_few(masks: list[tuple[Path, MaskFacts]]) -> list[Path]:
    """Smoothed masks of three or four ids; none unless half of all such masks are, because whoever resizes resizes all."""
    few = [
        (path, mask.pixels)
        for path, mask in masks
        if not mask.colored
        and mask.pixels.distinct in (3, 4)
        and not any(value.is_thin for value in mask.pixels.values)
    ]
    smoothed = [path for path, pixels in few if pixels.blended > _SMOOTHED_OF_FEW]
    return smoothed if 2 * len(smoothed) >= len(few) else []


def _palette(masks: list[tuple[Path, MaskFacts]]) -> dict[int, tuple[int, int, int]]:
    colors: dict[int, set[tuple[int, int, int]]] = {}
    for _, mask in masks:
        for value, color in mask.palette:
            colors.setdefault(value, set()).add(color)
    return {value: min(found) for value, found in colors.items() if len(found) == 1}


def _separator(masks: list[tuple[Path, MaskFacts]], ids: Counter[int]) -> int | None:
    kinds = sorted(ids)
    if len(kinds) != 3:
        return None
    touching = {pair for _, mask in masks if not mask.colored for pair in mask.pixels.touching}
    for value in kinds:
        one, other = (kind for kind in kinds if kind != value)
        if touching == {tuple(sorted((one, value))), tuple(sorted((other, value)))}:
            return value
    return None
