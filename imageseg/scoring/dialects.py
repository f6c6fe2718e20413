"""Metric protocols ("dialects"): how evaluators turn counts into scores. They agree on IoU and differ in the averages."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from imageseg.errors import unknown_name
from imageseg.scoring.cityscapes_scores import cityscapes_extra
from imageseg.scoring.counts import ConfusionCounts
from imageseg.scoring.scores import FloatArray, Scores, mean, ratio

MeanOver = Literal["union", "truth", "all"]
"""Classes that a mean includes: in the ground truth or the prediction, in the ground truth, or all (absent ones as 0)."""


@dataclass(frozen=True)
class Dialect:
    """Metric protocol of one evaluator.

    Attributes:
        score: Function from counts to scores.
        mean_over: Classes that its mIoU includes.
        rule: One-sentence description of what is special about it, for the user.
        source: Program, paper or page that defines the rule.
    """

    score: Callable[[ConfusionCounts], Scores]
    mean_over: MeanOver
    rule: str
    source: str


def default(counts: ConfusionCounts) -> Scores:
    """Leave classes that are neither in the ground truth nor in the prediction out of the mean."""
    return _scores(counts, "default", mean_over="union")


def cityscapes(counts: ConfusionCounts) -> Scores:
    """Score as ``default``; add category IoU for 19 classes, and instance-weighted IoU if instances were counted."""
    scores = _scores(counts, "cityscapes", mean_over="union")
    return replace(scores, extra=cityscapes_extra(counts))


def voc(counts: ConfusionCounts) -> Scores:
    """Average over all classes including background; absent classes are left out (the evaluator prints NaN)."""
    return _scores(counts, "voc", mean_over="union")


def coco21(counts: ConfusionCounts) -> Scores:
    """Apply the rules of VOC; COCO has no server for these 21 classes."""
    return _scores(counts, "coco21", mean_over="union")


def bdd100k(counts: ConfusionCounts) -> Scores:
    """Average over the classes in the ground truth; absent ones score 0; its "Acc" is mean precision."""
    scores = _scores(counts, "bdd100k", mean_over="truth", absent=0.0)
    precision = ratio(counts.correct, counts.predicted, empty=0.0)
    return replace(scores, precision=precision, class_accuracy=mean(precision[counts.true > 0]))


def camvid(counts: ConfusionCounts) -> Scores:
    """Divide the sum over 11 classes by 11: an absent class counts as 0."""
    return _scores(counts, "camvid", mean_over="all", absent=0.0)


def ade20k(counts: ConfusionCounts) -> Scores:
    """Average over all classes, absent ones as 0; add the mean of mIoU and pixel accuracy that ranks entries."""
    scores = _scores(counts, "ade20k", mean_over="all", absent=0.0)
    return replace(scores, extra={"score": (scores.miou + scores.pixel_accuracy) / 2})


def mmseg(counts: ConfusionCounts) -> Scores:
    """Sum over the set, then average over the classes with a non-empty union."""
    return _scores(counts, "mmseg", mean_over="union")


def paddleseg(counts: ConfusionCounts) -> Scores:
    """Count a class with an empty union as 0; pixel accuracy divides by the pixels predicted as a class."""
    scores = _scores(counts, "paddleseg", mean_over="all", absent=0.0)
    predicted = counts.predicted.sum()
    return replace(scores, pixel_accuracy=float(counts.correct.sum() / predicted) if predicted else math.nan)


def ultralytics(counts: ConfusionCounts) -> Scores:
    """Average over all classes; a class with an empty union counts as 0."""
    return _scores(counts, "ultralytics", mean_over="all", absent=0.0)


def per_image(counts: ConfusionCounts) -> Scores:
    """Average the mIoU of each image over images; not comparable with any benchmark."""
    return replace(_scores(counts, "per_image", mean_over="union"), miou=counts.per_image_miou)


DIALECTS = {
    "default": Dialect(
        default, "union", "mean over the classes that occur in the ground truth or in the prediction", "imageseg"
    ),
    "cityscapes": Dialect(
        cityscapes,
        "union",
        "same as default; a class that is only predicted counts as 0; predictions of no class on valid pixels are misses",
        "cityscapesScripts 2.3.0, evalPixelLevelSemanticLabeling.py",
    ),
    "voc": Dialect(
        voc,
        "union",
        "mean over all classes; if one is absent, the evaluator prints NaN and imageseg leaves the class out",
        "VOCdevkit, VOCevalseg.m",
    ),
    "coco21": Dialect(coco21, "union", "same as voc; COCO has no server for these 21 classes", "no official evaluator"),
    "bdd100k": Dialect(
        bdd100k,
        "truth",
        "mean over the classes in the ground truth only; class accuracy is precision; all pixels of a missing file are misses",
        "bdd100k 1.0.1, eval/seg.py; scalabel 0.3.1, eval/sem_seg.py",
    ),
    "camvid": Dialect(
        camvid, "all", "mean over all classes; an absent one counts as 0", "SegNet-Tutorial, compute_test_results.m"
    ),
    "ade20k": Dialect(
        ade20k,
        "all",
        "mean over all classes; an absent one counts as 0; entries are ranked by the mean of mIoU and pixel accuracy",
        "CSAILVision/sceneparsing, evaluationCode",
    ),
    "mmseg": Dialect(mmseg, "union", "same as default", "mmsegmentation 1.2.2, IoUMetric"),
    "paddleseg": Dialect(
        paddleseg,
        "all",
        "mean over all classes; an absent one counts as 0; pixel accuracy ignores predictions of no class",
        "PaddleSeg, paddleseg/utils/metrics.py",
    ),
    "ultralytics": Dialect(
        ultralytics,
        "all",
        "mean over all classes; an absent one counts as 0",
        "ultralytics pull request 24552 (May 2026)",
    ),
    "per_image": Dialect(
        per_image,
        "union",
        "mIoU of each image, averaged over images, as in torchmetrics' MeanIoU",
        "torchmetrics 1.9.0, segmentation.MeanIoU",
    ),
}


def dialect_named(name: str) -> Dialect:
    """Return the metric protocol of this name.

    Raises:
        InputError: The name is unknown.
    """
    if name not in DIALECTS:
        raise unknown_name("metric protocol", name, DIALECTS)
    return DIALECTS[name]


def miou_over(
    mean_over: MeanOver,
    correct: npt.NDArray[np.integer],
    true: npt.NDArray[np.integer],
    predicted: npt.NDArray[np.integer],
) -> FloatArray:
    """Compute the mIoU of many sets of counts at once, from (..., C) to (...); NaN where no class is included."""
    union = true + predicted - correct
    iou = ratio(correct, union, empty=0.0)
    counted = {"union": union > 0, "truth": true > 0, "all": np.ones(union.shape, bool)}[mean_over]
    return ratio((iou * counted).sum(axis=-1), counted.sum(axis=-1))


def _scores(counts: ConfusionCounts, dialect: str, *, mean_over: MeanOver, absent: float = math.nan) -> Scores:
    correct, true, predicted = counts.correct, counts.true, counts.predicted
    union, total = true + predicted - correct, int(true.sum())
    recall = ratio(correct, true)
    iou = ratio(correct, union, empty=absent)
    return Scores(
        dialect=dialect,
        iou=iou,
        miou=float(miou_over(mean_over, correct, true, predicted)) if total else math.nan,
        pixel_accuracy=float(correct.sum() / total) if total else math.nan,
        class_accuracy=mean(recall),
        fw_iou=float((true / total * np.nan_to_num(iou)).sum()) if total else math.nan,
        images=counts.images,
        precision=ratio(correct, predicted),
        recall=recall,
        dice=ratio(2 * correct, true + predicted),
    )
