"""Mixing: parts of another sample's crop are pasted over a crop, in image and mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from imageseg.errors import InputError
from imageseg.labels import IGNORE

Array = npt.NDArray[np.uint8]
Selection = Callable[[Array, np.random.Generator], npt.NDArray[np.bool_]]
"""Selects the pixels of another crop that are pasted, from its mask."""

_RARE_SHARE = 0.05  # of the labeled pixels of a crop
_MIN_REGION = 16  # pixels; smaller regions are remainders at the border of the crop


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How often crops are mixed.

    Args:
        class_mix: Probability that half of the classes of another crop are pasted.
        copy_paste: Probability that objects of rare classes of another crop are pasted.

    Raises:
        InputError: A probability is not between 0 and 1.
    """

    class_mix: float = 0.0
    copy_paste: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.class_mix <= 1 or not 0 <= self.copy_paste <= 1:
            raise InputError(
                f"class_mix and copy_paste must be between 0 and 1, found {self.class_mix} and {self.copy_paste}"
            )

    def selections(self, rng: np.random.Generator) -> Iterator[Selection]:
        """The random selections for one crop; each needs another crop."""
        chances = rng.random(2)
        if chances[0] < self.class_mix:
            yield half_of_classes
        if chances[1] < self.copy_paste:
            yield rare_objects


def half_of_classes(mask: Array, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Select the pixels of half of the classes in a crop, at least one class (Olsson et al., ClassMix, WACV 2021).

    The paper mixes unlabeled images by predicted masks; here the masks are ground truth.
    """
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[:IGNORE])
    chosen = rng.choice(present, (len(present) + 1) // 2, replace=False) if len(present) else present
    table = np.zeros(256, bool)
    table[chosen] = True
    return table[mask]


def rare_objects(mask: Array, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Select connected regions of classes that fill less than 5 % of the labeled pixels, each with probability 0.5.

    Regions keep their position, because objects in street scenes have typical positions (simple copy-paste: Ghiasi et al.,
    CVPR 2021).
    """
    counts = np.bincount(mask.ravel(), minlength=256)[:IGNORE]
    selected = np.zeros(mask.shape, bool)
    for rare in np.flatnonzero((counts >= _MIN_REGION) & (counts < _RARE_SHARE * counts.sum())):
        count, regions, statistics, _ = cv2.connectedComponentsWithStats((mask == rare).view(np.uint8), connectivity=8)
        chosen = (rng.random(count) < 0.5) & (statistics[:, cv2.CC_STAT_AREA] >= _MIN_REGION)
        chosen[0] = False  # the background: other classes
        selected |= chosen[regions]
    return selected


def paste(pair: tuple[Array, Array], other: tuple[Array, Array], where: npt.NDArray[np.bool_]) -> None:
    """Copy the pixels where ``where`` (h, w) is true from another (h, w, 3) image and (h, w) mask, in place."""
    for values, others in zip(pair, other, strict=True):
        cv2.copyTo(others, where.view(np.uint8), values)
