"""Run-length encoded masks of COCO and Scalabel: column-major, alternating runs, background first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_LARGEST = 6  # groups of five bits: more than the pixels of any image


def ends_of(counts: Any, pixels: int) -> npt.NDArray[np.int64]:
    """Compute the end position of each run of one mask, in column-major order.

    Args:
        counts: List of run lengths, or the compressed string (str or bytes) of COCO's maskApi.
        pixels: Number of pixels of the image.

    Returns:
        Positions of shape (runs,), int64; the runs 1, 3, 5, ... are the object.

    Raises:
        ValueError: The runs are invalid, or do not add up to the image.
    """
    if isinstance(counts, str):
        try:
            counts = counts.encode("ascii")
        except UnicodeEncodeError:
            raise ValueError("the counts are not run lengths (characters beyond ASCII)") from None
    if isinstance(counts, bytes):
        return ends_of_strings([counts], pixels)[0]
    if not isinstance(counts, list) or not set(map(type, counts)) <= {int}:
        raise ValueError("the counts are neither a list of whole numbers nor a compressed string")
    if counts and not 0 <= min(counts) <= max(counts) <= pixels:
        raise ValueError(f"a run of {min(counts) if min(counts) < 0 else max(counts)} pixels is impossible")
    ends = np.cumsum(np.array(counts, np.int64))
    _check_total(ends, pixels)
    return ends


def ends_of_strings(strings: Sequence[bytes], pixels: int) -> list[npt.NDArray[np.int64]]:
    """Decode several compressed strings of one image together; see ``ends_of``.

    A count is stored in groups of five bits, lowest first, each as a character from "0" on. Bit 5 is set if another group
    follows; bit 4 of the last group is the sign. From the fourth on, a count is the difference to the count two before.
    """
    letters = np.frombuffer(b"".join(strings), np.uint8).astype(np.int64) - 48
    if letters.size == 0 or not all(strings):
        raise ValueError("the counts are empty")
    if letters.min() < 0 or letters.max() > 63:
        raise ValueError("the counts are not run lengths (a character that maskApi does not write)")
    lasts = np.flatnonzero(letters < 32)  # the last group of each count
    ends = np.cumsum([len(string) for string in strings])
    if (letters[ends - 1] >= 32).any():
        raise ValueError("the counts stop in the middle of a number")
    firsts = np.concatenate(([0], lasts[:-1] + 1))
    groups = lasts - firsts + 1
    if groups.max() > _LARGEST:
        raise ValueError("the counts contain a number that is too large for an image")
    shifts = 5 * (np.arange(letters.size) - np.repeat(firsts, groups))
    values = np.add.reduceat((letters & 31) << shifts, firsts)
    values -= (letters[lasts] >> 4 & 1) << 5 * groups  # two's complement
    numbers = np.searchsorted(lasts, ends - 1) + 1  # counts up to and with each string
    return _ends(values, numbers, pixels)


def paint_runs(buffer: bytearray, ends: Sequence[int], value: int) -> None:
    """Write ``value`` to the runs of the object in a column-major mask."""
    pixel = bytes([value])
    for start, stop in zip(ends[0::2], ends[1::2], strict=False):  # a last run of background has no partner
        buffer[start:stop] = pixel * (stop - start)


def _ends(values: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64], pixels: int) -> list[npt.NDArray[np.int64]]:
    """Undo the differences and add up the counts, for all masks at once."""
    starts = np.concatenate(([0], numbers[:-1]))
    places = np.arange(values.size) - np.repeat(starts, numbers - starts)  # of each count within its mask
    odd = places % 2 == 1
    sums = []
    for chosen in (np.where(odd, values, 0), np.where(odd | (places == 0), 0, values)):
        total = np.cumsum(chosen)
        sums.append(total - np.repeat((total - chosen)[starts], numbers - starts))
    counts = np.where(odd, sums[0], np.where(places == 0, values, sums[1]))
    if counts.min() < 0 or counts.max() > pixels:
        raise ValueError(f"a run of {counts.min() if counts.min() < 0 else counts.max()} pixels is impossible")
    ends = np.cumsum(counts)
    masks = [ends[start:stop] for start, stop in zip(starts.tolist(), numbers.tolist(), strict=True)]
    for index, mask in enumerate(masks):
        mask -= index * pixels
        _check_total(mask, pixels)
    return masks


def _check_total(ends: npt.NDArray[np.int64], pixels: int) -> None:
    total = int(ends[-1]) if ends.size else 0
    if total != pixels:
        raise ValueError(f"the runs add up to {total} pixels, the image has {pixels}")
