"""Explanations of why metric protocols give different scores for the same predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imageseg.scoring.counts import ConfusionCounts
from imageseg.scoring.dialects import DIALECTS
from imageseg.scoring.scores import mean, ratio

_LISTED = 5


def explain(counts: ConfusionCounts, names: Sequence[str]) -> list[str]:
    """Return one sentence per cause of different scores in these counts; empty if all protocols agree."""
    correct, true, predicted = counts.correct, counts.true, counts.predicted
    *others, last = [name for name, dialect in DIALECTS.items() if dialect.mean_over == "all"]
    over_all = f"{', '.join(others)} and {last}"
    absent = np.flatnonzero(true + predicted == 0)
    only_predicted = np.flatnonzero((true == 0) & (predicted > 0))
    reasons = []
    if absent.size:
        reasons.append(
            f"{_classes(absent, names)} neither in the ground truth nor in the prediction: {over_all} count "
            f"{_it(absent)} as 0, the others leave {_it(absent)} out"
        )
    if only_predicted.size:
        pixels = int(predicted[only_predicted].sum())
        reasons.append(
            f"{_classes(only_predicted, names)} not in the ground truth but predicted on {pixels:,} pixels: bdd100k leaves "
            f"{_it(only_predicted)} out, the others count {_it(only_predicted)} as 0"
        )
    if missed := int(counts.missed.sum()):
        reasons.append(
            f"{missed:,} valid pixels ({missed / true.sum():.2%}) have a prediction that is no class: all count them as "
            "misses, except for paddleseg's pixel accuracy and bdd100k's class accuracy, which divide by predicted pixels; "
            "the evaluators of Cityscapes and VOC stop at values outside their tables"
        )
    if counts.images > 1:
        reasons.append(
            f"per_image averages the mIoU of {counts.images} images, so a class in one corner of one image weighs as much as "
            "one that fills the set; no benchmark does this"
        )
    recall, precision = mean(ratio(correct, true)), mean(ratio(correct, predicted))
    if abs(recall - precision) > 1e-9:
        reasons.append(
            f"the class accuracy of bdd100k is mean precision ({precision:.3f}), that of the others mean recall "
            f"({recall:.3f})"
        )
    return reasons


def _classes(indices: np.ndarray, names: Sequence[str]) -> str:
    shown = ", ".join(names[index] for index in indices[:_LISTED])
    more = f" and {len(indices) - _LISTED} more" if len(indices) > _LISTED else ""
    return f"{shown}{more} {'is' if len(indices) == 1 else 'are'}"


def _it(indices: np.ndarray) -> str:
    return "it" if len(indices) == 1 else "them"
