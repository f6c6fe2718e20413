"""Dialects: by hand on one matrix in which they all differ, and each against a second writing of its evaluator."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp
from torchmetrics.segmentation import MeanIoU

from imageseg.scoring.confusion import ConfusionMatrix
from imageseg.scoring.dialects import DIALECTS, miou_over
from imageseg.scoring.explain import explain

# Five classes: two that are there, one that is only predicted, one that is in neither, one whose truth is all missed.
# 100 pixels: 40 of class 0 (32 right, 4 taken for 1, 4 for 2), 40 of class 1 (38 right, 2 no class), 20 of class 4 (10
# right, 10 no class).
MASK = np.repeat([0, 1, 4], [40, 40, 20])[None].astype(np.uint8)
CLASSES = np.repeat([0, 1, 2, 1, 255, 4, 99], [32, 4, 4, 38, 2, 10, 10])[None].astype(np.uint8)
IOU = (32 / 40, 38 / 44, 0.0, math.nan, 10 / 20)


def toy() -> ConfusionMatrix:
    confusion = ConfusionMatrix(5)
    confusion.update(CLASSES, MASK)
    return confusion


@pytest.mark.parametrize(
    ("dialect", "miou"),
    [
        ("default", sum(IOU[:3] + IOU[4:]) / 4),
        ("cityscapes", sum(IOU[:3] + IOU[4:]) / 4),
        ("voc", sum(IOU[:3] + IOU[4:]) / 4),
        ("coco21", sum(IOU[:3] + IOU[4:]) / 4),
        ("mmseg", sum(IOU[:3] + IOU[4:]) / 4),
        ("bdd100k", (IOU[0] + IOU[1] + IOU[4]) / 3),
        ("camvid", sum(IOU[:3] + IOU[4:]) / 5),
        ("ade20k", sum(IOU[:3] + IOU[4:]) / 5),
        ("paddleseg", sum(IOU[:3] + IOU[4:]) / 5),
        ("ultralytics", sum(IOU[:3] + IOU[4:]) / 5),
        ("per_image", sum(IOU[:3] + IOU[4:]) / 4),
    ],
)
def test_one_matrix_by_every_dialect(dialect: str, miou: float) -> None:
    scores = toy().scores(dialect)
    assert scores.dialect == dialect
    assert scores.miou == pytest.approx(miou, abs=1e-12)
    assert scores.iou[[0, 1, 2, 4]].tolist() == pytest.approx([IOU[0], IOU[1], IOU[2], IOU[4]])
    zero = dialect in ("bdd100k", "camvid", "ade20k", "paddleseg", "ultralytics")
    assert scores.iou[3] == 0 if zero else np.isnan(scores.iou[3])


def test_every_dialect_is_in_the_table_above() -> None:
    (mark,) = test_one_matrix_by_every_dialect.pytestmark  # type: ignore[attr-defined]
    assert {row[0] for row in mark.args[1]} == set(DIALECTS)


def test_their_accuracies_differ_too() -> None:
    recall = (32 / 40 + 38 / 40 + 10 / 20) / 3
    precision_of_the_true = (32 / 32 + 38 / 42 + 10 / 10) / 3
    assert toy().scores().class_accuracy == pytest.approx(recall)
    assert toy().scores("bdd100k").class_accuracy == pytest.approx(precision_of_the_true)
    assert toy().scores().pixel_accuracy == pytest.approx(80 / 100)
    assert toy().scores("paddleseg").pixel_accuracy == pytest.approx(80 / 88)
    score = toy().scores("ade20k").extra["score"]
    assert score == pytest.approx((toy().scores("ade20k").miou + 80 / 100) / 2)


def test_precision_recall_and_dice_by_hand() -> None:
    scores = toy().scores()
    assert scores.precision[[0, 1, 2, 4]].tolist() == pytest.approx([1, 38 / 42, 0, 1])
    assert np.isnan(scores.precision[3])
    assert scores.recall[[0, 1, 4]].tolist() == pytest.approx([32 / 40, 38 / 40, 10 / 20])
    assert np.isnan(scores.recall[[2, 3]]).all()
    assert scores.dice[[0, 1, 2, 4]].tolist() == pytest.approx([64 / 72, 76 / 82, 0, 20 / 30])
    assert scores.mean_dice == pytest.approx((64 / 72 + 76 / 82 + 20 / 30) / 4)


def test_how_far_apart_they_can_be() -> None:
    """Half of four classes predicted well, one that is only predicted, one absent: one set of predictions, 0.4 to 0.8."""
    confusion = ConfusionMatrix(4)
    confusion.update(
        np.repeat([0, 2, 1, 2], [79, 21, 79, 21])[None], np.repeat([0, 1], [100, 100])[None].astype(np.uint8)
    )
    figures = {dialect: round(confusion.scores(dialect).miou, 3) for dialect in DIALECTS}
    assert figures["bdd100k"] == 0.79
    assert figures["cityscapes"] == figures["voc"] == figures["mmseg"] == 0.527
    assert figures["paddleseg"] == figures["ultralytics"] == figures["camvid"] == 0.395


Pictures = list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]


@st.composite
def pictures(draw: st.DrawFn) -> tuple[int, Pictures]:
    """Classes, of which some are absent, and images of different sizes; predictions may be no class."""
    num_classes = draw(st.integers(2, 6))
    there = draw(st.lists(st.sampled_from(range(num_classes)), min_size=1, max_size=num_classes, unique=True))
    drawn = []
    for _ in range(draw(st.integers(1, 4))):
        shape = draw(stnp.array_shapes(min_dims=2, max_dims=2, max_side=8))
        mask = draw(stnp.arrays(np.uint8, shape, elements=st.sampled_from([*there, 255])))
        classes = draw(stnp.arrays(np.uint8, shape, elements=st.sampled_from([*range(num_classes), 77, 255])))
        drawn.append((classes, mask))
    return num_classes, drawn


def counted(num_classes: int, drawn: Pictures) -> ConfusionMatrix:
    confusion = ConfusionMatrix(num_classes)
    for classes, mask in drawn:
        confusion.update(classes, mask)
    return confusion


@given(pictures())
def test_bdd100k_is_its_toolkits_histogram(case: tuple[int, Pictures]) -> None:
    """One more class for what is ignored; the mean runs over the classes that some truth holds."""
    num_classes, drawn = case
    size = num_classes + 1
    hist, present = np.zeros((size, size)), set[int]()
    for classes, mask in drawn:
        for true, predicted in zip(mask.ravel(), classes.ravel(), strict=True):
            if true < num_classes:
                hist[true, min(predicted, num_classes)] += 1
                present.add(int(true))
    if not present:
        return
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = np.nan_to_num(np.diag(hist) / (hist.sum(1) + hist.sum(0) - np.diag(hist)))[:-1]
        acc = np.nan_to_num(np.diag(hist) / hist.sum(0))[:-1]
    rows = hist[:-1]
    scores = counted(num_classes, drawn).scores("bdd100k")
    assert scores.iou.tolist() == pytest.approx(iou.tolist(), abs=1e-12)
    assert scores.miou == pytest.approx(iou[list(present)].mean(), abs=1e-12)
    assert scores.class_accuracy == pytest.approx(acc[list(present)].mean(), abs=1e-12)
    assert scores.pixel_accuracy == pytest.approx(np.diag(rows).sum() / rows.sum(), abs=1e-12)
    assert scores.fw_iou == pytest.approx((iou * rows.sum(1) / rows.sum()).sum(), abs=1e-12)


@given(pictures())
def test_mmseg_and_paddleseg_are_sums_of_areas(case: tuple[int, Pictures]) -> None:
    num_classes, drawn = case
    areas = np.zeros((3, num_classes))
    for classes, mask in drawn:
        valid = mask != 255
        for index in range(num_classes):
            areas[:, index] += [
                ((classes == index) & (mask == index)).sum(),
                ((classes == index) & valid).sum(),
                (mask == index).sum(),
            ]
    intersect, predicted, label = areas
    union = predicted + label - intersect
    if not label.sum():
        return
    there = union > 0
    confusion = counted(num_classes, drawn)
    assert confusion.scores("mmseg").miou == pytest.approx((intersect[there] / union[there]).mean(), abs=1e-12)
    zeroed = np.where(there, intersect / np.maximum(union, 1), 0)
    assert confusion.scores("paddleseg").miou == pytest.approx(zeroed.mean(), abs=1e-12)
    if predicted.sum():
        accuracy = confusion.scores("paddleseg").pixel_accuracy
        assert accuracy == pytest.approx(intersect.sum() / predicted.sum(), abs=1e-12)


@given(pictures())
def test_per_image_is_torchmetrics_mean_iou_where_that_has_a_value(case: tuple[int, Pictures]) -> None:
    """It knows no ignored pixels and no predictions that are no class: both are replaced first."""
    num_classes, drawn = case
    plain = [(np.where(c < num_classes, c, 0).astype(np.uint8), np.where(m < 255, m, 0)) for c, m in drawn]
    means = []
    for classes, mask in plain:
        metric = MeanIoU(num_classes=num_classes, input_format="index")
        metric.update(*(torch.from_numpy(values).long()[None] for values in (classes, mask)))
        means.append(float(metric.compute()))
    assert counted(num_classes, plain).scores("per_image").miou == pytest.approx(np.mean(means), abs=1e-6)


@given(pictures())
def test_the_mean_over_images_does_not_depend_on_their_order_or_on_who_counted(case: tuple[int, Pictures]) -> None:
    num_classes, drawn = case
    forwards, backwards = counted(num_classes, drawn), counted(num_classes, drawn[::-1])
    merged = counted(num_classes, drawn[:1]).merge(counted(num_classes, drawn[1:]))
    moved = ConfusionMatrix(num_classes)
    moved.load_tensor(forwards.to_tensor())
    for other in (backwards, merged, moved):
        assert other.counts().per_image_miou == forwards.counts().per_image_miou or math.isnan(
            forwards.counts().per_image_miou
        )


@given(pictures(), st.sampled_from(["union", "truth", "all"]))
def test_many_counts_at_once_give_the_same_means_as_one_by_one(case: tuple[int, Pictures], over: str) -> None:
    num_classes, drawn = case
    counts = [counted(num_classes, [picture]).counts() for picture in drawn]
    stacked = [np.stack([getattr(entry, name) for entry in counts]) for name in ("correct", "true", "predicted")]
    dialect = {"union": "default", "truth": "bdd100k", "all": "camvid"}[over]
    expected = [counted(num_classes, [picture]).scores(dialect).miou for picture in drawn]
    for found, wanted, entry in zip(miou_over(over, *stacked), expected, counts, strict=True):  # type: ignore[arg-type]
        if entry.true.sum():
            assert found == pytest.approx(wanted, nan_ok=True)


def test_the_explanation_names_what_is_there() -> None:
    reasons = "\n".join(explain(toy().counts(), ["road", "car", "cat", "dog", "bus"]))
    assert (
        "dog is neither in the ground truth nor in the prediction: camvid, ade20k, paddleseg and ultralytics count"
        in reasons
    )
    assert "cat is not in the ground truth but predicted on 4 pixels: bdd100k leaves it out" in reasons
    assert "12 valid pixels (12.00%) have a prediction that is no class" in reasons
    assert "mean precision (" in reasons


def test_nothing_to_explain_where_nothing_differs() -> None:
    confusion = ConfusionMatrix(2)
    confusion.update(np.array([[0, 1]]), np.array([[0, 1]]))
    assert explain(confusion.counts(), ["a", "b"]) == []
    assert {round(confusion.scores(name).miou, 12) for name in DIALECTS} == {1.0}
