"""Masks of the 21 VOC classes from COCO's annotations of one picture: polygons and run lengths to pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from imageseg.datasets.coco.annotations import AnnotatedImage, Annotation
from imageseg.datasets.masks.cache import Painted
from imageseg.datasets.masks.rle import ends_of, ends_of_strings, paint_runs
from imageseg.errors import InputError
from imageseg.labels import IGNORE

Overlap = Literal["first", "void", "area"]
Crowd = Literal["class", "ignore", "skip"]

# maskApi walks every polygon's edges in steps of a fifth of a pixel and stores each: more would be gigabytes.
_FARTHEST, _LONGEST = 1e6, 4e6

Runs = list[int]
"""Where the runs of an object end, background first, in the order of the pixels column by column."""


def paint(picture: AnnotatedImage, *, overlap: Overlap, crowd: Crowd, source: Path) -> Painted:
    """The mask of one picture.

    Objects are drawn as pycocotools draws them (COCO's maskApi), each only where it is: as runs of a picture that lies
    column by column. What happens where two overlap, and to crowds, says ``imageseg.datasets.coco.dataset.COCO``.

    Args:
        picture: its annotations in the file's order.
        overlap: "first", "void" or "area".
        crowd: "class", "ignore" or "skip".
        source: the file that errors name.

    Raises:
        InputError: a segmentation that is none; names the annotation.
    """
    drawn = [each for each in picture.annotations if not (each.crowd and crowd == "skip")]
    parts = _parts(picture, drawn, source)
    values = [IGNORE if each.crowd and crowd == "ignore" else each.class_index for each in drawn]
    buffer = bytearray(picture.height * picture.width)
    if overlap == "void":
        for value, each in zip(values, parts, strict=True):
            _paint_or_void(buffer, _united(each), value)
    else:
        order = list(range(len(drawn)))
        if overlap == "first":
            order.reverse()  # what comes first is painted last
        else:
            order.sort(key=lambda index: -drawn[index].area)
        order.sort(key=lambda index: values[index] != IGNORE)  # ignored crowds lie beneath what is known
        for index in order:
            for runs in parts[index]:
                paint_runs(buffer, runs, values[index])
    columns = np.frombuffer(buffer, np.uint8).reshape(picture.width, picture.height)
    mask: npt.NDArray[Any] = cv2.transpose(columns)
    labelled = int(np.count_nonzero(columns))
    if overlap == "void" or crowd == "ignore":
        labelled -= int(np.count_nonzero(columns == IGNORE))
    objects = sum(value != IGNORE and any(map(_shows, each)) for value, each in zip(values, parts, strict=True))
    return Painted(mask.astype(np.uint8, copy=False), labelled, objects)


def _parts(picture: AnnotatedImage, annotations: Sequence[Annotation], source: Path) -> list[list[Runs]]:
    """The runs of every part of every annotation."""
    pixels = picture.height * picture.width
    parts: list[list[Runs]] = []
    polygons: list[list[float]] = []
    owners: list[int] = []
    for index, annotation in enumerate(annotations):
        parts.append([])
        if isinstance(annotation.segmentation, dict):
            parts[index].append(_encoded(picture, annotation, source))
            continue
        for polygon in annotation.segmentation:
            if not isinstance(polygon, list) or not set(map(type, polygon)) <= {float, int}:
                raise _fault(source, picture, annotation, "a polygon is a list of numbers [x, y, x, y, ...]")
            if len(polygon) >= 6:  # fewer than three points enclose nothing
                polygons.append(polygon)
                owners.append(index)
    if polygons:
        arrays = _checked(polygons)
        if isinstance(arrays, int):
            raise _fault(source, picture, annotations[owners[arrays]], "a polygon reaches absurdly far")
        drawn = coco_mask.frPyObjects(arrays, picture.height, picture.width)
        for owner, ends in zip(owners, ends_of_strings([each["counts"] for each in drawn], pixels), strict=True):
            parts[owner].append(ends.tolist())
    return parts


def _checked(polygons: Sequence[Sequence[float]]) -> list[npt.NDArray[np.float64]] | int:
    """The polygons as arrays, or the index of one that would cost gigabytes or overflow; NaN counts as such."""
    try:
        points = np.array([number for polygon in polygons for number in polygon], np.float64)
    except OverflowError:  # an integer beyond every float
        return next(index for index, each in enumerate(polygons) if max(map(abs, each)) > _FARTHEST)
    stops = np.cumsum([len(polygon) for polygon in polygons]).tolist()
    arrays = [points[stop - len(polygon) : stop] for polygon, stop in zip(polygons, stops, strict=True)]
    if not np.abs(points).max() <= _FARTHEST:
        return next(index for index, each in enumerate(arrays) if not np.abs(each).max() <= _FARTHEST)
    if np.abs(points[2:] - points[:-2]).sum() > _LONGEST:
        lengths = [np.abs(each[2:] - each[:-2]).sum() for each in arrays]
        return int(np.argmax(lengths))
    return arrays


def _encoded(picture: AnnotatedImage, annotation: Annotation, source: Path) -> Runs:
    size = annotation.segmentation.get("size")
    if size != [picture.height, picture.width]:
        found = f"the run lengths are for a size of {size}, the picture has {[picture.height, picture.width]}"
        raise _fault(source, picture, annotation, found)
    try:
        runs: Runs = ends_of(annotation.segmentation.get("counts"), picture.height * picture.width).tolist()
    except ValueError as error:
        raise _fault(source, picture, annotation, str(error)) from error
    return runs


def _paint_or_void(buffer: bytearray, runs: Runs, value: int) -> None:
    """Writes ``value`` where nothing is yet, and 255 where something is."""
    table = bytes([value]) + bytes([IGNORE]) * 255
    for start, stop in zip(runs[0::2], runs[1::2], strict=False):
        buffer[start:stop] = buffer[start:stop].translate(table)


def _united(parts: Sequence[Runs]) -> Runs:
    """The runs of the union, so that parts of one object do not void each other."""
    if len(parts) == 1:
        return parts[0]
    united: Runs = []
    for start, stop in sorted(run for runs in parts for run in _object_runs(runs)):
        if united and start <= united[-1]:
            united[-1] = max(united[-1], stop)
        else:
            united += (start, stop)
    return united


def _object_runs(runs: Runs) -> Iterable[tuple[int, int]]:
    return zip(runs[0::2], runs[1::2], strict=False)


def _shows(runs: Runs) -> bool:
    return any(start < stop for start, stop in _object_runs(runs))


def _fault(source: Path, picture: AnnotatedImage, annotation: Annotation, what: str) -> InputError:
    return InputError(f"{source}: annotation {annotation.id} of {picture.name}: {what}")
