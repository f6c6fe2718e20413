"""ConfusionMatrix and its scores: by hand, against scikit-learn, against the VOC evaluator, and on real masks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp
from PIL import Image
from sklearn.metrics import confusion_matrix

from imageseg.datasets import build_dataset
from imageseg.errors import InputError
from imageseg.images import read_mask
from imageseg.scoring.confusion import ConfusionMatrix
from imageseg.scoring.scores import Scores

Maps = npt.NDArray[np.uint8]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Waiting for a second processor that is busy takes longer than counting."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _counted(classes: Any, mask: Any, num_classes: int = 3, **arguments: Any) -> ConfusionMatrix:
    confusion = ConfusionMatrix(num_classes, **arguments)
    confusion.update(classes, mask)
    return confusion


# Truth over prediction, 3 classes; 255 is ignored in the truth and a miss in the prediction.
MASK = np.array([[0, 0, 0, 0], [1, 1, 1, 255], [2, 2, 255, 255]], np.uint8)
CLASSES = np.array([[0, 0, 0, 1], [1, 2, 255, 0], [2, 0, 2, 7]], np.uint8)


def test_counts_and_scores_by_hand() -> None:
    confusion = _counted(CLASSES, MASK)
    assert confusion.matrix.tolist() == [[3, 1, 0], [0, 1, 1], [1, 0, 1]]
    assert confusion.matrix.dtype == np.int64
    assert confusion.missed.tolist() == [0, 1, 0]
    scores = confusion.scores()
    # Correct over (true + predicted - correct): 3/5, 1/4, 1/3.
    assert scores.iou.tolist() == pytest.approx([3 / 5, 1 / 4, 1 / 3])
    assert scores.miou == pytest.approx((3 / 5 + 1 / 4 + 1 / 3) / 3)
    assert scores.pixel_accuracy == pytest.approx(5 / 9)
    assert scores.class_accuracy == pytest.approx((3 / 4 + 1 / 3 + 1 / 2) / 3)
    assert scores.fw_iou == pytest.approx(4 / 9 * 3 / 5 + 3 / 9 * 1 / 4 + 2 / 9 * 1 / 3)
    assert scores.images == 1
    assert scores.dialect == "default"


def test_absent_classes_have_no_iou_and_leave_the_mean() -> None:
    scores = _counted(np.array([[0, 0, 3]]), np.array([[0, 3, 3]]), 5).scores()
    assert np.isnan(scores.iou).tolist() == [False, True, True, False, True]
    assert scores.iou[[0, 3]].tolist() == [1 / 2, 1 / 2]
    assert scores.miou == 1 / 2
    assert scores.class_accuracy == 3 / 4


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    scores = _counted(np.array([[0, 1]]), np.array([[0, 0]]), 2).scores()
    assert scores.iou.tolist() == [1 / 2, 0]
    assert scores.miou == 1 / 4
    assert scores.class_accuracy == 1 / 2, "no true pixel, so no accuracy"


def test_a_split_without_any_valid_pixel_has_no_score() -> None:
    scores = _counted(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8)).scores()
    assert np.isnan(scores.iou).all()
    assert all(
        math.isnan(figure) for figure in (scores.miou, scores.pixel_accuracy, scores.class_accuracy, scores.fw_iou)
    )
    assert scores.images == 1
    none = {"a": None, "b": None, "c": None}
    assert scores.to_dict(["a", "b", "c"]) == {
        "dialect": "default",
        "miou": None,
        "iou": none,
        "pixel_accuracy": None,
        "class_accuracy": None,
        "fw_iou": None,
        "mean_dice": None,
        "images": 1,
        "precision": none,
        "recall": none,
        "dice": none,
    }


def test_plain_values_carry_the_class_names() -> None:
    plain = _counted(np.array([[0, 0, 1]]), np.array([[0, 0, 0]]), 3).scores().to_dict(["road", "car", "tree"])
    assert plain["iou"] == {"road": pytest.approx(2 / 3), "car": 0.0, "tree": None}
    assert {type(value) for value in plain["iou"].values()} == {float, type(None)}
    with pytest.raises(ValueError, match="zip"):
        _counted(CLASSES, MASK).scores().to_dict(["road"])


@st.composite
def maps(draw: st.DrawFn, *, count: int = 1) -> tuple[int, list[tuple[Maps, Maps]]]:
    """A number of classes, and pairs of prediction and truth; predictions may be no class, truths may be ignored."""
    num_classes = draw(st.integers(1, 6))
    shape = draw(stnp.array_shapes(min_dims=2, max_dims=2, max_side=9))
    truth = stnp.arrays(np.uint8, shape, elements=st.sampled_from([*range(num_classes), 255]))
    predicted = stnp.arrays(np.uint8, shape, elements=st.integers(0, 255) | st.integers(0, num_classes - 1))
    return num_classes, [(draw(predicted), draw(truth)) for _ in range(count)]


@given(maps())
def test_counts_equal_scikit_learns(case: tuple[int, list[tuple[Maps, Maps]]]) -> None:
    num_classes, [(classes, mask)] = case
    confusion = _counted(classes, mask, num_classes)
    valid = mask != 255
    predicted = np.where(classes < num_classes, classes, num_classes)[valid]
    if valid.any():
        expected = confusion_matrix(mask[valid], predicted, labels=range(num_classes + 1))
        assert np.array_equal(confusion.matrix, expected[:-1, :-1])
        assert np.array_equal(confusion.missed, expected[:-1, -1])
    assert confusion.matrix.sum() + confusion.missed.sum() == valid.sum()


@given(maps(count=3))
def test_scores_stay_within_their_bounds_and_do_not_depend_on_order(
    case: tuple[int, list[tuple[Maps, Maps]]],
) -> None:
    num_classes, pairs = case
    forwards, backwards = ConfusionMatrix(num_classes), ConfusionMatrix(num_classes)
    for pair in pairs:
        forwards.update(*pair)
    for pair in reversed(pairs):
        backwards.update(*pair)
    scores = forwards.scores()
    _assert_same(scores, backwards.scores())
    figures = [scores.miou, scores.pixel_accuracy, scores.class_accuracy, scores.fw_iou, *scores.iou]
    assert all(math.isnan(figure) or 0 <= figure <= 1 for figure in figures)
    assert scores.images == 3


@given(maps(count=3))
def test_merged_parts_batches_and_tensors_all_count_the_same(case: tuple[int, list[tuple[Maps, Maps]]]) -> None:
    num_classes, pairs = case
    singles, parts, tensors = (ConfusionMatrix(num_classes) for _ in range(3))
    for classes, mask in pairs:
        singles.update(classes, mask)
        parts.merge(_counted(classes, mask, num_classes))
        tensors.update(torch.from_numpy(classes), torch.from_numpy(mask).long())
    batch = _counted(np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs]), num_classes)
    restored = ConfusionMatrix(num_classes)
    restored.load_tensor(singles.to_tensor())
    for other in (parts, tensors, batch, restored):
        assert np.array_equal(other.matrix, singles.matrix)
        assert np.array_equal(other.missed, singles.missed)
        assert other.images == singles.images == 3


@given(maps())
def test_scores_are_those_of_the_voc_evaluator_where_every_class_occurs(
    case: tuple[int, list[tuple[Maps, Maps]]],
) -> None:
    num_classes, [(classes, mask)] = case
    classes = np.where(classes < num_classes, classes, 0).astype(np.uint8)  # VOC refuses any other prediction
    # One row in which every class is right once, so that none is absent: VOC's mean has no rule for that.
    width = max(num_classes, mask.shape[1])
    every = np.arange(width, dtype=np.uint8) % num_classes
    padding = ((0, 0), (0, width - mask.shape[1]))
    classes = np.vstack([np.pad(classes, padding), every])
    mask = np.vstack([np.pad(mask, padding, constant_values=255), every])
    found = _counted(classes, mask, num_classes).scores()
    expected = _voc(classes, mask, num_classes)
    assert found.iou.tolist() == pytest.approx(expected.tolist(), rel=1e-12)
    assert found.miou == pytest.approx(expected.mean(), rel=1e-12)


def _voc(classes: Maps, mask: Maps, num_classes: int) -> npt.NDArray[np.float64]:
    """VOCevalseg.m, line by line: ``resim`` is the result, ``gtim`` the truth, indices from 1."""
    num = num_classes
    gtim, resim = mask.astype(float), classes.astype(float)
    locs = gtim < 255
    sumim = 1 + gtim + resim * num
    hs = np.array([np.sum(sumim[locs] == number) for number in range(1, num * num + 1)])
    confcounts = hs.reshape(num, num, order="F")  # columns are the result, as MATLAB fills them
    accuracies = np.zeros(num)
    for j in range(num):
        gtj = confcounts[j, :].sum()
        resj = confcounts[:, j].sum()
        gtjresj = confcounts[j, j]
        accuracies[j] = gtjresj / (gtj + resj - gtjresj)
    return accuracies


def _assert_same(one: Scores, other: Scores) -> None:
    names = [str(index) for index in range(len(one.iou))]
    assert one.to_dict(names) == other.to_dict(names)


def test_perfect_and_hopeless_predictions() -> None:
    mask = np.array([[0, 1, 2, 255]])
    perfect, hopeless = _counted(mask, mask).scores(), _counted((mask + 1) % 3, mask).scores()
    assert (perfect.miou, perfect.pixel_accuracy, perfect.class_accuracy, perfect.fw_iou) == (1, 1, 1, 1)
    assert (hopeless.miou, hopeless.pixel_accuracy, hopeless.class_accuracy, hopeless.fw_iou) == (0, 0, 0, 0)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16, np.uint32, np.int32, np.int64, np.uint64, ">i4"])
def test_any_kind_of_integer_counts_the_same(kind: Any) -> None:
    expected = _counted(CLASSES, MASK)
    assert np.array_equal(_counted(CLASSES.astype(kind), MASK.astype(kind)).matrix, expected.matrix)


def test_negative_predictions_are_misses() -> None:
    confusion = _counted(np.array([[-1, 0]]), np.array([[1, 0]]))
    assert confusion.missed.tolist() == [0, 1, 0]


def test_mirrored_and_read_only_arrays_count_the_same() -> None:
    mirrored = _counted(CLASSES[::-1, ::-1], MASK[::-1, ::-1])
    read_only = np.asarray(Image.fromarray(MASK))
    assert not read_only.flags.writeable
    assert np.array_equal(mirrored.matrix, _counted(CLASSES, read_only).matrix)
    assert np.array_equal(mirrored.matrix, _counted(CLASSES, MASK).matrix)


def test_neither_input_is_changed() -> None:
    classes, mask = torch.from_numpy(CLASSES.copy()), torch.from_numpy(MASK.copy())
    confusion = _counted(classes, mask)
    confusion.matrix[:] = 7
    assert np.array_equal(classes.numpy(), CLASSES)
    assert np.array_equal(mask.numpy(), MASK)
    assert confusion.matrix.sum() == 8


def test_another_index_may_be_ignored() -> None:
    confusion = _counted(np.array([[0, 1, 1]]), np.array([[0, 2, 1]]), 3, ignore_index=2)
    assert confusion.matrix.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_a_truth_that_is_no_class_is_refused_and_not_counted() -> None:
    confusion = ConfusionMatrix(3)
    with pytest.raises(
        ValueError, match=r"the ground truth contains 3, which is neither a class \(0 to 2\) nor ignored"
    ):
        confusion.update(np.zeros((1, 2), np.uint8), np.array([[0, 3]], np.uint8))
    with pytest.raises(ValueError, match="the ground truth contains -1"):
        confusion.update(np.zeros((1, 2), np.uint8), np.array([[0, -1]]))
    assert confusion.matrix.sum() == 0
    assert confusion.images == 0


def test_probabilities_and_other_shapes_are_refused() -> None:
    confusion = ConfusionMatrix(3)
    with pytest.raises(ValueError, match=r"must be integers; apply logits.argmax\(1\) first"):
        confusion.update(np.zeros((2, 2)), np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match=r"prediction \(2, 3\) and ground truth \(3, 2\) differ in shape"):
        confusion.update(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8))


@pytest.mark.parametrize("num_classes", [0, 256])
def test_impossible_numbers_of_classes_are_refused(num_classes: int) -> None:
    with pytest.raises(ValueError, match=f"must be 1 to 255, found {num_classes}"):
        ConfusionMatrix(num_classes)


def test_the_largest_number_of_classes() -> None:
    mask = np.arange(256, dtype=np.uint8)[None]
    confusion = _counted(mask, mask, 255)
    assert np.array_equal(confusion.matrix, np.eye(255))


def test_only_matrices_of_the_same_classes_merge() -> None:
    for other in (ConfusionMatrix(4), ConfusionMatrix(3, ignore_index=254)):
        with pytest.raises(ValueError, match="same num_classes"):
            ConfusionMatrix(3).merge(other)


def test_reset_forgets_everything() -> None:
    confusion = _counted(CLASSES, MASK)
    confusion.reset()
    assert (confusion.matrix.sum(), confusion.missed.sum(), confusion.images) == (0, 0, 0)


def test_an_unknown_dialect_is_answered_with_a_close_one() -> None:
    with pytest.raises(InputError, match=r"no metric protocol is called 'defualt' \(did you mean 'default'\?\)"):
        ConfusionMatrix(3).scores("defualt")


@pytest.mark.samples
def test_camvid_scores_are_those_of_the_official_evaluator(samples: Path) -> None:
    """Figures by a transcription of SegNet's evaluation; the prediction is the truth, rolled by 3 pixels."""
    dataset = build_dataset("CamVid", str(samples / "camvid"))
    confusion, means = ConfusionMatrix(11), []
    pairs = dataset.pairs("val")
    for pair in pairs:
        assert pair.mask is not None
        stored = read_mask(pair.mask)
        rolled = np.roll(stored, 3, axis=1)
        picture = _counted(np.where(rolled == 11, 3, rolled), dataset.labels.encode(stored), 11)
        confusion.merge(picture)
        means.append(picture.scores().miou)
    scores = confusion.scores()
    assert scores.images == len(pairs)
    assert scores.miou == pytest.approx(0.763532, abs=5e-7)
    assert scores.pixel_accuracy == pytest.approx(0.953149, abs=5e-7)
    assert scores.class_accuracy == pytest.approx(0.833062, abs=5e-7)
    assert np.mean(means) == pytest.approx(0.743873, abs=5e-7), "the mean over pictures, which is the usual mistake"
