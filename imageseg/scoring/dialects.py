"""Dialects: by whose rules one matrix of counts becomes scores. They agree on IoU and differ in what they average."""

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
"""Which classes a mean counts: those in the truth or the prediction, those in the truth, or all, absent ones as 0."""


@dataclass(frozen=True)
class Dialect:
    """One evaluator's rules.

    Attributes:
        score: from counts to scores.
        mean_over: which classes its mIoU counts.
        rule: what sets it apart, in a sentence for the user.
        source: where the rule was read.
    """

    score: Callable[[ConfusionCounts], Scores]
    mean_over: MeanOver
    rule: str
    source: str


def default(counts: ConfusionCounts) -> Scores:
    """Classes that appear neither in the truth nor in the prediction leave the mean."""
    return _scores(counts, "default", mean_over="union")


def cityscapes(counts: ConfusionCounts) -> Scores:
    """As ``default``; with 19 classes also by category, and with instances the instance-weighted IoU."""
    scores = _scores(counts, "cityscapes", mean_over="union")
    return replace(scores, extra=cityscapes_extra(counts))


def voc(counts: ConfusionCounts) -> Scores:
    """The plain mean over all classes, background included; an absent class has no IoU, and the evaluator then no mean."""
    return _scores(counts, "voc", mean_over="union")


def coco21(counts: ConfusionCounts) -> Scores:
    """VOC's rules: COCO has no server for these 21 classes."""
    return _scores(counts, "coco21", mean_over="union")


def bdd100k(counts: ConfusionCounts) -> Scores:
    """The mean over the classes in the truth; absent ones score 0; its "Acc" is the mean of precision."""
    scores = _scores(counts, "bdd100k", mean_over="truth", absent=0.0)
    precision = ratio(counts.correct, counts.predicted, empty=0.0)
    return replace(scores, precision=precision, class_accuracy=mean(precision[counts.true > 0]))


def camvid(counts: ConfusionCounts) -> Scores:
    """The sum over 11 classes divided by 11: an absent class counts as 0."""
    return _scores(counts, "camvid", mean_over="all", absent=0.0)


def ade20k(counts: ConfusionCounts) -> Scores:
    """The mean over all classes, absent ones as 0, and the mean of mIoU and pixel accuracy that ranks the entries."""
    scores = _scores(counts, "ade20k", mean_over="all", absent=0.0)
    return replace(scores, extra={"score": (scores.miou + scores.pixel_accuracy) / 2})


def mmseg(counts: ConfusionCounts) -> Scores:
    """Sums over the set, then the mean without classes of an empty union."""
    return _scores(counts, "mmseg", mean_over="union")


def paddleseg(counts: ConfusionCounts) -> Scores:
    """A class of an empty union counts as 0; its accuracy divides by what was predicted as a class."""
    scores = _scores(counts, "paddleseg", mean_over="all", absent=0.0)
    predicted = counts.predicted.sum()
    return replace(scores, pixel_accuracy=float(counts.correct.sum() / predicted) if predicted else math.nan)


def ultralytics(counts: ConfusionCounts) -> Scores:
    """A class of an empty union counts as 0 in a plain mean over all classes."""
    return _scores(counts, "ultralytics", mean_over="all", absent=0.0)


def per_image(counts: ConfusionCounts) -> Scores:
    """The mean over pictures of each one's own mIoU over the classes in it: not comparable with any benchmark."""
    return replace(_scores(counts, "per_image", mean_over="union"), miou=counts.per_image_miou)


DIALECTS = {
    "default": Dialect(
        default, "union", "the mean over the classes that occur in the truth or in the prediction", "this project"
    ),
    "cityscapes": Dialect(
        cityscapes,
        "union",
        "as default; a class that is only predicted counts as 0; void predictions on valid pixels are misses",
        "cityscapesScripts 2.3.0, evalPixelLevelSemanticLabeling.py",
    ),
    "voc": Dialect(
        voc,
        "union",
        "the mean over all classes; with an absent class the evaluator itself prints NaN, we leave the class out",
        "VOCdevkit, VOCevalseg.m",
    ),
    "coco21": Dialect(coco21, "union", "as voc: COCO has no server for these 21 classes", "no official evaluator"),
    "bdd100k": Dialect(
        bdd100k,
        "truth",
        "the mean over the classes in the truth only; its class accuracy is precision; a missing file is all misses",
        "bdd100k 1.0.1, eval/seg.py; scalabel 0.3.1, eval/sem_seg.py",
    ),
    "camvid": Dialect(
        camvid, "all", "the mean over all classes; an absent one counts as 0", "SegNet-Tutorial, compute_test_results.m"
    ),
    "ade20k": Dialect(
        ade20k,
        "all",
        "the mean over all classes; an absent one counts as 0; entries are ranked by the mean with pixel accuracy",
        "CSAILVision/sceneparsing, evaluationCode",
    ),
    "mmseg": Dialect(mmseg, "union", "as default", "mmsegmentation 1.2.2, IoUMetric"),
    "paddleseg": Dialect(
        paddleseg,
        "all",
        "the mean over all classes; an absent one counts as 0; pixel accuracy leaves void predictions out",
        "PaddleSeg, paddleseg/utils/metrics.py",
    ),
    "ultralytics": Dialect(
        ultralytics,
        "all",
        "the mean over all classes; an absent one counts as 0",
        "ultralytics pull request 24552 (May 2026)",
    ),
    "per_image": Dialect(
        per_image,
        "union",
        "each picture's own mIoU, averaged over pictures: what torchmetrics' MeanIoU means",
        "torchmetrics 1.9.0, segmentation.MeanIoU",
    ),
}


def dialect_named(name: str) -> Dialect:
    """Raises:
    InputError: nobody knows the name.
    """
    if name not in DIALECTS:
        raise unknown_name("dialect", name, DIALECTS)
    return DIALECTS[name]


def miou_over(
    mean_over: MeanOver,
    correct: npt.NDArray[np.integer],
    true: npt.NDArray[np.integer],
    predicted: npt.NDArray[np.integer],
) -> FloatArray:
    """The mIoU of many sets of counts at once: (..., C) each to (...), NaN where no class counts."""
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
