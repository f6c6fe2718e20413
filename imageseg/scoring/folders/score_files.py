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
from imageseg.parallel import Progress, in_processes
from imageseg.scoring.boundary.iou import Boundary
from imageseg.scoring.calibration import Calibration
from imageseg.scoring.cityscapes_instances import InstanceCounts, label_ids
from imageseg.scoring.confusion import ConfusionMatrix
from imageseg.scoring.counts import joint_histogram, sum_columns_by_class
from imageseg.scoring.folders.pairing import ScoredPair
from imageseg.scoring.significance import PerImageConfusion


@dataclass(frozen=True)
class Reading:
    """How the files of both sides are read.

    Attributes:
        labels: the truth's table of stored values.
        class_indices: the predictions hold class indices; else stored values of the same table.
        read_truth: reads a mask as ``labels`` takes it.
        read_instances: reads the map of instances beside a mask of that size (Cityscapes); None where there is none.
        boundary: also score boundaries, which costs more than all the rest.
        tolerance: of the boundary F-score, in pixels; unset, its paper's share of the diagonal.
        calibration: also score the confidence in the file NAME_confidence.png beside each prediction NAME.png.
    """

    labels: LabelSpace
    class_indices: bool = False
    read_truth: Callable[[Path], npt.NDArray[Any]] = read_mask
    read_instances: Callable[[Path, tuple[int, ...]], npt.NDArray[Any] | None] | None = None
    boundary: bool = False
    tolerance: float | None = None
    calibration: bool = False

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
    values: npt.NDArray[np.int64]  # (C, 256) valid pixels by class and predicted value
    instances: InstanceCounts | None
    boundary: Boundary | None
    calibration: Calibration | None


@dataclass(frozen=True)
class ScoredFiles:
    """What was counted over all pairs.

    Attributes:
        confusion: all pixels.
        pictures: pixels of each picture by class, in the order of the pairs.
        values: (C, 256) valid pixels by true class and by the value that their prediction stores.
        boundary: if asked for.
        calibration: if asked for.
    """

    confusion: ConfusionMatrix
    pictures: PerImageConfusion
    values: npt.NDArray[np.int64]
    boundary: Boundary | None
    calibration: Calibration | None


def confidence_beside(prediction: Path) -> Path:
    """Where ``imageseg predict --save-confidence`` puts the confidence of a prediction."""
    return prediction.with_name(f"{prediction.stem}_confidence.png")


def score_files(
    pairs: Sequence[ScoredPair], reading: Reading, *, workers: int | None = None, progress: Progress | None = None
) -> ScoredFiles:
    """Counts every pair.

    Raises:
        InputError: a file that cannot be read, sizes that differ, or a value in the truth that the table does not declare.
    """
    num_classes = len(reading.labels)
    confusion, values = ConfusionMatrix(num_classes), np.zeros((num_classes, 256), np.int64)
    boundary = Boundary(num_classes, tolerance=reading.tolerance) if reading.boundary else None
    calibration = Calibration(num_classes) if reading.calibration else None
    correct, true, predicted = np.zeros((3, len(pairs), num_classes), np.int64)
    results = in_processes(partial(_count, reading=reading), pairs, workers=workers, progress=progress)
    for index, picture in enumerate(results):
        confusion.add(picture.counts)
        values += picture.values
        matrix = picture.counts[:, :-1]
        correct[index], true[index], predicted[index] = np.diag(matrix), picture.counts.sum(1), matrix.sum(0)
        if picture.instances is not None:
            confusion.instances = (confusion.instances or InstanceCounts()).merge(picture.instances)
        if boundary is not None and picture.boundary is not None:
            boundary.merge(picture.boundary)
        if calibration is not None and picture.calibration is not None:
            calibration.merge(picture.calibration)
    return ScoredFiles(confusion, PerImageConfusion(correct, true, predicted), values, boundary, calibration)


