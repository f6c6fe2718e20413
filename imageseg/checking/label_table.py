"""The label table that mends what a table can mend, proposed from what the masks hold, as a YAML file with reasons."""

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
from imageseg.checking.mask_pixels import unpacked
from imageseg.checking.scan import Scan
from imageseg.labels import IGNORE, LabelSpace, voc_color

Color = tuple[int, int, int]

_BLACK: Color = (0, 0, 0)
_WHITE: Color = (255, 255, 255)
_VOC_VOID: Color = voc_color(IGNORE)
_VOC_REMARK = "the colours are those of VOC's palette; value_7 is its colour number 7"
_APART = 24  # of 765: colours of a palette that are closer together cannot be told apart in a picture


class Row(NamedTuple):
    """One label, and the reason for it."""

    name: str
    color: Color
    values: tuple[int, ...]
    reason: str = ""


@dataclass
class Table:
    """A label table in the making."""

    rows: list[Row] = field(default_factory=list)
    ignored: dict[int, str] = field(default_factory=dict)
    """Stored value -> why it is ignored."""
    ignored_colors: list[Color] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    palette: dict[int, Color] = field(default_factory=dict)
    """Stored value -> the colour that the mask files themselves give to it."""

    def add(self, name: str, values: tuple[int, ...], *, color: Color | None = None, reason: str = "") -> None:
        """Adds a row; without a colour, that of its value in the palette, or one far from all others; with a name that
        another has, a longer one."""
        names = {row.name for row in self.rows}
        while name in names:
            name = f"{name}_2"
        taken = {row.color for row in self.rows} | {*self.ignored_colors, *self.palette.values(), _BLACK}
        own = self.palette.get(values[0]) if values else None
        if own in {row.color for row in self.rows}:
            own = None
        self.rows.append(Row(name, color or own or distant_color(sorted(taken)), values, reason))


def labels_text(scan: Scan, found: Sequence[Finding]) -> str | None:
    """``labels.yaml`` for a dataset of the user's own masks, as ``LabelSpace.from_dict`` takes it.

    Returns:
        The text, or None where no label table could mend any of the findings.
    """
    mendable = [finding.code for finding in found if finding.mendable]
    if not mendable:
        return None
    table = _proposed(scan)
    return _text(table, scan, mendable) if table.rows else None


def distant_color(taken: Iterable[Color]) -> Color:
    """Of a grid of colours, the one whose nearest neighbour in ``taken`` is farthest.

    Distances are weighted by the mean red (the "redmean" formula, compuphase.com/cmetric.htm), close to what eyes tell apart.
    """
    steps = np.array([0, 60, 120, 180, 220, 255])
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 1, 3).astype(float)
    others = np.array(list(taken), float)[None]
    mean_red, difference = (grid[..., 0] + others[..., 0]) / 2, grid - others
    weights = np.stack([2 + mean_red / 256, np.full_like(mean_red, 4), 2 + (255 - mean_red) / 256], -1)
    nearest = (weights * difference**2).sum(-1).min(axis=1)
    red, green, blue = map(int, grid[int(nearest.argmax()), 0])
    return red, green, blue


