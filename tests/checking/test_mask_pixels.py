"""Value facts against a plain second implementation, and against cases counted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imageseg.checking.mask_pixels import MAX_VALUES, int_to_rgb, pixel_facts, rgb_array_to_ints, rgb_to_int


def reference_counts(mask: np.ndarray) -> dict[int, tuple[int, int, int]]:
    """Value -> pixels, inner, between: one pixel at a time."""
    found: dict[int, list[int]] = {}
    height, width = mask.shape
    for y in range(height):
        for x in range(width):
            around = mask[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            row = found.setdefault(int(mask[y, x]), [0, 0, 0])
            row[0] += 1
            row[1] += bool((around == mask[y, x]).all())
            row[2] += bool((around < mask[y, x]).any() and (around > mask[y, x]).any())
    return {value: tuple(row) for value, row in found.items()}  # type: ignore[misc]


@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 6),
    st.sampled_from([np.uint8, np.uint16, np.int32]),
    st.data(),
)
def test_counts_equal_those_of_a_plain_loop(
    height: int, width: int, kinds: int, dtype: type, data: st.DataObject
) -> None:
    generator = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    values = generator.choice(200 if dtype is np.uint8 else 60_000, kinds, replace=False).astype(dtype)
    mask = np.repeat(values[generator.integers(kinds, size=(height, (width + 1) // 2))], 2, axis=1)[:, :width]
    facts = pixel_facts(mask)
    assert {value.value: tuple(value[1:]) for value in facts.values} == reference_counts(mask)
    assert facts.distinct == len(np.unique(mask))
    assert facts.flat == pytest.approx(sum(value.inner for value in facts.values) / mask.size)


def test_a_blended_border_is_recognized() -> None:
    hard = np.repeat(np.array([[3, 3, 3, 3, 9, 9, 9, 9]], np.uint8), 5, axis=0)
    soft = np.repeat(np.array([[3, 3, 3, 5, 7, 9, 9, 9]], np.uint8), 5, axis=0)
    assert pixel_facts(hard).blended == 0
    assert pixel_facts(soft).blended == 10 / 20  # four columns are borders, two of them blends
    by_value = {value.value: value for value in pixel_facts(soft).values}
    assert by_value[5].is_blend
    assert by_value[7].is_blend
    assert not by_value[3].is_thin
    assert not by_value[9].is_blend


def test_a_thin_line_of_the_highest_value_is_no_blend() -> None:
    mask = np.zeros((9, 9), np.uint8)
    mask[:, 4] = 255  # as VOC's border around objects
    (_, line) = pixel_facts(mask).values
    assert line.is_thin
    assert not line.is_blend


def test_colors_are_counted_as_integers() -> None:
    colors = np.zeros((4, 6, 3), np.uint8)
    colors[:, 3:] = 1, 2, 3
    facts = pixel_facts(colors)
    assert [(int_to_rgb(value.value), value.pixels, value.inner) for value in facts.values] == [
        ((0, 0, 0), 12, 8),
        ((1, 2, 3), 12, 8),
    ]
    assert int_to_rgb(int(rgb_array_to_ints(colors)[0, 5])) == (1, 2, 3)
    assert rgb_to_int((1, 2, 3)) == rgb_array_to_ints(colors)[0, 5]


def test_touching_values_are_recorded_for_few_values_only() -> None:
    mask = np.array([[1, 1, 3, 2]] * 2, np.uint8)
    assert pixel_facts(mask).touching == {(1, 3), (2, 3)}
    assert pixel_facts(np.arange(9, dtype=np.uint8).reshape(3, 3)).touching == frozenset()


def test_only_the_most_frequent_values_of_a_photo_are_kept() -> None:
    mask = np.arange(1000, dtype=np.uint16).reshape(20, 50)
    mask[0, :9] = 999
    facts = pixel_facts(mask)
    assert facts.distinct == 991
    assert len(facts.values) == MAX_VALUES
    assert facts.values[-1].value == 999
    assert facts.flat < 0.01
