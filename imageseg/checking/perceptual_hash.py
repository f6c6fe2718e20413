"""Perceptual hash of an image: 64 bits that find candidates for duplicates, and a thumbnail that confirms them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

THUMBNAIL = 32
"""Height and width of the gray thumbnail, in pixels."""
MIN_SIZE = 32
"""Images with fewer than ``MIN_SIZE`` squared pixels get no hash: they are too similar to each other."""

# Measured on CamVid and BDD100K frames and on copies of them that were re-encoded (JPEG quality 10), resized (a third to
# double), brightened or darkened by 20 %: copies differ in at most 8 bits and have a distance of at most 0.006, the nearest
# two frames of CamVid's train and val of 0.050.
_MAX_BITS = 10
_MAX_DISTANCE = 0.008
_MIN_CONTRAST = 4.0
_CHUNK = 1024


class PerceptualHash(NamedTuple):
    """Hash of one image, about one kilobyte."""

    bits: int
    thumbnail: bytes
    """``THUMBNAIL`` squared gray values."""


class Match(NamedTuple):
    """Two images with the same content, as positions in the two sequences that were compared."""

    one: int
    other: int


def perceptual_hash(gray: Image.Image) -> PerceptualHash | None:
    """Compute the hash of a gray image; None if the image is too small or too uniform to be told from others.

    The bits are the signs of the lowest frequencies of the cosine transform relative to their median (Zauner 2010,
    "Implementation and Benchmarking of Perceptual Image Hash Functions"). They hardly change with size, compression or
    brightness.
    """
    if gray.width * gray.height < MIN_SIZE**2:
        return None
    small = np.asarray(gray.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), np.uint8)
    if small.std() < _MIN_CONTRAST:
        return None
    frequencies = np.asarray(cv2.dct(small.astype(np.float32)))[:8, :8].ravel()
    above = frequencies > np.median(frequencies)
    return PerceptualHash(int.from_bytes(np.packbits(above).tobytes()), small.tobytes())


def near_duplicates(ones: Sequence[PerceptualHash], others: Sequence[PerceptualHash]) -> Iterator[Match]:
    """Yield, for each of ``others`` that shows the same as some of ``ones``, the match with the smallest distance."""
    if not ones or not others:
        return
    bits = np.array([each.bits for each in ones], np.uint64)
    for position, other in enumerate(others):
        near = np.flatnonzero(np.bitwise_count(bits ^ np.uint64(other.bits)) <= _MAX_BITS)
        if not near.size:
            continue
        # In chunks to bound memory: all frames of a static camera are near each other.
        chunks = [near[start : start + _CHUNK] for start in range(0, len(near), _CHUNK)]
        distances = np.concatenate([_distances([ones[index] for index in chunk], other) for chunk in chunks])
        nearest = int(distances.argmin())
        if distances[nearest] <= _MAX_DISTANCE:
            yield Match(int(near[nearest]), position)


def _distances(ones: Sequence[PerceptualHash], other: PerceptualHash) -> npt.NDArray[np.float32]:
    """One minus the correlation of the smoothed thumbnails, so that brightness and contrast do not count."""
    thumbnails, thumbnail = _standardized([one.thumbnail for one in ones]), _standardized([other.thumbnail])[0]
    return np.asarray(1 - thumbnails @ thumbnail, np.float32)


def _standardized(thumbnails: Sequence[bytes]) -> npt.NDArray[np.float32]:
    """Smoothed thumbnails as (N, pixels) float32, each row with mean 0 and length 1."""
    gray = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(thumbnail, (0, 0), 1.0) for thumbnail in gray]).reshape(len(gray), -1)
    centered = smooth - smooth.mean(axis=1, keepdims=True)
    return np.asarray(centered / np.linalg.norm(centered, axis=1, keepdims=True), np.float32)
