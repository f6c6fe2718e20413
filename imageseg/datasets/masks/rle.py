"""Run-length masks as COCO and Scalabel write them: column by column, a run of background first, then in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_LARGEST = 6  # groups of five bits: more than any picture has pixels


def ends_of(counts: Any, pixels: int) -> npt.NDArray[np.int64]:
    """Where each run of one mask ends, in the order of its pixels column by column.

    Args:
        counts: a list of run lengths, or the compressed string (str or bytes) of COCO's maskApi.
        pixels: of the picture.

    Returns:
        (runs,) positions; the runs 1, 3, 5, ... are the object.

    Raises:
        ValueError: runs that are none, or do not fill the picture; says which.
    """
    if isinstance(counts, str):
        try:
            counts = counts.encode("ascii")
        except UnicodeEncodeError:
            raise ValueError("the counts are no run lengths (letters beyond ASCII)") from None
    if isinstance(counts, bytes):
        return ends_of_strings([counts], pixels)[0]
    if not isinstance(counts, list) or not set(map(type, counts)) <= {int}:
        raise ValueError("the counts are neither a list of whole numbers nor a compressed string")
    if counts and not 0 <= min(counts) <= max(counts) <= pixels:
        raise ValueError(f"a run of {min(counts) if min(counts) < 0 else max(counts)} pixels cannot be")
    ends = np.cumsum(np.array(counts, np.int64))
    _check_total(ends, pixels)
    return ends


def ends_of_strings(strings: Sequence[bytes], pixels: int) -> list[npt.NDArray[np.int64]]:
    """``ends_of`` for several compressed strings of one picture, decoded together.

    A count is written in groups of five bits, the lowest first, each a letter from "0" on; bit 5 says that more follow, and
    bit 4 of the last is the sign. From the fourth on, a count is the difference to the one before the last.
    """
    letters = np.frombuffer(b"".join(strings), np.uint8).astype(np.int64) - 48
    if letters.size == 0 or not all(strings):
        raise ValueError("the counts are empty")
    if letters.min() < 0 or letters.max() > 63:
        raise ValueError("the counts are no run lengths (a letter that maskApi does not write)")
    lasts = np.flatnonzero(letters < 32)  # the last group of each count
    ends = np.cumsum([len(string) for string in strings])
    if (letters[ends - 1] >= 32).any():
        raise ValueError("the counts stop in the middle of a number")
    firsts = np.concatenate(([0], lasts[:-1] + 1))
    groups = lasts - firsts + 1
    if groups.max() > _LARGEST:
        raise ValueError("the counts hold a number that no picture can have")
    shifts = 5 * (np.arange(letters.size) - np.repeat(firsts, groups))
    values = np.add.reduceat((letters & 31) << shifts, firsts)
    values -= (letters[lasts] >> 4 & 1) << 5 * groups  # two's complement
    numbers = np.searchsorted(lasts, ends - 1) + 1  # counts up to and with each string
    return _ends(values, numbers, pixels)


def paint_runs(buffer: bytearray, ends: Sequence[int], value: int) -> None:
    """Writes ``value`` to the object's runs of a picture that lies in ``buffer`` column by column."""
    pixel = bytes([value])
    for start, stop in zip(ends[0::2], ends[1::2], strict=False):  # a last run of background has no partner
        buffer[start:stop] = pixel * (stop - start)


def _ends(values: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64], pixels: int) -> list[npt.NDArray[np.int64]]:
    """Undoes the differences, all masks at once, and adds the counts up."""
    starts = np.concatenate(([0], numbers[:-1]))
    places = np.arange(values.size) - np.repeat(starts, numbers - starts)  # of each count within its mask
    odd = places % 2 == 1
    sums = []
    for chosen in (np.where(odd, values, 0), np.where(odd | (places == 0), 0, values)):
        total = np.cumsum(chosen)
        sums.append(total - np.repeat((total - chosen)[starts], numbers - starts))
    counts = np.where(odd, sums[0], np.where(places == 0, values, sums[1]))
    if counts.min() < 0 or counts.max() > pixels:
        raise ValueError(f"a run of {counts.min() if counts.min() < 0 else counts.max()} pixels cannot be")
    ends = np.cumsum(counts)
    masks = [ends[start:stop] for start, stop in zip(starts.tolist(), numbers.tolist(), strict=True)]
    for index, mask in enumerate(masks):
        mask -= index * pixels
        _check_total(mask, pixels)
    return masks


def _check_total(ends: npt.NDArray[np.int64], pixels: int) -> None:
    total = int(ends[-1]) if ends.size else 0
    if total != pixels:
        raise ValueError(f"the runs add up to {total} pixels, the picture has {pixels}")
