"""Proposal of a ``labels.yaml`` that fixes what a label table can fix, with a reason for every row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

import numpy as np
import yaml

from imageseg.checking.finding import Finding
from imageseg.checking.label_values import CITYSCAPES_IDS, ValueReport, declared_colors, declared_ids
from imageseg.checking.mask_pixels import Color, int_to_rgb, rgb_to_int
from imageseg.checking.scan import Scan
from imageseg.labels import IGNORE, LabelSpace, voc_color

_BLACK: Color = (0, 0, 0)
_WHITE: Color = (255, 255, 255)
_VOC_VOID: Color = voc_color(IGNORE)
_VOC_REMARK = "the colors are those of VOC's palette; value_7 is its color number 7"
_MIN_COLOR_DISTANCE = 24  # sum over the three channels (0 to 765); closer colors look alike in an image


class LabelRow(NamedTuple):
    """One label, and the reason for it."""

    name: str
    color: Color
    values: tuple[int, ...]
    reason: str = ""


@dataclass
class LabelTable:
    """A label table under construction."""

    rows: list[LabelRow] = field(default_factory=list)
    ignored: dict[int, str] = field(default_factory=dict)
    """Stored value -> reason why it is ignored."""
    ignored_colors: list[Color] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    palette: dict[int, Color] = field(default_factory=dict)
    """Stored value -> its color in the palette of the mask files."""

    def add(self, name: str, values: tuple[int, ...], *, color: Color | None = None, reason: str = "") -> None:
        """Add a row. A name that exists already gets a suffix; a missing color is that of the palette, or a distant one."""
        names = {row.name for row in self.rows}
        while name in names:
            name = f"{name}_2"
        used = {row.color for row in self.rows}
        in_palette = self.palette.get(values[0]) if values else None
        if in_palette in used:
            in_palette = None
        taken = used | {*self.ignored_colors, *self.palette.values(), _BLACK}
        self.rows.append(LabelRow(name, color or in_palette or distant_color(sorted(taken)), values, reason))


def labels_text(scan: Scan, found: Sequence[Finding]) -> str | None:
    """Return the text of a ``labels.yaml`` for the user's own masks, as ``LabelSpace.from_dict`` reads it.

    Returns:
        The text, or None if no label table can fix any of the findings.
    """
    fixable = [finding.code for finding in found if finding.fixable]
    if not fixable:
        return None
    table = _proposed(scan)
    return _text(table, scan, fixable) if table.rows else None


def distant_color(taken: Iterable[Color]) -> Color:
    """Return the color of a coarse RGB grid whose nearest neighbor in ``taken`` is farthest away.

    The distance is the "redmean" formula (compuphase.com/cmetric.htm), a cheap approximation of perceived difference.
    """
    steps = np.array([0, 60, 120, 180, 220, 255])
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 1, 3).astype(float)
    others = np.array(list(taken), float)[None]
    mean_red, difference = (grid[..., 0] + others[..., 0]) / 2, grid - others
    weights = np.stack([2 + mean_red / 256, np.full_like(mean_red, 4), 2 + (255 - mean_red) / 256], -1)
    nearest = (weights * difference**2).sum(-1).min(axis=1)
    red, green, blue = map(int, grid[int(nearest.argmax()), 0])
    return red, green, blue


def _proposed(scan: Scan) -> LabelTable:
    values, labels = scan.values, scan.labels
    if labels is None:
        return _without_table(values)
    table = LabelTable(
        ignored=dict.fromkeys(labels.ignored_values, ""),
        ignored_colors=list(labels.ignored_colors),
        palette=_usable_palette(values),
    )
    if values.label_ids:
        _declare_label_ids(table, labels)
    elif values.shifted:
        _shift(table, labels)
    elif values.binary:
        _declare_binary(table, labels, values)
    else:
        table.rows = [LabelRow(label.name, label.color, label.values) for label in labels.labels]
    known = declared_ids(labels)
    for value in sorted({value.value for unknown in values.unknown.values() for value in unknown}):
        if value == IGNORE:
            table.ignored[value] = "by convention"
        elif value == 0 and known and min(known) >= 1:
            table.ignored[value] = "below the first id: 'unlabeled' in most datasets whose ids start at 1"
        else:
            table.add(f"value_{value}", (value,), reason=_share(values, value))
    if values.unknown_colors:
        _declare_colors(table, values, known=declared_colors(labels))
        if not values.ids:  # old rows whose color occurs nowhere were meant for other masks
            table.rows = [row for row in table.rows if rgb_to_int(row.color) in values.colors]
    return table


def _without_table(values: ValueReport) -> LabelTable:
    table, ids = LabelTable(palette=_colors_of_ids(values)), sorted(values.ids)
    if not ids:
        table.ignored = {IGNORE: "by convention"}
    elif set(ids) <= {0, IGNORE} and IGNORE in ids:
        table.remarks.append("0 and 255 only: two classes, none ignored ({255: 1})")
        table.palette.setdefault(IGNORE, _WHITE)
        table.add("background", (0,), reason=_share(values, 0))
        table.add("foreground", (IGNORE,), reason=_share(values, IGNORE))
    elif values.separator not in (None, 0, IGNORE):
        _declare_trimap(table, values, border=int(values.separator or 0))
    else:
        if 0 not in ids and IGNORE not in ids[:1]:
            table.remarks.append("the ids start above 0; the position of a row, not its value, is the class index")
        table.ignored = {IGNORE: "by convention"} | ({0: "'other' by convention"} if 0 not in ids else {})
        table.ignored_colors = [_color_of_ignored(table)]
        for value in ids:
            if value != IGNORE:
                table.add(f"value_{value}", (value,), reason=_share(values, value))
    palette = {} if values.colors else _usable_palette(values)
    if len(palette) > 1 and all(color == voc_color(value) for value, color in palette.items()):
        table.remarks.append(_VOC_REMARK)
    elif palette:
        table.remarks.append("the colors are those of the mask files' own palette")
    if values.colors:
        _declare_colors(table, values, known=set())
    return table


def _usable_palette(values: ValueReport) -> dict[int, Color]:
    """Return the palette of the mask files; empty if two of its colors look alike, as in the gray ramp of some programs."""
    colors = values.palette.values()
    distances = [sum(abs(a - b) for a, b in zip(*pair, strict=True)) for pair in combinations(colors, 2)]
    return dict(values.palette) if min(distances, default=0) >= _MIN_COLOR_DISTANCE else {}


def _colors_of_ids(values: ValueReport) -> dict[int, Color]:
    """Return the palette of the mask files; without one, black for 0, which is the background in nearly every dataset.

    Empty if some masks hold colors, because these are read by the color of a row.
    """
    if values.colors:
        return {}
    return _usable_palette(values) or ({0: _BLACK} if 0 in values.ids else {})


def _color_of_ignored(table: LabelTable) -> Color:
    """Return the color of ignored pixels: the palette's, black if 0 is ignored, otherwise white."""
    in_palette = [table.palette[value] for value in sorted(table.ignored) if value in table.palette]
    black = _BLACK not in table.palette.values() and 0 in table.ignored
    free = [color for color in (_WHITE, _VOC_VOID) if color not in table.palette.values()]
    return next(iter([*in_palette, *([_BLACK] if black else free)]), _WHITE)