def _proposed(scan: Scan) -> Table:
    values, labels = scan.values, scan.labels
    if labels is None:
        return _from_nothing(values)
    table = Table(
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
        table.rows = [Row(label.name, label.color, label.values) for label in labels.labels]
    known = declared_ids(labels)
    for value in sorted({value.value for unknown in values.unknown.values() for value in unknown}):
        if value == IGNORE:
            table.ignored[value] = "by custom"
        elif value == 0 and known and min(known) >= 1:
            table.ignored[value] = "below the first id: 'not labelled' in most sets that start at 1"
        else:
            table.add(f"value_{value}", (value,), reason=_share(values, value))
    if values.unknown_colors:
        _declare_colors(table, values, known=declared_colors(labels))
        if not values.ids:  # the old rows whose colour is nowhere were meant for other masks
            table.rows = [row for row in table.rows if _pack(row.color) in values.colors]
    return table


def _from_nothing(values: ValueReport) -> Table:
    table, ids = Table(palette=_colors_of_ids(values)), sorted(values.ids)
    if not ids:
        table.ignored = {IGNORE: "by custom"}
    elif set(ids) <= {0, IGNORE} and IGNORE in ids:
        table.remarks.append("0 and 255 only: two classes, none ignored ({255: 1})")
        table.palette.setdefault(IGNORE, _WHITE)
        table.add("background", (0,), reason=_share(values, 0))
        table.add("foreground", (IGNORE,), reason=_share(values, IGNORE))
    elif values.separator not in (None, 0, IGNORE):
        _declare_trimap(table, values, border=int(values.separator or 0))
    else:
        if 0 not in ids and IGNORE not in ids[:1]:
            table.remarks.append("the ids start above 0; each row's place, not its value, is the class index")
        table.ignored = {IGNORE: "by custom"} | ({0: "'other' by custom"} if 0 not in ids else {})
        table.ignored_colors = [_color_of_ignored(table)]
        for value in ids:
            if value != IGNORE:
                table.add(f"value_{value}", (value,), reason=_share(values, value))
    palette = {} if values.colors else _usable_palette(values)
    if len(palette) > 1 and all(color == voc_color(value) for value, color in palette.items()):
        table.remarks.append(_VOC_REMARK)
    elif palette:
        table.remarks.append("the colours are those of the mask files' own palette")
    if values.colors:
        _declare_colors(table, values, known=set())
    return table


def _usable_palette(values: ValueReport) -> dict[int, Color]:
    """The colours in the mask files; none where two of them look alike, as in the grey ramp that some programs write."""
    colors = list(values.palette.values())
    apart = [sum(abs(a - b) for a, b in zip(one, other, strict=True)) for one, other in combinations(colors, 2)]
    return dict(values.palette) if min(apart, default=0) >= _APART else {}


def _colors_of_ids(values: ValueReport) -> dict[int, Color]:
    """The palette of the mask files; where there is none, black for 0, which is the background nearly everywhere.

    None beside masks of colours, where a row's colour is what these are read by.
    """
    if values.colors:
        return {}
    return _usable_palette(values) or ({0: _BLACK} if 0 in values.ids else {})


def _color_of_ignored(table: Table) -> Color:
    """How ignored pixels are drawn: as in the mask files, black where 0 is ignored, else white."""
    by_file = [table.palette[value] for value in sorted(table.ignored) if value in table.palette]
    black = _BLACK not in table.palette.values() and 0 in table.ignored
    free = [color for color in (_WHITE, _VOC_VOID) if color not in table.palette.values()]
    return next(iter([*by_file, *([_BLACK] if black else free)]), _WHITE)


def _declare_trimap(table: Table, values: ValueReport, *, border: int) -> None:
    """Three ids, one of which always lies between the two others: a trimap, as the Oxford-IIIT Pet set has them."""
    table.remarks.append(f"{border} lies between the two others in every mask: a border, ignored")
    inside, outside = (value for value in sorted(values.ids) if value != border)
    names = {1: "foreground", 2: "background"} if (inside, outside, border) == (1, 2, 3) else {}
    table.ignored = {border: _share(values, border), IGNORE: "by custom"}
    table.palette = table.palette or {outside if names else inside: _BLACK}
    table.ignored_colors = [_color_of_ignored(table)]
    for value in (outside, inside) if names else (inside, outside):  # background first, as everywhere
        table.add(names.get(value, f"value_{value}"), (value,), reason=_share(values, value))


def _declare_label_ids(table: Table, labels: LabelSpace) -> None:
    table.remarks.append("the masks hold Cityscapes' labelIds; the classes stay in the order of the train ids")
    for label, value in zip(labels.labels, CITYSCAPES_IDS, strict=True):
        table.rows.append(Row(label.name, label.color, (value,)))
    table.ignored |= {value: "" for value in range(34) if value not in CITYSCAPES_IDS}
    for value in CITYSCAPES_IDS:
        table.ignored.pop(value, None)


def _shift(table: Table, labels: LabelSpace) -> None:
    table.remarks.append("the masks' ids start at 1: each value is one more than before")
    for label in labels.labels:
        shifted = tuple(value + 1 for value in label.values)
        table.rows.append(Row(label.name, label.color, shifted))
    table.ignored = {0: "'other', or nothing", **table.ignored}
    for value in range(1, len(labels) + 1):
        table.ignored.pop(value, None)


def _declare_binary(table: Table, labels: LabelSpace, values: ValueReport) -> None:
    table.remarks.append("0 and 255 only: 255 is a class here, not ignored ({255: 1})")
    table.ignored.pop(IGNORE, None)
    table.ignored.pop(0, None)
    rows = [Row(label.name, label.color, tuple(v for v in label.values if v)) for label in labels.labels]
    if len(rows) == 1:
        rows.insert(0, Row("background", _BLACK if rows[0].color != _BLACK else distant_color([_BLACK]), ()))
    background = next((i for i, label in enumerate(labels.labels) if 0 in label.values), 0) if len(labels) == 2 else 0
    for index, row in enumerate(rows):
        added = 0 if index == background else IGNORE
        table.rows.append(row._replace(values=tuple(sorted({*row.values, added})), reason=_share(values, added)))


def _declare_colors(table: Table, values: ValueReport, *, known: set[int]) -> None:
    """A row for each colour that has none, the most frequent first; VOC's void stays ignored."""
    order, index_of = [packed for packed, _ in values.colors.most_common()], _voc_indices(values)
    if index_of:
        table.remarks.append(_VOC_REMARK)
        order = sorted(index_of, key=lambda packed: index_of[packed])
    for packed in order:
        color = unpacked(packed)
        if packed in known and packed != 0:
            continue
        if color == _VOC_VOID:
            if color not in table.ignored_colors:
                table.ignored_colors.append(color)
            table.remarks.append("(224, 224, 192) is VOC's void: ignored")
            continue
        if color == _BLACK and known:
            continue  # the table says what black is
        if not known:
            table.ignored_colors = [ignored for ignored in table.ignored_colors if ignored != color]
        name = "black" if color == _BLACK else f"color_{packed:06x}"
        name = f"value_{index_of[packed]}" if index_of else name
        reason = _share(values, color=color)
        hint = "; if it means 'not labelled', move it to ignored_colors" if color == _BLACK else ""
        table.add(name, (), color=color, reason=f"{reason}{hint}")


def _voc_indices(values: ValueReport) -> dict[int, int]:
    """Colour -> its number in VOC's palette, where all are among the first 64 of it."""
    numbers = {_pack(voc_color(number)): number for number in (*range(64), IGNORE)}
    all_there = len(values.colors) > 2 and values.colors.keys() <= numbers.keys()
    return {packed: numbers[packed] for packed in values.colors} if all_there else {}


def _pack(color: Color) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def _share(values: ValueReport, *ids: int, color: Color | None = None) -> str:
    """How much of the masks these ids, or else the colour, fill."""
    pixels = sum(values.ids[value] for value in ids)
    masks = max((values.masks_of[value] for value in ids), default=0)
    if not pixels and color is not None:
        pixels, masks = values.colors[_pack(color)], values.masks_of[-1 - _pack(color)]
    if not pixels:
        return "in no mask"
    share = 100 * pixels / (values.ids.total() + values.colors.total())
    return f"{share:.2g} % of the pixels, in {masks} mask{'' if masks == 1 else 's'}"


def _text(table: Table, scan: Scan, mends: Sequence[str]) -> str:
    known = scan.labels.names if scan.labels is not None else []
    new = any(row.name not in known for row in table.rows)
    lines = [
        f"# Proposed by 'imageseg check' from the masks in {scan.root}. Mends: {', '.join(mends)}.",
        f"# A row's place is its class index.{' Give the new classes their names before you train.' if new else ''}",
        *(f"# {remark[0].upper()}{remark[1:]}." for remark in table.remarks),
        "labels:",
    ]
    for row in table.rows:
        fields = f"name: {_quoted(row.name)}, color: {list(row.color)}, values: {list(row.values)}"
        lines.append(f"  - {{{fields}}}  # {row.reason or _share(scan.values, *row.values, color=row.color)}")
    reasons = "; ".join(f"{value}: {reason}" for value, reason in table.ignored.items() if reason)
    lines.append(f"ignored_values: {sorted(table.ignored)}{f'  # {reasons}' if reasons else ''}")
    drawn = (
        "  # how ignored pixels are drawn"
        if scan.labels is None and table.ignored_colors and not scan.values.colors
        else ""
    )
    lines.append(f"ignored_colors: {[list(color) for color in table.ignored_colors]}{drawn}")
    return "\n".join(lines) + "\n"


def _quoted(name: str) -> str:
    """A name as YAML reads it back inside braces."""
    plain = not set(name) & set(",{}[]#:&*!|>'\"%@`\\?") and name == name.strip() and yaml.safe_load(name) == name
    return name if plain else json.dumps(name)
