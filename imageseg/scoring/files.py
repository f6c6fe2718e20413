"""Scoring files: counts over pairs of mask and prediction on disk, in parallel processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imageseg.errors import InputError
from imageseg.images import read_mask
from imageseg.labels import IGNORE, UNDECLARED, LabelSpace
from imageseg.scoring.cityscapes import InstanceCounts, label_ids
from imageseg.scoring.confusion import ConfusionMatrix
from imageseg.scoring.counting import fold, joint_histogram
from imageseg.scoring.pairing import ScoredPair
from imageseg.workers import Progress, in_processes


@dataclass(frozen=True)
class Reading:
    """How the files of both sides are read.

    Attributes:
        labels: the truth's table of stored values.
        class_indices: the predictions hold class indices; else stored values of the same table.
        read_truth: reads a mask as ``labels`` takes it.
        instances_of: gives the file of a mask's instances (Cityscapes), or None.
    """

    labels: LabelSpace
    class_indices: bool = False
    read_truth: Callable[[Path], npt.NDArray[Any]] = read_mask
    instances_of: Callable[[Path], Path | None] | None = None

    @property
    def class_of_predicted(self) -> npt.NDArray[np.int16]:
        """(65536,) the class index of each value in a prediction; 255 or -1 is no class."""
        if not self.class_indices:
            return self.labels.class_of_value
        table = np.full(65536, UNDECLARED, np.int16)
        table[: len(self.labels)] = range(len(self.labels))
        return table


class _Picture(NamedTuple):
    counts: npt.NDArray[np.int64]  # (C, C + 1)
    values: npt.NDArray[np.int64]  # (256,) valid pixels by predicted value
    instances: InstanceCounts | None


@dataclass
class ScoredFiles:
    """What was counted over all pairs.

    Attributes:
        confusion: all pixels.
        pictures: (N, C, 3) int64 per picture and class: correct, true and predicted pixels.
        values: (256,) valid pixels by the value that their prediction stores; 255 also stands for larger ones.
    """

    confusion: ConfusionMatrix
    pictures: npt.NDArray[np.int64]
    values: npt.NDArray[np.int64]


def score_files(
    pairs: Sequence[ScoredPair], reading: Reading, *, workers: int | None = None, progress: Progress | None = None
) -> ScoredFiles:
    """Counts every pair.

    Raises:
        InputError: a file that cannot be read, sizes that differ, or a value in the truth that the table does not declare.
    """
    num_classes = len(reading.labels)
    confusion = ConfusionMatrix(num_classes)
    scored = ScoredFiles(confusion, np.zeros((len(pairs), num_classes, 3), np.int64), np.zeros(256, np.int64))
    results = in_processes(partial(_count, reading=reading), pairs, workers=workers, progress=progress)
    for index, picture in enumerate(results):
        confusion.add(picture.counts)
        matrix = picture.counts[:, :-1]
        scored.pictures[index] = np.stack([np.diag(matrix), picture.counts.sum(axis=1), matrix.sum(axis=0)], axis=1)
        scored.values += picture.values
        if picture.instances is not None:
            confusion.instances = (confusion.instances or InstanceCounts()).merge(picture.instances)
    return scored


def suspicion(scored: ScoredFiles, reading: Reading) -> str | None:
    """A sentence where the predictions look as if they held the other of class indices and stored values."""
    other = replace(reading, class_indices=not reading.class_indices)
    here, there = (_share_of_no_class(scored.values, side) for side in (reading, other))
    if here < 0.2 or there > here / 10:
        return None
    if reading.class_indices:
        return f"{here:.0%} of the predictions are no class index, but stored values of the table: leave out --stored"
    return f"{here:.0%} of the predictions are no stored value of the table, but class indices: pass --stored classes"


def _share_of_no_class(values: npt.NDArray[np.int64], reading: Reading) -> float:
    classes = reading.class_of_predicted[:256]
    return float(values[(classes < 0) | (classes >= len(reading.labels))].sum() / max(1, values.sum()))


def _count(pair: ScoredPair, reading: Reading) -> _Picture:
    true = reading.read_truth(pair.truth)
    predicted = None if pair.prediction is None else read_mask(pair.prediction)
    if predicted is not None and predicted.shape[:2] != true.shape[:2]:
        sizes = [f"{width} x {height}" for height, width in (predicted.shape[:2], true.shape[:2])]
        raise InputError(f"{pair.prediction}: is {sizes[0]} pixels, its truth {pair.truth} is {sizes[1]}")
    counts, values = _counts(true, predicted, pair, reading)
    instances = None
    if reading.instances_of is not None and (path := reading.instances_of(pair.truth)) is not None:
        instances = InstanceCounts()
        instances.update(_label_ids(true, predicted, reading), true.astype(np.uint8), read_mask(path))
    return _Picture(counts, values, instances)


def _counts(
    true: npt.NDArray[Any], predicted: npt.NDArray[Any] | None, pair: ScoredPair, reading: Reading
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    num_classes = len(reading.labels)
    table: npt.NDArray[np.integer] = np.arange(256)
    if predicted is None:  # all of it missed
        predicted, table = np.full(true.shape[:2], IGNORE, np.uint8), np.full(256, UNDECLARED, np.int16)
    elif predicted.ndim == 3:
        predicted = reading.labels.encode(predicted, str(pair.prediction))
    elif predicted.dtype == np.uint8:
        table = reading.class_of_predicted[:256]
    else:  # more than 8 bits: small classes from the large values first
        classes = reading.class_of_predicted[np.clip(predicted, 0, 65535)]
        predicted = np.where(classes == UNDECLARED, IGNORE, classes).astype(np.uint8)
    if true.ndim == 2 and true.dtype == np.uint8:
        by_value = reading.labels.fold(joint_histogram(true, predicted), pair.truth)
    else:
        by_value = joint_histogram(reading.labels.encode(true, pair.truth), predicted)[:num_classes]
    return fold(by_value, table, num_classes), by_value.sum(axis=0)


def _label_ids(true: npt.NDArray[Any], predicted: npt.NDArray[Any] | None, reading: Reading) -> npt.NDArray[np.uint8]:
    """The prediction in Cityscapes' label ids, in which its instances are named."""
    if predicted is None:
        return np.zeros(true.shape, np.uint8)
    return label_ids(predicted) if reading.class_indices else predicted.astype(np.uint8)
