"""Cityscapes' label ids and categories, and pixel counts of instances weighted by their size.

The rules are those of cityscapesScripts 2.3.0, evalPixelLevelSemanticLabeling.py; the benchmark's paper is Cordts et al.,
CVPR 2016 (arXiv:1604.01685), section 4.1. BDD100K has the same 19 classes in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

# Class index -> label id; below, label ids without evaluated class.
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_CARAVAN, _TRAILER = 29, 30

CATEGORIES: Mapping[str, tuple[int, ...]] = {
    "flat": (0, 1),
    "construction": (2, 3, 4),
    "object": (5, 6, 7),
    "nature": (8, 9),
    "sky": (10,),
    "human": (11, 12),
    "vehicle": (13, 14, 15, 16, 17, 18),
}
# Class index -> name and mean instance size in pixels in the training set, as defined in the evaluator.
AVERAGE_SIZES = {
    11: ("person", 3462.4756337644),
    12: ("rider", 3930.4788056518),
    13: ("car", 12794.0202738185),
    14: ("truck", 27855.1264367816),
    15: ("bus", 35732.1511111111),
    16: ("train", 67583.7075812274),
    17: ("motorcycle", 6298.7200839748),
    18: ("bicycle", 4672.3249222261),
}
INSTANCE_CATEGORIES = ("human", "vehicle")
# Label ids that count as correct for a category although their class is not evaluated.
_UNSCORED = {"human": (), "vehicle": (_CARAVAN, _TRAILER)}

_class_of_id = np.full(256, -1, np.int64)
_class_of_id[list(LABEL_IDS)] = range(len(LABEL_IDS))
_average_size = np.array([AVERAGE_SIZES.get(index, ("", 0.0))[1] for index in range(len(LABEL_IDS))])


class InstanceCounts:
    """Accumulator of instance pixels, each weighted by the mean instance size of its class over the size of its instance."""

    def __init__(self) -> None:
        classes, categories = len(LABEL_IDS), len(INSTANCE_CATEGORIES)
        self.found = np.zeros(classes)
        """(19,) weighted instance pixels predicted as their class."""
        self.lost = np.zeros(classes)
        self.found_in_category = np.zeros(categories)
        self.lost_in_category = np.zeros(categories)
        self.unscored = np.zeros((categories, classes), np.int64)
        """(2, 19) valid pixels per true class whose prediction belongs to a category but to no evaluated class."""

    def update(
        self,
        predicted: npt.NDArray[np.uint8],
        true: npt.NDArray[np.uint8],
        instances: npt.NDArray[np.integer],
    ) -> None:
        """Add one image.

        Args:
            predicted: (H, W) predicted label ids.
            true: (H, W) true label ids.
            instances: (H, W) content of the ``instanceIds`` file: 1000 * id + n for objects, the id alone elsewhere.

        Raises:
            ValueError: The three maps differ in shape.
        """
        if not predicted.shape == true.shape == instances.shape:
            raise ValueError(
                f"predicted, true and instances must have the same shape, found {predicted.shape}, {true.shape}, {instances.shape}"
            )
        for row, category in enumerate(INSTANCE_CATEGORIES):
            if _UNSCORED[category]:
                valid = true[np.isin(predicted, _UNSCORED[category])]
                classes = _class_of_id[valid]
                self.unscored[row] += np.bincount(classes[classes >= 0], minlength=len(LABEL_IDS))
        places = np.flatnonzero(instances > 1000)
        if not places.size:
            return
        ids, predictions = instances.ravel()[places], predicted.ravel()[places]
        size = np.bincount(ids)
        names = np.flatnonzero(size)
        classes = _class_of_id[np.minimum(names // 1000, 255)]
        names, classes = names[classes >= 0], classes[classes >= 0]
        weight = _average_size[classes] / size[names]
        right = np.bincount(ids[predictions == ids // 1000], minlength=len(size))[names]
        self.found += np.bincount(classes, weight * right, len(LABEL_IDS))
        self.lost += np.bincount(classes, weight * (size[names] - right), len(LABEL_IDS))
        for row, category in enumerate(INSTANCE_CATEGORIES):
            belongs = np.zeros(256, bool)
            belongs[[*(LABEL_IDS[member] for member in CATEGORIES[category]), *_UNSCORED[category]]] = True
            inside = np.bincount(ids[belongs[predictions]], minlength=len(size))[names]
            counted = np.isin(classes, CATEGORIES[category])
            self.found_in_category[row] += float((weight * inside)[counted].sum())
            self.lost_in_category[row] += float((weight * (size[names] - inside))[counted].sum())

    def merge(self, other: InstanceCounts) -> InstanceCounts:
        """Add the counts of another accumulator in place and return this one."""
        self.found += other.found
        self.lost += other.lost
        self.found_in_category += other.found_in_category
        self.lost_in_category += other.lost_in_category
        self.unscored += other.unscored
        return self


def label_ids(classes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Convert class indices to label ids; values that are no class become 0 (unlabeled)."""
    table = np.zeros(256, np.uint8)
    table[: len(LABEL_IDS)] = LABEL_IDS
    ids: npt.NDArray[np.uint8] = table[classes]
    return ids
