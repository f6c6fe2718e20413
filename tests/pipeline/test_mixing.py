"""Mixing: whole classes and whole things, image and mask together, as often as asked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from whole_pair import WholePair

from imageseg.errors import InputError
from imageseg.pipeline.augment import Augmentation
from imageseg.pipeline.epoch_order import Draw
from imageseg.pipeline.mixing import Mixing, half_of_classes, paste, rare_objects
from imageseg.pipeline.stream import AugmentedSamples

Array = npt.NDArray[np.uint8]


def _crop(seed: int, *, offset: int = 0) -> tuple[Array, Array]:
    """A crop whose image shows its mask, and whose classes nobody else's offset has."""
    coarse = np.random.default_rng(seed).integers(offset, offset + 6, (6, 8), np.uint8)
    mask = np.kron(coarse, np.ones((4, 4), np.uint8))
    mask[0, :5] = 255
    return np.stack([mask] * 3, axis=-1), mask


@given(st.integers(0, 9999))
def test_half_of_the_classes_come_over_whole(seed: int) -> None:
    image, mask = _crop(seed)
    other_image, other = _crop(seed + 1, offset=20)
    before = mask.copy()
    where = half_of_classes(other, np.random.default_rng(seed))
    paste((image, mask), (other_image, other), where)
    present = set(np.unique(other)) - {255}
    taken = {value for value in present if where[other == value].any()}
    assert len(taken) == (len(present) + 1) // 2
    assert where[np.isin(other, list(taken))].all()
    assert not where[other == 255].any()
    assert np.array_equal(mask, np.where(where, other, before))
    assert np.array_equal(image, np.stack([mask] * 3, axis=-1))


@pytest.mark.parametrize(("classes", "taken"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_of_an_odd_number_of_classes_more_than_half_come_over(classes: int, taken: int) -> None:
    mask = np.arange(20, dtype=np.uint8).reshape(4, 5) % classes
    where = half_of_classes(mask, np.random.default_rng(0))
    assert len(np.unique(mask[where])) == taken


def test_each_class_comes_over_as_often() -> None:
    _, mask = _crop(3)
    counts = np.zeros(6)
    for seed in range(400):
        counts[np.unique(mask[half_of_classes(mask, np.random.default_rng(seed))])] += 1
    assert counts.sum() == 1200
    assert np.abs(counts - 200).max() < 45


def test_of_a_crop_without_labels_nothing_comes_over() -> None:
    nothing = np.full((8, 9), 255, np.uint8)
    for choose in (half_of_classes, rare_objects):
        assert not choose(nothing, np.random.default_rng(0)).any()


def test_objects_of_rare_classes_come_over_whole_and_each_for_itself() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[:, 50:] = 1  # half of the image: not rare
    mask[10:15, 10:15] = mask[30:36, 30:35] = 2  # two things
    mask[60:65, 60:65] = 3
    mask[80:83, 80:83] = 4  # a splinter of 9 pixels
    mask[90, 90:] = 255
    things = [np.s_[10:15, 10:15], np.s_[30:36, 30:35], np.s_[60:65, 60:65]]
    taken = []
    for seed in range(300):
        where = rare_objects(mask, np.random.default_rng(seed))
        assert not where[np.isin(mask, (0, 1, 4, 255))].any()
        assert all(where[thing].all() or not where[thing].any() for thing in things)
        taken.append([where[thing].any() for thing in things])
    shares = np.mean(taken, axis=0)
    assert (np.abs(shares - 0.5) < 0.1).all()
    assert np.abs(np.corrcoef(np.array(taken).T) - np.eye(3)).max() < 0.2


def test_a_class_that_fills_a_twentieth_is_not_rare() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[0, :] = 1
    assert not any(rare_objects(mask, np.random.default_rng(seed)).any() for seed in range(20))
    mask[0, 0] = 0
    assert any(rare_objects(mask, np.random.default_rng(seed)).any() for seed in range(20))


@pytest.mark.parametrize(("class_mix", "copy_paste"), [(0, 0), (1, 0), (0, 1), (1, 1), (0.3, 0.6)])
def test_crops_are_mixed_as_often_as_asked(class_mix: float, copy_paste: float) -> None:
    mixing = Mixing(class_mix=class_mix, copy_paste=copy_paste)
    drawn = [list(mixing.selections(np.random.default_rng(seed))) for seed in range(500)]
    for way, chance in ((half_of_classes, class_mix), (rare_objects, copy_paste)):
        assert abs(np.mean([way in ways for ways in drawn]) - chance) < 0.07 * (0 < chance < 1) + 1e-9


def test_the_two_ways_are_drawn_independently() -> None:
    mixing = Mixing(class_mix=0.5, copy_paste=0.5)
    counts = [len(list(mixing.selections(np.random.default_rng(seed)))) for seed in range(600)]
    assert all(abs(counts.count(count) - expected) < 50 for count, expected in ((0, 150), (1, 300), (2, 150)))


@pytest.mark.parametrize("arguments", [{"class_mix": 1.1}, {"copy_paste": -0.1}])
def test_impossible_chances_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(InputError, match="class_mix and copy_paste must be between 0 and 1"):
        Augmentation(**arguments)  # type: ignore[arg-type]


class _Crops:
    """Each sample is a class of its own."""

    def __len__(self) -> int:
        return 40

    def name(self, index: int) -> str:
        return str(index)

    def open(self, index: int) -> WholePair:
        mask = np.full((16, 16), index, np.uint8)
        mask[:, 8:] = 100 + index
        return WholePair(np.stack([mask] * 3, axis=-1), mask)


def _mixed(mixing: Mixing, seed: int = 1) -> list[tuple[Array, Array]]:
    transform = Augmentation(crop_size=(16, 16), scale=(1.0, 1.0), flip=0, color_jitter=0)
    samples = AugmentedSamples(_Crops(), transform, seed=seed, mixing=mixing)
    found = [samples[Draw(0, index)] for index in range(40)]
    return [(sample["image"].numpy(), sample["mask"].numpy()) for sample in found]


def test_samples_are_mixed_with_any_others_by_seed_epoch_and_index_alone() -> None:
    mixing = Mixing(class_mix=0.5)
    once = _mixed(mixing)
    partners = set()
    for index, (image, mask) in enumerate(once):
        assert (image == mask).all()
        others = set(np.unique(mask)) - {index, 100 + index}
        assert len(others) <= 1
        partners |= {value % 100 for value in others}
    assert 10 < len(partners) <= 20
    for (image, mask), (again, labels) in zip(once, _mixed(mixing), strict=True):
        assert np.array_equal(image, again)
        assert np.array_equal(mask, labels)
    assert any(not np.array_equal(mask, other) for (_, mask), (_, other) in zip(once, _mixed(mixing, 2), strict=True))


def test_without_mixing_samples_stay_themselves() -> None:
    for index, (_, mask) in enumerate(_mixed(Mixing())):
        assert set(np.unique(mask)) == {index, 100 + index}
