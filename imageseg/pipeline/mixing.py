"""Mixing: parts of another sample's crop laid over a crop, picture and mask alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from imageseg.errors import InputError
from imageseg.labels import IGNORE

Array = npt.NDArray[np.uint8]
Choice = Callable[[Array, np.random.Generator], npt.NDArray[np.bool_]]
"""From another crop's mask: which of its pixels are laid over."""

_RARE = 0.05  # of a crop's labelled pixels
_SMALLEST = 16  # pixels; what is smaller is a splinter that the crop's border left


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How often crops are mixed.

    Args:
        class_mix: the chance that half of the classes of another crop are laid over.
        copy_paste: the chance that things of rare classes are.
    """

    class_mix: float = 0.0
    copy_paste: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.class_mix <= 1 or not 0 <= self.copy_paste <= 1:
            raise InputError(
                f"class_mix and copy_paste must lie between 0 and 1, found {self.class_mix} and {self.copy_paste}"
            )

    def drawn(self, rng: np.random.Generator) -> Iterator[Choice]:
        """The ways that it falls to one crop to be mixed in; each asks for another crop."""
        chances = rng.random(2)
        if chances[0] < self.class_mix:
            yield half_of_the_classes
        if chances[1] < self.copy_paste:
            yield rare_things


def half_of_the_classes(mask: Array, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """The pixels of half of the classes that a crop shows, at least one of them (Olsson et al., ClassMix, WACV 2021).

    They mix with predicted masks for want of true ones; the masks here are true.
    """
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[:IGNORE])
    chosen = rng.choice(present, (len(present) + 1) // 2, replace=False) if len(present) else present
    table = np.zeros(256, bool)
    table[chosen] = True
    return table[mask]


def rare_things(mask: Array, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Connected regions of those classes that fill less than a twentieth of the labelled pixels, each with even odds.

    They keep their place, as things on streets have theirs (simple copy-paste: Ghiasi et al., CVPR 2021).
    """
    counts = np.bincount(mask.ravel(), minlength=256)[:IGNORE]
    laid = np.zeros(mask.shape, bool)
    for rare in np.flatnonzero((counts >= _SMALLEST) & (counts < _RARE * counts.sum())):
        count, regions, figures, _ = cv2.connectedComponentsWithStats((mask == rare).view(np.uint8), connectivity=8)
        taken = (rng.random(count) < 0.5) & (figures[:, cv2.CC_STAT_AREA] >= _SMALLEST)
        taken[0] = False  # what is not of this class
        laid |= taken[regions]
    return laid


def lay_over(pair: tuple[Array, Array], other: tuple[Array, Array], where: npt.NDArray[np.bool_]) -> None:
    """Puts the other's pixels into a pair's (h, w, 3) picture and (h, w) mask where ``where`` (h, w) is true."""
    for values, others in zip(pair, other, strict=True):
        cv2.copyTo(others, where.view(np.uint8), values)
