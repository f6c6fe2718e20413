"""Metrics that only the Cityscapes evaluator reports: category IoU and instance-weighted IoU."""

from __future__ import annotations

import numpy as np

from imageseg.scoring.cityscapes_instances import AVERAGE_SIZES, CATEGORIES, INSTANCE_CATEGORIES, LABEL_IDS
from imageseg.scoring.counts import ConfusionCounts
from imageseg.scoring.scores import mean


def cityscapes_extra(counts: ConfusionCounts) -> dict[str, float | dict[str, float]]:
    """Compute category IoU and, if instances were counted, iIoU; empty unless there are exactly 19 classes."""
    if len(counts.matrix) != len(LABEL_IDS):
        return {}
    by_category = {name: _category_iou(counts, members) for name, members in CATEGORIES.items()}
    extra: dict[str, float | dict[str, float]] = {
        "category_miou": mean(list(by_category.values())),
        "category_iou": by_category,
    }
    if counts.instances is None:
        return extra | {"iiou": float("nan")}
    by_class = {name: _instance_iou(counts, index) for index, (name, _) in AVERAGE_SIZES.items()}
    by_instance_category = {name: _instance_category_iou(counts, name) for name in INSTANCE_CATEGORIES}
    return extra | {
        "iiou": mean(list(by_class.values())),
        "instance_iou": by_class,
        "category_iiou": mean(list(by_instance_category.values())),
        "category_instance_iou": by_instance_category,
    }


def _category_iou(counts: ConfusionCounts, members: tuple[int, ...]) -> float:
    right = counts.matrix[np.ix_(members, members)].sum()
    true = counts.true[list(members)].sum()
    predicted = counts.predicted[list(members)].sum()
    return _iou(float(right), float(true - right), float(predicted - right))


def _instance_iou(counts: ConfusionCounts, index: int) -> float:
    assert counts.instances is not None
    wrong = counts.predicted[index] - counts.correct[index]
    return _iou(float(counts.instances.found[index]), float(counts.instances.lost[index]), float(wrong))


def _instance_category_iou(counts: ConfusionCounts, category: str) -> float:
    assert counts.instances is not None
    row, members = INSTANCE_CATEGORIES.index(category), list(CATEGORIES[category])
    others = [index for index in range(len(LABEL_IDS)) if index not in members]
    wrong = counts.matrix[np.ix_(others, members)].sum() + counts.instances.unscored[row, others].sum()
    found, lost = counts.instances.found_in_category[row], counts.instances.lost_in_category[row]
    return _iou(float(found), float(lost), float(wrong))


def _iou(found: float, lost: float, wrong: float) -> float:
    total = found + lost + wrong
    return found / total if total else float("nan")
