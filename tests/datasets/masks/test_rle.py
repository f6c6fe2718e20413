"""Run lengths against pycocotools, and hostile ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from imageseg.datasets.masks.rle import ends_of, ends_of_strings, paint_runs

masks = arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 1))


def decoded(ends, shape):
    buffer = bytearray(shape[0] * shape[1])
    paint_runs(buffer, ends.tolist(), 1)
    return np.frombuffer(buffer, np.uint8).reshape(shape[1], shape[0]).T


def compressed(mask):
    return coco_mask.encode(np.asfortranarray(mask))["counts"]


@given(st.lists(masks, min_size=1, max_size=5))
def test_strings_decode_to_the_mask_that_pycocotools_encoded(drawn):
    for mask in drawn:
        for counts in (compressed(mask), compressed(mask).decode()):
            np.testing.assert_array_equal(decoded(ends_of(counts, mask.size), mask.shape), mask)
    same = [mask for mask in drawn if mask.size == drawn[0].size]
    for mask, ends in zip(same, ends_of_strings([compressed(m) for m in same], drawn[0].size), strict=True):
        np.testing.assert_array_equal(decoded(ends, mask.shape), mask)


@given(st.lists(st.integers(0, 300_000), min_size=1, max_size=12))
def test_long_runs_and_empty_ones(counts):
    """Numbers of several groups, negative differences, zero runs in the middle."""
    pixels = sum(counts)
    if pixels == 0:
        return
    string = coco_mask.frPyObjects({"counts": counts, "size": [pixels, 1]}, pixels, 1)["counts"]
    expected = np.cumsum(counts).tolist()
    assert ends_of(list(counts), pixels).tolist() == expected
    assert ends_of(string, pixels).tolist() == expected


def test_by_hand():
    """2 columns of 3: background 1, object 2, background 3; "0" is 0, so the letters are "1", "2", "3"."""
    assert ends_of([1, 2, 3], 6).tolist() == ends_of("123", 6).tolist() == [1, 3, 6]
    # The fourth count, 2, is written as its difference to the second, 2: 0.
    assert ends_of("1230", 8).tolist() == [1, 3, 6, 8]
    # 40 is 8 and more ("X": 48 + 32 + 8), then 1. 8 - 40 = -32 is 0 and more ("P"), then all ones ("O": 48 + 31).
    assert ends_of("0X15PO", 53).tolist() == [0, 40, 45, 53]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([1, 2], "the runs add up to 3 pixels, the image has 6"),
        ([], "the runs add up to 0 pixels"),
        ([7, -1], "a run of -1 pixels is impossible"),
        ([10**30], "pixels is impossible"),
        ([1, 2.0, 3], "neither a list of whole numbers nor a compressed string"),
        ([True, 5], "neither a list"),
        (None, "neither a list"),
        ("", "the counts are empty"),
        ("12", "the runs add up to 3 pixels, the image has 6"),
        ("12 ", "a character that maskApi does not write"),
        ("12é", "characters beyond ASCII"),
        ("12q", "a character that maskApi does not write"),
        ("12P", "the counts stop in the middle of a number"),
        ("PPPPPPPP1", "a number that is too large for an image"),
        ("1N", "a run of -2 pixels is impossible"),
        (b"oooooo0", "too large for an image"),
    ],
)
def test_what_is_no_mask_of_six_pixels_is_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        ends_of(counts, 6)


@given(st.binary(max_size=30))
def test_any_bytes_are_a_mask_or_refused(counts):
    try:
        ends = ends_of(counts, 12)
    except ValueError:
        return
    assert ends[-1] == 12
    assert (np.diff(ends, prepend=0) >= 0).all()