def _declare_trimap(table: LabelTable, values: ValueReport, *, border: int) -> None:
    """Declare a trimap, as in the Oxford-IIIT Pet dataset: three ids, one of which separates the two others."""
    table.remarks.append(f"{border} separates the two others in every mask: a border, ignored")
    inside, outside = (value for value in sorted(values.ids) if value != border)
    names = {1: "foreground", 2: "background"} if (inside, outside, border) == (1, 2, 3) else {}
    table.ignored = {border: _share(values, border), IGNORE: "by convention"}
    table.palette = table.palette or {outside if names else inside: _BLACK}
    table.ignored_colors = [_color_of_ignored(table)]
    for value in (outside, inside) if names else (inside, outside):  # background first, by convention
        table.add(names.get(value, f"value_{value}"), (value,), reason=_share(values, value))


def _declare_label_ids(table: LabelTable, labels: LabelSpace) -> None:
    table.remarks.append("the masks hold Cityscapes' labelIds; the classes keep the order of the train ids")
    for label, value in zip(labels.labels, CITYSCAPES_IDS, strict=True):
        table.rows.append(LabelRow(label.name, label.color, (value,)))
    table.ignored |= {value: "" for value in range(34) if value not in CITYSCAPES_IDS}
    for value in CITYSCAPES_IDS:
        table.ignored.pop(value, None)


def _shift(table: LabelTable, labels: LabelSpace) -> None:
    table.remarks.append("the masks' ids start at 1: each value is one higher than before")
    for label in labels.labels:
        shifted = tuple(value + 1 for value in label.values)
        table.rows.append(LabelRow(label.name, label.color, shifted))
    table.ignored = {0: "'other' or unlabeled", **table.ignored}
    for value in range(1, len(labels) + 1):
        table.ignored.pop(value, None)


