"""Counting pairs of values: exact for any values, shapes and sizes, and folded as if each pixel had been looked up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp

from imageseg.scoring import counts as counting
from imageseg.scoring.counts import joint_histogram, sum_columns_by_class

shapes = stnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=9)


@given(st.data())
def test_counts_are_those_of_a_loop(data: st.DataObject) -> None:
    shape = data.draw(shapes)
    true, predicted = (data.draw(stnp.arrays(np.uint8, shape)) for _ in range(2))
    expected = np.zeros((256, 256), int)
    for pair in zip(true.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        expected[pair] += 1
    counts = joint_histogram(true, predicted)
    assert counts.dtype == np.int64
    assert np.array_equal(counts, expected)


def test_mirrored_and_cut_views_count_as_they_look() -> None:
    true = np.arange(60, dtype=np.uint8).reshape(6, 10)[::-1, ::2]
    predicted = np.arange(60, dtype=np.uint8).reshape(6, 10)[:, ::-2]
    counts = joint_histogram(true, predicted)
    assert counts.sum() == 30
    assert counts[true[0, 0], predicted[0, 0]] == 1


def test_counts_stay_exact_beyond_what_a_float_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV counts in float32: 2**24 + 1 pixels of one pair would be 2**24."""
    constant = np.full((4097, 4096), 7, np.uint8)  # one row more than 2**24 pixels
    assert joint_histogram(constant, constant)[7, 7] == constant.size
    monkeypatch.setattr(counting, "_MAX_EXACT", 10)
    rng = np.random.default_rng(0)
    true, predicted = (rng.integers(0, 4, (7, 9), dtype=np.uint8) for _ in range(2))
    in_parts = joint_histogram(true, predicted)
    monkeypatch.undo()
    assert np.array_equal(in_parts, joint_histogram(true, predicted))


@pytest.mark.parametrize(
    ("true", "predicted"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8)),
        (np.zeros(3, np.int64), np.zeros(3, np.uint8)),
        (np.zeros(3, np.uint8), np.zeros(3, np.uint16)),
    ],
)
def test_other_arrays_are_refused(true: np.ndarray, predicted: np.ndarray) -> None:
    with pytest.raises(ValueError, match="two uint8 arrays of one shape"):
        joint_histogram(true, predicted)


@given(
    counts=stnp.arrays(np.int64, (3, 8), elements=st.integers(0, 100)),
    table=stnp.arrays(np.int16, 8, elements=st.sampled_from([-1, 0, 1, 2, 255])),
)
def test_folding_sums_the_columns_of_a_class(counts: np.ndarray, table: np.ndarray) -> None:
    folded = sum_columns_by_class(counts, table, 3)
    assert folded.shape == (3, 4)
    for row in range(3):
        for index in range(3):
            assert folded[row, index] == sum(counts[row, value] for value in range(8) if table[value] == index)
        assert folded[row, 3] == sum(counts[row, value] for value in range(8) if not 0 <= table[value] < 3)
