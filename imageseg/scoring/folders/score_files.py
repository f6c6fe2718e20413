"""Counts over pairs of masks and predictions on disk, in parallel processes."""

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
class ScoringOptions:
    """How files are read and what is counted.

    Attributes:
        labels: Label space of the ground truth.
        class_indices: Whether predictions contain class indices instead of stored values of ``labels``.
        read_truth: Function that reads a mask as ``labels`` expects it.
        read_instances: Function that reads the instance map of a mask of the given size (Cityscapes), or returns None.
        boundary: Whether to compute boundary metrics, which cost more than all others together.
        tolerance: Tolerance of the boundary F-score in pixels (default: 0.75 % of the image diagonal).
        calibration: Whether to read NAME_confidence.png next to each prediction NAME.png and compute calibration.
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
        """(65536,) class index of each value in a prediction; 255 or -1 is no class."""
        if not self.class_indices:
            return self.labels.class_of_value
        table = np.full(65536, UNDECLARED, np.int16)
        table[: len(self.labels)] = range(len(self.labels))
        return table


class _ImageCounts(NamedTuple):
    counts: npt.NDArray[np.int64]  # (C, C + 1)
    values: npt.NDArray[np.int64]  # (C, 256) valid pixels by true class and predicted value
    instances: InstanceCounts | None
    boundary: Boundary | None
    calibration: Calibration | None


@dataclass(frozen=True)
class ScoredFiles:
    """Counts over all pairs.

    Attributes:
        confusion: Confusion matrix over all pixels.
        per_image: Pixel counts per image and class, in the order of the pairs.
        values: (C, 256) valid pixels by true class and by the value stored in the prediction.
        boundary: Boundary metrics, if requested.
        calibration: Calibration statistics, if requested.
    """

    confusion: ConfusionMatrix
    per_image: PerImageConfusion
    values: npt.NDArray[np.int64]
    boundary: Boundary | None
    calibration: Calibration | None


def confidence_beside(prediction: Path) -> Path:
    """Return the path where ``imageseg predict --save-confidence`` writes the confidence of a prediction."""
    return prediction.with_name(f"{prediction.stem}_confidence.png")


def score_files(
    pairs: Sequence[ScoredPair],
    options: ScoringOptions,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> ScoredFiles:
    """Count all pairs.

    Args:
        pairs: Masks and their predictions.
        options: How files are read and what is counted.
        workers: Number of processes (default: one per CPU core).
        progress: Callback with the number of finished pairs and the number of all pairs.

    Raises:
        InputError: A file cannot be read, sizes differ, or a mask contains a value that the label space does not declare.
    """
    num_classes = len(options.labels)
    confusion, values = ConfusionMatrix(num_classes), np.zeros((num_classes, 256), np.int64)
    boundary = Boundary(num_classes, tolerance=options.tolerance) if options.boundary else None
    calibration = Calibration(num_classes) if options.calibration else None
    correct, true, predicted = np.zeros((3, len(pairs), num_classes), np.int64)
    results = in_processes(partial(_count, options=options), pairs, workers=workers, progress=progress)
    for index, image in enumerate(results):
        confusion.add(image.counts)
        values += image.values
        matrix = image.counts[:, :-1]
        correct[index], true[index], predicted[index] = np.diag(matrix), image.counts.sum(1), matrix.sum(0)
        if image.instances is not None:
            confusion.instances = (confusion.instances or InstanceCounts()).merge(image.instances)
        if boundary is not None and image.boundary is not None:
            boundary.merge(image.boundary)
        if calibration is not None and image.calibration is not None:
            calibration.merge(image.calibration)
    return ScoredFiles(confusion, PerImageConfusion(correct, true, predicted), values, boundary, calibration)


def wrong_encoding_advice(scored: ScoredFiles, options: ScoringOptions) -> str | None:
    """Return advice if predictions fit the ground truth far better as class indices instead of stored values, or vice versa."""
    other = replace(options, class_indices=not options.class_indices)
    here, there = (_share_of_correct(scored.values, side) for side in (options, other))
    if there < max(0.1, 3 * here):
        return None
    if options.class_indices:
        return f"the predictions fit far better as stored values ({there:.0%} correct instead of {here:.0%}): omit --stored"
    return f"the predictions fit far better as class indices ({there:.0%} correct instead of {here:.0%}): pass --stored classes"


def _share_of_correct(values: npt.NDArray[np.int64], options: ScoringOptions) -> float:
    classes = np.arange(len(values))[:, None]  # (C, 1)
    return float(values[classes == options.class_of_predicted[:256]].sum() / max(1, values.sum()))


def _count(pair: ScoredPair, options: ScoringOptions) -> _ImageCounts:
    true = options.read_truth(pair.truth)
    predicted = _read_prediction(pair, true.shape[:2], options)
    if true.ndim == 2 and true.dtype == np.uint8:
        by_value = options.labels.fold(joint_histogram(true, predicted.values), pair.truth)
    else:
        by_value = joint_histogram(options.labels.encode(true, pair.truth), predicted.values)[: len(options.labels)]
    instances = boundary = calibration = None
    if options.read_instances is not None and (found := options.read_instances(pair.truth, true.shape)) is not None:
        instances = InstanceCounts()
        instances.update(predicted.label_ids(), true.astype(np.uint8), found)
    if options.boundary or options.calibration:
        mask, classes = options.labels.encode(true, pair.truth), predicted.classes()
        if options.boundary:
            boundary = Boundary(len(options.labels), tolerance=options.tolerance)
            boundary.update(classes, mask)
        if options.calibration and pair.prediction is not None:
            calibration = Calibration(len(options.labels))
            calibration.update(_confidence(pair.prediction, mask.shape), classes, mask)
    counts = sum_columns_by_class(by_value, predicted.class_of_value, len(options.labels))
    return _ImageCounts(counts, by_value, instances, boundary, calibration)


class _Predicted(NamedTuple):
    """Prediction as uint8 values."""

    values: npt.NDArray[np.uint8]  # (H, W)
    class_of_value: npt.NDArray[np.int16]  # (256,); 255 and -1 (255 as uint8) are no class
    are_classes: bool

    def classes(self) -> npt.NDArray[np.uint8]:
        """(H, W) class indices, 255 for no class."""
        classes: npt.NDArray[np.uint8] = self.class_of_value.astype(np.uint8)[self.values]
        return classes

    def label_ids(self) -> npt.NDArray[np.uint8]:
        """(H, W) Cityscapes label ids, which instance maps use."""
        return label_ids(self.values) if self.are_classes else self.values


def _read_prediction(pair: ScoredPair, size: tuple[int, ...], options: ScoringOptions) -> _Predicted:
    same = np.arange(256, dtype=np.int16)
    if pair.prediction is None:  # every pixel is a miss
        return _Predicted(np.full(size, IGNORE, np.uint8), same, are_classes=True)
    predicted = read_mask(pair.prediction)
    if predicted.shape[:2] != size:
        sizes = [f"{width} x {height}" for height, width in (predicted.shape[:2], size)]
        raise InputError(f"{pair.prediction}: is {sizes[0]} pixels, its ground truth {pair.truth} is {sizes[1]}")
    if predicted.ndim == 3:
        return _Predicted(options.labels.encode(predicted, pair.prediction), same, are_classes=True)
    if predicted.min() >= 0 and predicted.max() <= IGNORE:
        table = options.class_of_predicted[:256]
        return _Predicted(predicted.astype(np.uint8, copy=False), table, are_classes=options.class_indices)
    # More than 8 bits: the values are converted to classes first.
    inside = (predicted >= 0) & (predicted <= 65535)
    classes = options.class_of_predicted[np.where(inside, predicted, 0)]
    return _Predicted(np.where(inside, classes, UNDECLARED).astype(np.uint8), same, are_classes=True)


def _confidence(prediction: Path, size: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    path = confidence_beside(prediction)
    confidence = read_mask(path)
    if confidence.dtype != np.uint8 or confidence.shape != size:
        raise InputError(f"{path}: confidence must be one gray channel of 8 bits with the size of its prediction")
    return confidence
