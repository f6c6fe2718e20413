"""Fingerprints of pictures: a 64-bit hash that finds candidates for copies, and a small picture that confirms them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

Bytes = npt.NDArray[np.uint8]

THUMBNAIL = 32
"""Height and width of the small grey picture."""
SMALLEST = 32
"""Pictures of fewer pixels than this squared are all alike."""

# Measured on CamVid and BDD100K frames and on copies of them that were re-encoded (JPEG quality 10), resized (a third to
# double), brightened or darkened by a fifth: copies differ in at most 8 bits and have a distance of at most 0.006, the
# nearest two frames of CamVid's train and val of 0.050.
_MOST_BITS = 10
_MOST_DISTANCE = 0.008
_LEAST_CONTRAST = 4.0
_ROWS_AT_ONCE = 1024


class Fingerprint(NamedTuple):
    """One picture, in about a kilobyte."""

    bits: int
    thumbnail: bytes
    """``THUMBNAIL`` squared grey values."""


class Match(NamedTuple):
    """Two pictures that show the same, by their positions in the two sequences."""

    one: int
    other: int
    distance: float


def fingerprint(grey: Image.Image) -> Fingerprint | None:
    """The fingerprint of a grey picture; None where it shows too little to be told from others: tiny, or almost blank.

    The hash is the sign of the lowest frequencies of the cosine transform against their median (Zauner 2010,
    "Implementation and Benchmarking of Perceptual Image Hash Functions"): it hardly changes with size, compression or light.
    """
    if grey.width * grey.height < SMALLEST**2:
        return None
    small = np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), np.uint8)
    if small.std() < _LEAST_CONTRAST:
        return None
    frequencies = np.asarray(cv2.dct(small.astype(np.float32)))[:8, :8].ravel()
    above = frequencies > np.median(frequencies)
    return Fingerprint(int.from_bytes(np.packbits(above).tobytes()), small.tobytes())


def same_pictures(ones: Sequence[Fingerprint], others: Sequence[Fingerprint]) -> Iterator[Match]:
    """For each of ``others`` that shows the same as one of ``ones``, the nearest of them."""
    if not ones or not others:
        return
    bits = np.array([each.bits for each in ones], np.uint64)
    for position, other in enumerate(others):
        near = np.flatnonzero(np.bitwise_count(bits ^ np.uint64(other.bits)) <= _MOST_BITS)
        if not near.size:
            continue
        # A thousand at a time: the frames of a standing camera are all near each other.
        chunks = [near[start : start + _ROWS_AT_ONCE] for start in range(0, len(near), _ROWS_AT_ONCE)]
        distances = np.concatenate([_distances([ones[index] for index in chunk], other) for chunk in chunks])
        nearest = int(distances.argmin())
        if distances[nearest] <= _MOST_DISTANCE:
            yield Match(int(near[nearest]), position, float(distances[nearest]))


def _distances(ones: Sequence[Fingerprint], other: Fingerprint) -> npt.NDArray[Any]:
    """One minus the correlation of the small pictures, each a little smoothed: light and contrast do not count."""
    pictures, picture = _standardised([one.thumbnail for one in ones]), _standardised([other.thumbnail])[0]
    return np.asarray(1 - pictures @ picture)


def _standardised(thumbnails: Sequence[bytes]) -> npt.NDArray[np.float32]:
    """(N, pixels) float32, each row of mean 0 and length 1."""
    grey = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, THUMBNAIL, THUMBNAIL).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(picture, (0, 0), 1.0) for picture in grey]).reshape(len(grey), -1)
    centred = smooth - smooth.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.linalg.norm(centred, axis=1, keepdims=True), np.float32)