def suspicion(scored: ScoredFiles, reading: Reading) -> str | None:
    """A sentence where the predictions fit the truth far better when read as the other of class indices and stored values."""
    other = replace(reading, class_indices=not reading.class_indices)
    here, there = (_share_of_correct(scored.values, side) for side in (reading, other))
    if there < max(0.1, 3 * here):
        return None
    if reading.class_indices:
        return f"the predictions fit far better ({there:.0%} against {here:.0%}) as stored values: leave out --stored"
    return f"the predictions fit far better ({there:.0%} against {here:.0%}) as class indices: pass --stored classes"


def _share_of_correct(values: npt.NDArray[np.int64], reading: Reading) -> float:
    classes = np.arange(len(values))[:, None]  # (C, 1)
    return float(values[classes == reading.class_of_predicted[:256]].sum() / max(1, values.sum()))


def _count(pair: ScoredPair, reading: Reading) -> _Picture:
    true = reading.read_truth(pair.truth)
    predicted = _read_prediction(pair, true.shape[:2], reading)
    if true.ndim == 2 and true.dtype == np.uint8:
        by_value = reading.labels.fold(joint_histogram(true, predicted.values), pair.truth)
    else:
        by_value = joint_histogram(reading.labels.encode(true, pair.truth), predicted.values)[: len(reading.labels)]
    instances = boundary = calibration = None
    if reading.read_instances is not None and (found := reading.read_instances(pair.truth, true.shape)) is not None:
        instances = InstanceCounts()
        instances.update(predicted.label_ids(), true.astype(np.uint8), found)
    if reading.boundary or reading.calibration:
        mask, classes = reading.labels.encode(true, pair.truth), predicted.classes()
        if reading.boundary:
            boundary = Boundary(len(reading.labels), tolerance=reading.tolerance)
            boundary.update(classes, mask)
        if reading.calibration and pair.prediction is not None:
            calibration = Calibration(len(reading.labels))
            calibration.update(_confidence(pair.prediction, mask.shape), classes, mask)
    counts = sum_columns_by_class(by_value, predicted.class_of_value, len(reading.labels))
    return _Picture(counts, by_value, instances, boundary, calibration)


class _Predicted(NamedTuple):
    """A prediction in eight bits."""

    values: npt.NDArray[np.uint8]  # (H, W)
    class_of_value: npt.NDArray[np.int16]  # (256,); 255 and -1, which is 255 in eight bits, are no class
    are_classes: bool

    def classes(self) -> npt.NDArray[np.uint8]:
        """(H, W) class indices, 255 for no class."""
        classes: npt.NDArray[np.uint8] = self.class_of_value.astype(np.uint8)[self.values]
        return classes

    def label_ids(self) -> npt.NDArray[np.uint8]:
        """(H, W) Cityscapes' label ids, in which its instances are named."""
        return label_ids(self.values) if self.are_classes else self.values


def _read_prediction(pair: ScoredPair, size: tuple[int, ...], reading: Reading) -> _Predicted:
    same = np.arange(256, dtype=np.int16)
    if pair.prediction is None:  # all of it missed
        return _Predicted(np.full(size, IGNORE, np.uint8), same, are_classes=True)
    predicted = read_mask(pair.prediction)
    if predicted.shape[:2] != size:
        sizes = [f"{width} x {height}" for height, width in (predicted.shape[:2], size)]
        raise InputError(f"{pair.prediction}: is {sizes[0]} pixels, its truth {pair.truth} is {sizes[1]}")
    if predicted.ndim == 3:
        return _Predicted(reading.labels.encode(predicted, pair.prediction), same, are_classes=True)
    if predicted.min() >= 0 and predicted.max() <= IGNORE:
        table = reading.class_of_predicted[:256]
        return _Predicted(predicted.astype(np.uint8, copy=False), table, are_classes=reading.class_indices)
    # More than 8 bits: the values become classes first.
    inside = (predicted >= 0) & (predicted <= 65535)
    classes = reading.class_of_predicted[np.where(inside, predicted, 0)]
    return _Predicted(np.where(inside, classes, UNDECLARED).astype(np.uint8), same, are_classes=True)


def _confidence(prediction: Path, size: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    path = confidence_beside(prediction)
    confidence = read_mask(path)
    if confidence.dtype != np.uint8 or confidence.shape != size:
        raise InputError(f"{path}: confidence is one grey channel of 8 bits, of the size of its prediction")
    return confidence
