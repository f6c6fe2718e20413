"""Categories and instances of Cityscapes: by hand, and against a second writing of the evaluator in its own label ids."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp

from imageseg.scoring.cityscapes_instances import CATEGORIES, LABEL_IDS, InstanceCounts, label_ids
from imageseg.scoring.confusion import ConfusionMatrix
from imageseg.scoring.scores import Scores

Map = npt.NDArray[Any]
ROAD, POLE, CARAVAN = 7, 17, 29
PERSON, RIDER, CAR, TRUCK, BICYCLE = 24, 25, 26, 27, 33
SIZES = {24: 3462.4756337644, 25: 3930.4788056518, 26: 12794.0202738185, 27: 27855.1264367816}
SIZES |= {28: 35732.1511111111, 31: 67583.7075812274, 32: 6298.7200839748, 33: 4672.3249222261}
CLASS_OF = np.full(256, 255, np.uint8)
CLASS_OF[list(LABEL_IDS)] = range(19)


def scored(*pictures: tuple[Map, Map, Map]) -> Scores:
    """Of (prediction, truth, instances), all in label ids."""
    confusion = ConfusionMatrix(19)
    confusion.instances = InstanceCounts()
    for predicted, true, instances in pictures:
        confusion.update(CLASS_OF[predicted], CLASS_OF[true])
        confusion.instances.update(predicted.astype(np.uint8), true.astype(np.uint8), instances)
    return confusion.scores("cityscapes")


def test_by_hand() -> None:
    """Two cars of 4 and 2 pixels, a person of 2; the large car is half found, the small one wholly, the person a rider."""
    true = np.array([[CAR, CAR, CAR, CAR, CAR, CAR, PERSON, PERSON, ROAD, ROAD, 0, 0]])
    instances = np.array([[26000, 26000, 26000, 26000, 26001, 26001, 24000, 24000, ROAD, ROAD, 0, 0]])
    predicted = np.array([[CAR, CAR, ROAD, TRUCK, CAR, CAR, RIDER, RIDER, CAR, ROAD, CAR, 0]])
    scores = scored((predicted, true, instances))
    large, small = SIZES[CAR] / 4, SIZES[CAR] / 2
    found, lost, wrong = 2 * large + 2 * small, 2 * large, 1  # the car on void does not count
    instance_iou = scores.extra["instance_iou"]
    assert isinstance(instance_iou, dict)
    assert instance_iou["car"] == pytest.approx(found / (found + lost + wrong))
    assert instance_iou["person"] == 0
    assert math.isnan(instance_iou["bus"])
    assert instance_iou["rider"] == 0, "predicted on two pixels, true on none"
    assert instance_iou["truck"] == 0
    assert scores.extra["iiou"] == pytest.approx(instance_iou["car"] / 4)
    by_category = scores.extra["category_instance_iou"]
    assert isinstance(by_category, dict)
    found, lost = 3 * large + 2 * small, large  # the truck is a vehicle as well
    assert by_category["vehicle"] == pytest.approx(found / (found + lost + 1))
    assert by_category["human"] == 1
    categories = scores.extra["category_iou"]
    assert isinstance(categories, dict)
    assert categories["vehicle"] == pytest.approx(5 / 7)
    assert categories["human"] == 1
    assert categories["flat"] == pytest.approx(1 / 3)
    assert math.isnan(categories["sky"])
    assert scores.extra["category_miou"] == pytest.approx((5 / 7 + 1 + 1 / 3) / 3)


def test_groups_have_no_instance() -> None:
    true = np.full((1, 4), CAR)
    group = scored((true, true, true)).extra["instance_iou"]
    assert isinstance(group, dict)
    assert math.isnan(group["car"])


def test_a_caravan_is_a_vehicle_and_no_class() -> None:
    true, instances = np.array([[CAR, CAR, ROAD]]), np.array([[26000, 26000, ROAD]])
    scores = scored((np.array([[CARAVAN, CARAVAN, CARAVAN]]), true, instances))
    by_category = scores.extra["category_instance_iou"]
    assert isinstance(by_category, dict)
    weighted = SIZES[CAR]
    assert by_category["vehicle"] == pytest.approx(weighted / (weighted + 1)), "the caravan on the road is wrong"
    assert scores.extra["category_iou"]["vehicle"] == 0  # type: ignore[index]
    assert scores.miou == 0


def test_without_instances_there_is_no_iiou() -> None:
    confusion = ConfusionMatrix(19)
    confusion.update(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8))
    plain = confusion.scores("cityscapes").to_dict([str(index) for index in range(19)])
    assert plain["iiou"] is None
    assert plain["category_miou"] == 1


def test_other_numbers_of_classes_have_no_categories() -> None:
    confusion = ConfusionMatrix(5)
    confusion.update(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8))
    assert confusion.scores("cityscapes").extra == {}
    assert confusion.scores("cityscapes").miou == 1


def test_categories_hold_every_class_once() -> None:
    assert sorted(index for members in CATEGORIES.values() for index in members) == list(range(19))
    assert label_ids(np.array([[0, 13, 18, 255]], np.uint8)).tolist() == [[7, 26, 33, 0]]


@st.composite
def frames(draw: st.DrawFn) -> list[tuple[Map, Map, Map]]:
    """Small frames of any label ids, voids and caravans in the prediction too, with instances of some ids."""
    ids = draw(st.lists(st.integers(0, 33), min_size=2, max_size=8, unique=True))
    drawn = []
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(stnp.array_shapes(min_dims=2, max_dims=2, max_side=7))
        true, predicted = (
            draw(stnp.arrays(np.int64, shape, elements=st.sampled_from([*ids, PERSON, CAR]))) for _ in range(2)
        )
        if draw(st.booleans()):
            predicted = np.where(draw(stnp.arrays(bool, shape)), CARAVAN, predicted)
        number = draw(stnp.arrays(np.int64, shape, elements=st.integers(-1, 2)))
        single = np.isin(true, [*range(24, 34)]) & (number >= 0)
        drawn.append((predicted, true, np.where(single, 1000 * true + number, true)))
    return drawn


@given(frames())
def test_every_figure_is_the_evaluators(drawn: list[tuple[Map, Map, Map]]) -> None:
    expected = Evaluator()
    for frame in drawn:
        expected.add(*frame)
    scores = scored(*drawn)
    assert scores.miou == pytest.approx(expected.class_mean(), abs=1e-12, nan_ok=True)
    for name, found in (
        ("category_miou", expected.category_mean()),
        ("iiou", expected.instance_mean()),
        ("category_iiou", expected.instance_category_mean()),
    ):
        assert scores.extra[name] == pytest.approx(found, abs=1e-9, nan_ok=True), name


@given(frames())
def test_instances_merge_to_what_one_would_have_counted(drawn: list[tuple[Map, Map, Map]]) -> None:
    whole, parts = InstanceCounts(), InstanceCounts()
    for predicted, true, instances in drawn:
        frame = (predicted.astype(np.uint8), true.astype(np.uint8), instances)
        whole.update(*frame)
        part = InstanceCounts()
        part.update(*frame)
        parts.merge(part)
    for name in ("found", "lost", "found_in_category", "lost_in_category", "unscored"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name))


class Evaluator:
    """A 34 x 34 matrix of label ids, loops over instances: the way of the official tool, from its description."""

    ignored = frozenset({0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30})
    groups = (
        (7, 8, 9, 10),
        (11, 12, 13, 14, 15, 16),
        (17, 18, 19, 20),
        (21, 22),
        (23,),
        (24, 25),
        (26, 27, 28, 29, 30, 31, 32, 33),
    )

    def __init__(self) -> None:
        self.matrix = np.zeros((34, 34))
        self.found = dict.fromkeys(SIZES, 0.0)
        self.lost = dict.fromkeys(SIZES, 0.0)
        self.group_found = {5: 0.0, 6: 0.0}
        self.group_lost = {5: 0.0, 6: 0.0}

    def add(self, predicted: Map, true: Map, instances: Map) -> None:
        for pair in zip(true.ravel(), predicted.ravel(), strict=True):
            self.matrix[pair] += 1
        for name in np.unique(instances[instances > 1000]):
            label = int(name) // 1000
            if label in self.ignored:
                continue
            inside = predicted[instances == name]
            weight = SIZES[label] / inside.size
            right = (inside == label).sum()
            self.found[label] += weight * right
            self.lost[label] += weight * (inside.size - right)
            group = next(index for index, members in enumerate(self.groups) if label in members)
            right = np.isin(inside, self.groups[group]).sum()
            self.group_found[group] += weight * right
            self.group_lost[group] += weight * (inside.size - right)

    def class_mean(self) -> float:
        return self._mean([self._iou([label], [label]) for label in LABEL_IDS])

    def category_mean(self) -> float:
        scored = [[label for label in members if label not in self.ignored] for members in self.groups]
        return self._mean([self._iou(members, members) for members in scored])

    def instance_mean(self) -> float:
        values = []
        for label in SIZES:
            wrong = self._rows_but([label])[:, label].sum()
            values.append(self._ratio(self.found[label], self.found[label] + self.lost[label] + wrong))
        return self._mean(values)

    def instance_category_mean(self) -> float:
        values = []
        for group in self.group_found:
            members = list(self.groups[group])
            wrong = self._rows_but(members)[:, members].sum()
            found, lost = self.group_found[group], self.group_lost[group]
            values.append(self._ratio(found, found + lost + wrong))
        return self._mean(values)

    def _iou(self, rows: list[int], columns: list[int]) -> float:
        right = self.matrix[np.ix_(rows, columns)].sum()
        return self._ratio(right, self.matrix[rows].sum() + self._rows_but(rows)[:, columns].sum())

    def _rows_but(self, rows: list[int]) -> Map:
        return self.matrix[[label for label in range(34) if label not in self.ignored and label not in rows]]

    @staticmethod
    def _ratio(part: float, whole: float) -> float:
        return part / whole if whole else math.nan

    @staticmethod
    def _mean(values: list[float]) -> float:
        defined = [value for value in values if not math.isnan(value)]
        return sum(defined) / len(defined) if defined else math.nan
