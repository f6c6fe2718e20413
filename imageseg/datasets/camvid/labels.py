"""CamVid's 32 original classes, the 11 into which SegNet merged them, and SegNet's split of the frames."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imageseg.errors import InputError
from imageseg.labels import Label, LabelSpace

SEGNET_LABELS = LabelSpace(
    (
        Label("sky", (128, 128, 128), (0,)),
        Label("building", (128, 0, 0), (1,)),
        Label("pole", (192, 192, 128), (2,)),
        Label("road", (128, 64, 128), (3,)),
        Label("pavement", (60, 40, 222), (4,)),
        Label("tree", (128, 128, 0), (5,)),
        Label("sign_symbol", (192, 128, 128), (6,)),
        Label("fence", (64, 64, 128), (7,)),
        Label("car", (64, 0, 128), (8,)),
        Label("pedestrian", (64, 64, 0), (9,)),
        Label("bicyclist", (0, 128, 192), (10,)),
    ),
    ignored_values=(11, 255),
)

# Name and color as in the owner's label_colors.txt, in alphabetical order ignoring case, which is the order of the ids.
_ORIGINAL = (
    *(("Animal", (64, 128, 64)), ("Archway", (192, 0, 128)), ("Bicyclist", (0, 128, 192)), ("Bridge", (0, 128, 64))),
    *(("Building", (128, 0, 0)), ("Car", (64, 0, 128)), ("CartLuggagePram", (64, 0, 192)), ("Child", (192, 128, 64))),
    *(("Column_Pole", (192, 192, 128)), ("Fence", (64, 64, 128)), ("LaneMkgsDriv", (128, 0, 192))),
    *(("LaneMkgsNonDriv", (192, 0, 64)), ("Misc_Text", (128, 128, 64)), ("MotorcycleScooter", (192, 0, 192))),
    *(("OtherMoving", (128, 64, 64)), ("ParkingBlock", (64, 192, 128)), ("Pedestrian", (64, 64, 0))),
    *(("Road", (128, 64, 128)), ("RoadShoulder", (128, 128, 192)), ("Sidewalk", (0, 0, 192))),
    *(("SignSymbol", (192, 128, 128)), ("Sky", (128, 128, 128)), ("SUVPickupTruck", (64, 128, 192))),
    *(("TrafficCone", (0, 0, 64)), ("TrafficLight", (0, 64, 64)), ("Train", (192, 64, 128)), ("Tree", (128, 128, 0))),
    *(("Truck_Bus", (192, 128, 192)), ("Tunnel", (64, 0, 64)), ("VegetationMisc", (192, 192, 0)), ("Void", (0, 0, 0))),
    ("Wall", (64, 192, 0)),
)
ORIGINAL_NAMES = tuple(name for name, _ in _ORIGINAL)

# 32 -> 11. Measured, by comparing SegNet's masks with the original ones of five frames: Building, Car, SUVPickupTruck,
# Column_Pole, Road, LaneMkgsDriv, Misc_Text, Pedestrian, Sky, Tree and VegetationMisc; and OtherMoving, which SegNet's masks
# have as void. The other rows are convention, as in MathWorks' SegNet example (camvidPixelLabelIDs); it and others
# have OtherMoving as car, which the masks contradict.
_MERGED_FROM = {
    "sky": ("Sky",),
    "building": ("Archway", "Bridge", "Building", "Tunnel", "Wall"),
    "pole": ("Column_Pole", "TrafficCone"),
    "road": ("LaneMkgsDriv", "LaneMkgsNonDriv", "Road"),
    "pavement": ("ParkingBlock", "RoadShoulder", "Sidewalk"),
    "tree": ("Tree", "VegetationMisc"),
    "sign_symbol": ("Misc_Text", "SignSymbol", "TrafficLight"),
    "fence": ("Fence",),
    "car": ("Car", "SUVPickupTruck", "Train", "Truck_Bus"),
    "pedestrian": ("Animal", "CartLuggagePram", "Child", "Pedestrian"),
    "bicyclist": ("Bicyclist", "MotorcycleScooter"),
}
_VOID = ("Void", "OtherMoving")


def _ids(names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(map(ORIGINAL_NAMES.index, names))


ORIGINAL_LABELS = LabelSpace(
    tuple(Label(label.name, label.color, _ids(_MERGED_FROM[label.name])) for label in SEGNET_LABELS.labels),
    ignored_values=_ids(_VOID),
)

# Every channel of the 32 colors is a multiple of 64: two bits of each make one of 64 places.
_NO_ID = 255
_ID_OF_COLOR = np.full(64, _NO_ID, np.uint8)
for _id, (_, (_red, _green, _blue)) in enumerate(_ORIGINAL):
    _ID_OF_COLOR[_red >> 2 | _green >> 4 | _blue >> 6] = _id


def ids_of_colors(colors: npt.NDArray[Any], source: Path) -> npt.NDArray[np.uint8]:
    """Convert the owner's color masks to ids.

    Args:
        colors: Mask of shape (H, W, 3), uint8 RGB.
        source: Mask file, for error messages.

    Returns:
        Ids of shape (H, W), uint8, 0 to 31.

    Raises:
        InputError: A color is not one of the 32.
    """
    ids: npt.NDArray[np.uint8] = _ID_OF_COLOR[colors[..., 0] >> 2 | colors[..., 1] >> 4 | colors[..., 2] >> 6]
    ids[(colors & 63).any(axis=-1)] = _NO_ID
    if (ids == _NO_ID).any():
        wrong = colors[ids == _NO_ID]
        first = ", ".join(map(str, wrong[0].tolist()))
        raise InputError(f"{source}: the color ({first}) is not one of CamVid's 32; {len(wrong)} pixels have no class")
    return ids


def segnet_split(frame: str) -> str | None:
    """Return SegNet's split of a frame by its name, or None if it does not belong to a sequence of CamVid.

    The rule reproduces SegNet's lists of 367 and 101 names for train and val; the 233 others are test.
    """
    named = re.fullmatch(r"(0001TP|0006R0|0016E5|Seq05VD)_f?(\d+)", frame)
    if named is None:
        return None
    sequence, number = named[1], int(named[2])
    if sequence == "0016E5":
        return "val" if 7959 <= number <= 8159 else "train"
    if sequence == "0001TP":
        return "train" if number <= 8520 else "test"
    return "train" if sequence == "0006R0" else "test"
