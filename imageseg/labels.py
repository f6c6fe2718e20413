"""Label spaces: names, colors and stored values of the classes of a dataset."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imageseg.errors import InputError, counted, did_you_mean

IGNORE = 255
UNDECLARED = -1
_MARK = 254

_NEEDS = {"name": "road", "color": "[128, 64, 128]", "values": "[0]"}
_EXAMPLE = "{name: road, color: [128, 64, 128], values: [0]}"


@dataclass(frozen=True)
class Label:
    """One class: its name, its RGB color (0 to 255), and the values by which mask files store it."""

    name: str
    color: tuple[int, int, int]
    values: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.color) != 3 or not all(0 <= channel <= 255 for channel in self.color):
            raise InputError(f"label '{self.name}': the color must be three numbers from 0 to 255, found {self.color}")
        if not all(0 <= value <= 65535 for value in self.values):
            raise InputError(f"label '{self.name}': stored values must be in 0 to 65535, found {self.values}")


@dataclass(frozen=True)
class LabelSpace:
    """The labels of a dataset, in the order of their class indices.

    Args:
        labels: Labels of the classes; the position of a label is its class index.
        ignore_index: Class index of pixels that are neither trained on nor scored; always 255, the largest uint8 value.
        ignored_values: Stored values that become ``ignore_index``.
        ignored_colors: RGB colors that become ``ignore_index`` if masks are colors; ignored pixels are drawn in the first one.

    Raises:
        InputError: There are no or more than 255 labels, or a name or stored value is used twice.
    """

    labels: tuple[Label, ...]
    ignore_index: int = IGNORE
    ignored_values: tuple[int, ...] = (IGNORE,)
    ignored_colors: tuple[tuple[int, int, int], ...] = field(default=((0, 0, 0),))

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        if not 1 <= len(self.labels) <= IGNORE:
            raise InputError(f"a label space has 1 to 255 labels, found {len(self.labels)}")
        if self.ignore_index != IGNORE:
            raise InputError(
                f"ignore_index must be 255, found {self.ignore_index}; use ignored_values for other stored values"
            )
        if not all(0 <= value <= 65535 for value in self.ignored_values):
            raise InputError(f"ignored stored values must be in 0 to 65535, found {self.ignored_values}")
        if not all(len(color) == 3 and 0 <= min(color) <= max(color) <= 255 for color in self.ignored_colors):
            raise InputError(f"ignored colors must be three numbers from 0 to 255, found {self.ignored_colors}")
        names = [label.name for label in self.labels]
        stored = [value for label in self.labels for value in label.values] + list(self.ignored_values)
        checked: tuple[tuple[str, list[Any]], ...] = (("name", names), ("stored value", stored))
        for what, entries in checked:
            twice = sorted({str(entry) for entry in entries if entries.count(entry) > 1})
            if twice:
                raise InputError(f"the label table uses the {what} {', '.join(twice)} twice")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> list[str]:
        """The class names, by class index."""
        return [label.name for label in self.labels]

    @cached_property
    def palette(self) -> npt.NDArray[np.uint8]:
        """Color of each class index, (256, 3) uint8 RGB; ``ignore_index`` has the first ignored color."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(self.labels)] = [label.color for label in self.labels]
        palette[self.ignore_index] = self.ignored_colors[0] if self.ignored_colors else (0, 0, 0)
        return palette

    def encode(self, stored: npt.NDArray[Any], source: str | Path = "mask") -> npt.NDArray[np.uint8]:
        """Convert stored values to class indices.

        Args:
            stored: Mask as stored in the file, (H, W) integers or (H, W, 3) uint8 RGB colors.
            source: Mask file, for error messages.

        Returns:
            Class indices of shape (H, W), uint8; ``ignore_index`` for ignored values.

        Raises:
            InputError: A value or color is not declared; the message states its number of pixels.
        """
        if stored.ndim == 3:
            return self._encode_colors(stored, source)
        if stored.dtype == np.uint8 and stored.size:
            # Ten times as fast as indexing the table, which is only needed if a mark may be an undeclared value.
            translated = bytearray(np.ascontiguousarray(stored)).translate(self._class_of_byte)
            marked = np.frombuffer(translated, np.uint8).reshape(stored.shape)
            if not (marked == _MARK).any():
                return marked
        if stored.size and not 0 <= int(stored.min()) <= int(stored.max()) <= 65535:
            raise InputError(f"{source}: stored values are outside 0 to 65535 ({stored.min()} to {stored.max()})")
        classes = self.class_of_value[stored]
        if (classes == UNDECLARED).any():
            values, counts = np.unique(stored[classes == UNDECLARED], return_counts=True)
            raise self._undeclared(values, counts, source)
        encoded: npt.NDArray[np.uint8] = classes.astype(np.uint8)
        return encoded

    def decode(self, classes: npt.NDArray[Any]) -> npt.NDArray[np.uint16] | npt.NDArray[np.uint8]:
        """Convert class indices to the first stored value of each label, and ignored pixels to the first ignored value.

        Raises:
            InputError: A label has no stored value.
        """
        table = np.zeros(256, np.uint16)
        for index, label in enumerate(self.labels):
            if not label.values:
                raise InputError(f"label '{label.name}' has no stored value to decode to")
            table[index] = label.values[0]
        table[self.ignore_index] = self.ignored_values[0] if self.ignored_values else self.ignore_index
        decoded: npt.NDArray[np.uint16] = table[classes]
        return decoded if table.max() > 255 else decoded.astype(np.uint8)

    def colored(self, mask: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Convert (H, W) class indices to (H, W, 3) uint8 RGB."""
        colors: npt.NDArray[np.uint8] = self.palette[mask]
        return colors

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values, as stored in ``labels.yaml`` and checkpoints."""
        return {
            "labels": [
                {"name": label.name, "color": list(label.color), "values": list(label.values)} for label in self.labels
            ],
            "ignored_values": list(self.ignored_values),
            "ignored_colors": [list(color) for color in self.ignored_colors],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str | Path = "labels") -> LabelSpace:
        """Build a label space from the values of ``to_dict``, or of a user's ``labels.yaml``.

        Without ``ignored_values``, 255 is ignored, unless a label is stored as 255.

        Args:
            values: Mapping with ``labels`` and, optionally, ``ignored_values`` and ``ignored_colors``.
            source: File of the values, for error messages.

        Raises:
            InputError: A key is unknown, missing or has a value of the wrong type.
        """
        try:
            _check_keys(values, ("labels", "ignored_values", "ignored_colors"), "a label table")
            rows = values.get("labels")
            if not rows or isinstance(rows, str) or not isinstance(rows, Iterable):
                found = f", found {rows!r}" if rows else ""
                raise InputError(f"'labels' must be a list of labels, such as {_EXAMPLE}{found}")
            labels = tuple(_label(row, place) for place, row in enumerate(rows, start=1))
            # A label stored as 255, as in black-and-white masks, is a class.
            usual = () if any(IGNORE in label.values for label in labels) else (IGNORE,)
            ignored_values = _integers(values.get("ignored_values", usual), "ignored_values", example="[255]")
            colors = values.get("ignored_colors", ((0, 0, 0),))
            if isinstance(colors, str) or not isinstance(colors, Iterable):
                raise InputError(f"ignored_colors must be a list of colors, for example [[0, 0, 0]], found {colors!r}")
            ignored_colors = tuple(_color(color, "ignored_colors") for color in colors)
            return cls(labels, ignored_values=ignored_values, ignored_colors=ignored_colors)
        except InputError as error:
            raise InputError(f"{source}: {error}") from error

    @cached_property
    def class_of_value(self) -> npt.NDArray[np.int16]:
        """Class index of each stored value, (65536,) int16; ``ignore_index`` for ignored, -1 for undeclared values."""
        table = np.full(65536, UNDECLARED, np.int16)
        table[list(self.ignored_values)] = self.ignore_index
        for index, label in enumerate(self.labels):
            table[list(label.values)] = index
        table.flags.writeable = False
        return table

    def fold(self, counts: npt.NDArray[np.int64], source: str | Path = "mask") -> npt.NDArray[np.int64]:
        """Convert pixel counts per stored value to pixel counts per class.

        Args:
            counts: Counts of shape (V,) or (V, K), int64, with V at most 65536.
            source: Mask file, for error messages.

        Returns:
            Counts of shape (C,) or (C, K), int64, without ignored pixels.

        Raises:
            InputError: As ``encode``.
        """
        classes = self.class_of_value[: len(counts)]
        by_value = counts if counts.ndim == 1 else counts.sum(axis=1)
        wrong = np.flatnonzero((classes == UNDECLARED) & (by_value > 0))
        if wrong.size:
            raise self._undeclared(wrong, by_value[wrong], source)
        folded = np.zeros((IGNORE + 1, *counts.shape[1:]), np.int64)
        np.add.at(folded, classes[classes != UNDECLARED], counts[classes != UNDECLARED])
        return folded[: len(self)]

    @cached_property
    def _class_of_byte(self) -> bytes:
        """The first 256 entries of ``class_of_value`` as bytes, with ``_MARK`` for undeclared values."""
        table = self.class_of_value[:256]
        return np.where(table == UNDECLARED, _MARK, table).astype(np.uint8).tobytes()

    @cached_property
    def _class_of_color(self) -> dict[int, int]:
        table = {_packed(color): self.ignore_index for color in self.ignored_colors}
        for index, label in enumerate(self.labels):
            packed = _packed(label.color)
            if table.get(packed, self.ignore_index) != self.ignore_index:
                raise InputError(
                    f"two labels have the color {label.color}, so color masks cannot be read with this label table"
                )
            table[packed] = index
        return table

    def _encode_colors(self, stored: npt.NDArray[Any], source: str | Path) -> npt.NDArray[np.uint8]:
        packed = stored.astype(np.int32) @ np.array([65536, 256, 1], np.int32)  # (H, W)
        colors, inverse, counts = np.unique(packed, return_inverse=True, return_counts=True)
        classes = np.array([self._class_of_color.get(int(color), UNDECLARED) for color in colors], np.int16)
        unknown = classes == UNDECLARED
        if unknown.any():
            triples = [f"({c >> 16}, {c >> 8 & 255}, {c & 255})" for c in map(int, colors[unknown])]
            raise InputError(f"{source}: {_counted(triples, counts[unknown], 'color')} not in the label table")
        return classes[inverse].reshape(packed.shape).astype(np.uint8)

    def _undeclared(self, values: npt.NDArray[Any], counts: npt.NDArray[np.int64], source: str | Path) -> InputError:
        return InputError(f"{source}: {_counted(values, counts)} not in the label table ({self._declared()})")

    def _declared(self) -> str:
        values = sorted({value for label in self.labels for value in label.values})
        if values and values == list(range(values[0], values[-1] + 1)):
            classes = f"{values[0]} to {values[-1]}"
        else:
            classes = ", ".join(map(str, values))
        return f"classes {classes}; ignored {', '.join(map(str, self.ignored_values)) or 'none'}"


def voc_color(value: int) -> tuple[int, int, int]:
    """Return the color of a value in Pascal VOC's development kit (VOClabelcolormap.m), which many tools use for other classes.

    Each group of three bits of the value sets one bit of red, green and blue, starting with the highest.
    """
    red = green = blue = 0
    for position in range(7, -1, -1):
        red |= (value & 1) << position
        green |= (value >> 1 & 1) << position
        blue |= (value >> 2 & 1) << position
        value >>= 3
    return red, green, blue


def voc_palette() -> npt.NDArray[np.uint8]:
    """Return the colors of all values, (256, 3) uint8."""
    return np.array([voc_color(value) for value in range(256)], np.uint8)


def _counted(values: Iterable[Any], counts: npt.NDArray[Any], what: str = "value") -> str:
    pairs = list(zip(values, counts, strict=True))
    shown = ", ".join(f"{what} {value} ({counted(count, 'pixel', 'pixels')})" for value, count in pairs[:5])
    more = f" and {len(pairs) - 5} more {what}s" if len(pairs) > 5 else ""
    return f"{shown}{more} {'is' if len(pairs) == 1 else 'are'}"


def _label(row: object, place: int) -> Label:
    """Build a label from a row of a label table; ``place`` counts from 1."""
    if not isinstance(row, Mapping):
        raise InputError(f"label {place} is {row!r}; a label is a row such as {_EXAMPLE}")
    shown = f"label '{row['name']}'" if row.get("name") is not None else f"label {place}"
    try:
        _check_keys(row, tuple(_NEEDS), "a label")
    except InputError as error:
        raise InputError(f"{shown}: {error}") from error
    for key in ("name", "color"):
        if row.get(key) is None:
            raise InputError(f"{shown} has no {key}, for example {key}: {_NEEDS[key]}")
    values = _integers(row.get("values", ()), f"{shown}: values", example=_NEEDS["values"])
    return Label(str(row["name"]), _color(row["color"], f"{shown}: color"), values)


def _check_keys(values: Mapping[Any, Any], known: tuple[str, ...], owner: str) -> None:
    for key in values:
        if key not in known:
            raise InputError(f"unknown key '{key}'{did_you_mean(str(key), known)}; {owner} has {', '.join(known)}")


def _integers(values: object, what: str, *, example: str) -> tuple[int, ...]:
    try:
        return tuple(map(operator.index, values))  # type: ignore[call-overload]
    except TypeError as error:
        raise InputError(f"{what} must be a list of whole numbers, for example {example}, found {values!r}") from error


def _color(values: object, what: str) -> tuple[int, int, int]:
    try:
        red, green, blue = map(operator.index, values)  # type: ignore[call-overload]
    except (TypeError, ValueError) as error:
        example = _NEEDS["color"]
        raise InputError(f"{what} must be three whole numbers, for example {example}, found {values!r}") from error
    return red, green, blue


def _packed(color: tuple[int, int, int]) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]
