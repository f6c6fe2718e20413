"""The labels of Cityscapes: 34 ids in the files, 19 classes for training and evaluation."""

from __future__ import annotations

from imageseg.labels import Label, LabelSpace

LICENSE_PLATE = -1
"""Id of license plates, which are never drawn, so that the car below remains."""

# Name, id in labelIds files, color, and whether it is one of the 19 classes, whose order is their train id
# (cityscapesScripts, helpers/labels.py; https://github.com/mcordts/cityscapesScripts).
_TABLE: tuple[tuple[str, int, tuple[int, int, int], bool], ...] = (
    ("unlabeled", 0, (0, 0, 0), False),
    ("ego vehicle", 1, (0, 0, 0), False),
    ("rectification border", 2, (0, 0, 0), False),
    ("out of roi", 3, (0, 0, 0), False),
    ("static", 4, (0, 0, 0), False),
    ("dynamic", 5, (111, 74, 0), False),
    ("ground", 6, (81, 0, 81), False),
    ("road", 7, (128, 64, 128), True),
    ("sidewalk", 8, (244, 35, 232), True),
    ("parking", 9, (250, 170, 160), False),
    ("rail track", 10, (230, 150, 140), False),
    ("building", 11, (70, 70, 70), True),
    ("wall", 12, (102, 102, 156), True),
    ("fence", 13, (190, 153, 153), True),
    ("guard rail", 14, (180, 165, 180), False),
    ("bridge", 15, (150, 100, 100), False),
    ("tunnel", 16, (150, 120, 90), False),
    ("pole", 17, (153, 153, 153), True),
    ("polegroup", 18, (153, 153, 153), False),
    ("traffic light", 19, (250, 170, 30), True),
    ("traffic sign", 20, (220, 220, 0), True),
    ("vegetation", 21, (107, 142, 35), True),
    ("terrain", 22, (152, 251, 152), True),
    ("sky", 23, (70, 130, 180), True),
    ("person", 24, (220, 20, 60), True),
    ("rider", 25, (255, 0, 0), True),
    ("car", 26, (0, 0, 142), True),
    ("truck", 27, (0, 0, 70), True),
    ("bus", 28, (0, 60, 100), True),
    ("caravan", 29, (0, 0, 90), False),
    ("trailer", 30, (0, 0, 110), False),
    ("train", 31, (0, 80, 100), True),
    ("motorcycle", 32, (0, 0, 230), True),
    ("bicycle", 33, (119, 11, 32), True),
)

ID_OF = {**{name: id_ for name, id_, _, _ in _TABLE}, "license plate": LICENSE_PLATE}
"""Id of each label name, used for drawing polygons."""

_CLASSES = [(name, id_, color) for name, id_, color, scored in _TABLE if scored]

IDS = LabelSpace(
    tuple(Label(name, color, (id_,)) for name, id_, color in _CLASSES),
    ignored_values=(*(id_ for _, id_, _, scored in _TABLE if not scored), 255),
)
"""Label space of ``labelIds`` files; 255 is -1 as some tools write it."""

TRAIN_IDS = LabelSpace(tuple(Label(name, color, (index,)) for index, (name, _, color) in enumerate(_CLASSES)))
"""Label space of ``labelTrainIds`` files, and of BDD100K, which has the same classes."""
