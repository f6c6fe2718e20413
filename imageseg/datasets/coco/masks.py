"""Drawing of masks of the 21 VOC classes from COCO's polygons and run-length encodings."""

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
"""End positions of the runs of an object, background first; pixels are counted column by column."""


def paint(image: AnnotatedImage, *, overlap: Overlap, crowd: Crowd, source: Path) -> Painted:
    """Draw the mask of one image.

    Objects are drawn as pycocotools does (COCO's maskApi), but only where they are: as runs in column-major order. The
    class ``COCO`` describes the rules for overlaps and crowds.

    Args:
        image: Image with its annotations in the order of the file.
        overlap: Rule for overlapping objects, "first", "void" or "area".
        crowd: Rule for crowds, "class", "ignore" or "skip".
        source: Annotation file, for error messages.

    Raises:
        InputError: A segmentation is invalid; the message names the annotation.
    """
    drawn = [each for each in image.annotations if not (each.crowd and crowd == "skip")]
    parts = _parts(image, drawn, source)
    values = [IGNORE if each.crowd and crowd == "ignore" else each.class_index for each in drawn]
    buffer = bytearray(image.height * image.width)
    if overlap == "void":
        for value, each in zip(values, parts, strict=True):
            _paint_or_void(buffer, _united(each), value)
    else:
        order = list(range(len(drawn)))
        if overlap == "first":
            order.reverse()  # the first object is painted last
        else:
            order.sort(key=lambda index: -drawn[index].area)
        order.sort(key=lambda index: values[index] != IGNORE)  # ignored crowds are below labeled objects
        for index in order:
            for runs in parts[index]:
                paint_runs(buffer, runs, values[index])
    columns = np.frombuffer(buffer, np.uint8).reshape(image.width, image.height)
    mask: npt.NDArray[Any] = cv2.transpose(columns)
    labelled = int(np.count_nonzero(columns))
    if overlap == "void" or crowd == "ignore":
        labelled -= int(np.count_nonzero(columns == IGNORE))
    objects = sum(value != IGNORE and any(map(_shows, each)) for value, each in zip(values, parts, strict=True))
    return Painted(mask.astype(np.uint8, copy=False), labelled, objects)


def _parts(image: AnnotatedImage, annotations: Sequence[Annotation], source: Path) -> list[list[Runs]]:
    """The runs of each part of each annotation."""
    pixels = image.height * image.width
    parts: list[list[Runs]] = []
    polygons: list[list[float]] = []
    owners: list[int] = []
    for index, annotation in enumerate(annotations):
        parts.append([])
        if isinstance(annotation.segmentation, dict):
            parts[index].append(_encoded(image, annotation, source))
            continue
        for polygon in annotation.segmentation:
            if not isinstance(polygon, list) or not set(map(type, polygon)) <= {float, int}:
                raise _fault(source, image, annotation, "a polygon is a list of numbers [x, y, x, y, ...]")
            if len(polygon) >= 6:  # fewer than three points enclose no area
                polygons.append(polygon)
                owners.append(index)
    if polygons:
        arrays = _checked(polygons)
        if isinstance(arrays, int):
            raise _fault(source, image, annotations[owners[arrays]], "a polygon extends far beyond any image")
        drawn = coco_mask.frPyObjects(arrays, image.height, image.width)
        for owner, ends in zip(owners, ends_of_strings([each["counts"] for each in drawn], pixels), strict=True):
            parts[owner].append(ends.tolist())
    return parts


def _checked(polygons: Sequence[Sequence[float]]) -> list[npt.NDArray[np.float64]] | int:
    """Convert polygons to arrays, or return the index of one with NaN, or so large that it would take gigabytes or overflow."""
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


def _encoded(image: AnnotatedImage, annotation: Annotation, source: Path) -> Runs:
    size = annotation.segmentation.get("size")
    if size != [image.height, image.width]:
        found = f"the run lengths are for a size of {size}, the image has {[image.height, image.width]}"
        raise _fault(source, image, annotation, found)
    try:
        runs: Runs = ends_of(annotation.segmentation.get("counts"), image.height * image.width).tolist()
    except ValueError as error:
        raise _fault(source, image, annotation, str(error)) from error
    return runs


def _paint_or_void(buffer: bytearray, runs: Runs, value: int) -> None:
    """Write ``value`` to background pixels, and 255 where there already is an object."""
    table = bytes([value]) + bytes([IGNORE]) * 255
    for start, stop in zip(runs[0::2], runs[1::2], strict=False):
        buffer[start:stop] = buffer[start:stop].translate(table)


def _united(parts: Sequence[Runs]) -> Runs:
    """The runs of the union, so that overlapping parts of one object do not become void."""
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


def _fault(source: Path, image: AnnotatedImage, annotation: Annotation, what: str) -> InputError:
    return InputError(f"{source}: annotation {annotation.id} of {image.name}: {what}")
