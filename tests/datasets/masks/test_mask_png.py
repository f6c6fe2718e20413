"""Our PNG files, read back by Pillow and OpenCV."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from imageseg.datasets.masks.png import encode_mask
from imageseg.datasets.voc.dataset import LABELS


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 30), st.integers(1, 30))), st.booleans())
def test_pillow_reads_the_values(values, colored):
    data = encode_mask(values, LABELS.palette if colored else None)
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        assert picture.mode == ("P" if colored else "L")
        np.testing.assert_array_equal(np.asarray(picture), values)
        if colored:
            assert picture.getpalette() == LABELS.palette.ravel().tolist()


def test_opencv_reads_the_values_of_a_grey_one():
    values = np.repeat(np.arange(256, dtype=np.uint8), 300).reshape(256, 300)  # runs beyond deflate's 258
    data = np.frombuffer(encode_mask(values), np.uint8)
    np.testing.assert_array_equal(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), values)


def test_a_slice_that_does_not_lie_in_one_piece():
    values = np.arange(60, dtype=np.uint8).reshape(6, 10)[::2, 1:8:3]
    with Image.open(io.BytesIO(encode_mask(values))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), values)


def test_damage_is_noticed():
    data = bytearray(encode_mask(np.zeros((50, 50), np.uint8)))
    data[-20] ^= 1  # in the pixels or their checksum
    with pytest.raises((OSError, SyntaxError)), Image.open(io.BytesIO(bytes(data))) as picture:
        picture.load()