def _declare_binary(table: LabelTable, labels: LabelSpace, values: ValueReport) -> None:
    table.remarks.append("0 and 255 only: 255 is a class here, not ignored ({255: 1})")
    table.ignored.pop(IGNORE, None)
    table.ignored.pop(0, None)
    rows = [LabelRow(label.name, label.color, tuple(v for v in label.values if v)) for label in labels.labels]
    if len(rows) == 1:
        rows.insert(0, LabelRow("background", _BLACK if rows[0].color != _BLACK else distant_color([_BLACK]), ()))
    background = next((i for i, label in enumerate(labels.labels) if 0 in label.values), 0) if len(labels) == 2 else 0
    for index, row in enumerate(rows):
        added = 0 if index == background else IGNORE
        table.rows.append(row._replace(values=tuple(sorted({*row.values, added})), reason=_share(values, added)))


def _declare_colors(table: LabelTable, values: ValueReport, *, known: set[int]) -> None:
    """Add a row for each undeclared color, the most frequent first; VOC's void stays ignored."""
    order, index_of = [number for number, _ in values.colors.most_common()], _voc_indices(values)
    if index_of:
        table.remarks.append(_VOC_REMARK)
        order = sorted(index_of, key=lambda number: index_of[number])
    for number in order:
        color = int_to_rgb(number)
        if number in known and number != 0:
            continue
        if color == _VOC_VOID:
            if color not in table.ignored_colors:
                table.ignored_colors.append(color)
            table.remarks.append("(224, 224, 192) is VOC's void: ignored")
            continue
        if color == _BLACK and known:
            continue  # the table defines what black means
        if not known:
            table.ignored_colors = [ignored for ignored in table.ignored_colors if ignored != color]
        name = "black" if color == _BLACK else f"color_{number:06x}"
        name = f"value_{index_of[number]}" if index_of else name
        reason = _share(values, color=color)
        hint = "; if it means 'unlabeled', move it to ignored_colors" if color == _BLACK else ""
        table.add(name, (), color=color, reason=f"{reason}{hint}")


def _voc_indices(values: ValueReport) -> dict[int, int]:
    """Return color -> index in VOC's palette; empty unless all colors are among its first 64."""
    indices = {rgb_to_int(voc_color(index)): index for index in (*range(64), IGNORE)}
    all_there = len(values.colors) > 2 and values.colors.keys() <= indices.keys()
    return {number: indices[number] for number in values.colors} if all_there else {}


def _share(values: ValueReport, *ids: int, color: Color | None = None) -> str:
    """Return the share of pixels of these ids, or of the color if no id occurs, and the number of masks, as text."""
    pixels = sum(values.ids[value] for value in ids)
    masks = max((values.masks_of[value] for value in ids), default=0)
    if not pixels and color is not None:
        pixels, masks = values.colors[rgb_to_int(color)], values.masks_of[-1 - rgb_to_int(color)]
    if not pixels:
        return "in no mask"
    share = 100 * pixels / (values.ids.total() + values.colors.total())
    return f"{share:.2g} % of the pixels, in {masks} mask{'' if masks == 1 else 's'}"


def _text(table: LabelTable, scan: Scan, fixes: Sequence[str]) -> str:
    known = scan.labels.names if scan.labels is not None else []
    new = any(row.name not in known for row in table.rows)
    lines = [
        f"# Proposed by 'imageseg check' from the masks in {scan.root}. Fixes: {', '.join(fixes)}.",
        f"# The position of a row is its class index.{' Name the new classes before you train.' if new else ''}",
        *(f"# {remark[0].upper()}{remark[1:]}." for remark in table.remarks),
        "labels:",
    ]
    for row in table.rows:
        fields = f"name: {_quoted(row.name)}, color: {list(row.color)}, values: {list(row.values)}"
        lines.append(f"  - {{{fields}}}  # {row.reason or _share(scan.values, *row.values, color=row.color)}")
    reasons = "; ".join(f"{value}: {reason}" for value, reason in table.ignored.items() if reason)
    lines.append(f"ignored_values: {sorted(table.ignored)}{f'  # {reasons}' if reasons else ''}")
    only_drawn = scan.labels is None and table.ignored_colors and not scan.values.colors
    comment = "  # color in which ignored pixels are drawn" if only_drawn else ""
    lines.append(f"ignored_colors: {[list(color) for color in table.ignored_colors]}{comment}")
    return "\n".join(lines) + "\n"


def _quoted(name: str) -> str:
    """Return a name such that YAML reads it back inside braces."""
    plain = not set(name) & set(",{}[]#:&*!|>'\"%@`\\?") and name == name.strip() and yaml.safe_load(name) == name
    return name if plain else json.dumps(name)
