"""Cityscapes' polygons to labelIds files, pixel for pixel as cityscapesScripts draws them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from imageseg.atomic_files import replacing
from imageseg.datasets.cityscapes.labels import ID_OF, LICENSE_PLATE
from imageseg.datasets.text_files import read_json
from imageseg.errors import InputError, did_you_mean
from imageseg.images import MAX_PIXELS, encode_mask

POLYGONS, LABEL_IDS = "_polygons.json", "_labelIds.png"

_FARTHEST = 1e6


def write_label_ids(polygons: Path) -> None:
    """Draws ``..._polygons.json`` into ``..._labelIds.png`` beside it, unless that is there.

    Raises:
        InputError: the file cannot be read or drawn, or the folder cannot be written.
    """
    target = labels_beside(polygons)
    if target.exists():
        return
    mask = draw(polygons)
    try:
        with replacing(target) as temporary:
            temporary.write_bytes(encode_mask(mask))
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error})") from error


def labels_beside(polygons: Path) -> Path:
    """Where the labelIds file of a polygon file lies."""
    return polygons.with_name(polygons.name.removesuffix(POLYGONS) + LABEL_IDS)


def draw(polygons: Path) -> npt.NDArray[np.uint8]:
    """(H, W) ids of Cityscapes.

    As cityscapesScripts' ``json2labelImg``: on a canvas of "unlabeled", the objects in the file's order, later ones over
    earlier ones, by Pillow's polygon filling, which draws the outline too. Deleted objects are left out; a group of an
    instance class ("cargroup") is drawn as the class; license plates are not drawn, so that the car beneath stays.

    Raises:
        InputError: no such file, no JSON, an unknown label, or a polygon of fewer than two points; names the object.
    """
    content = _content(polygons)
    canvas = Image.new("L", _size(polygons, content), ID_OF["unlabeled"])
    drawer = ImageDraw.Draw(canvas)
    for place, entry in enumerate(content["objects"]):
        where = f"{polygons}: objects[{place}]"
        if not isinstance(entry, dict):
            raise InputError(f"{where}: is no object")
        if entry.get("deleted"):
            continue
        id_ = _id(where, entry.get("label"))
        if id_ != LICENSE_PLATE:
            drawer.polygon(_points(where, entry.get("polygon")), fill=id_)
    return np.asarray(canvas)


def _content(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("objects"), list):
        raise InputError(
            f"{path}: is no polygon file of Cityscapes; it needs imgHeight, imgWidth and the list 'objects'"
        )
    return content


def _size(path: Path, content: dict[str, Any]) -> tuple[int, int]:
    width, height = content.get("imgWidth"), content.get("imgHeight")
    if type(width) is not int or type(height) is not int or min(width, height) < 1 or width * height > MAX_PIXELS:
        raise InputError(f"{path}: imgWidth {width} and imgHeight {height} are no size of a picture")
    return width, height


def _id(where: str, label: Any) -> int:
    if not isinstance(label, str):
        raise InputError(f"{where}: has no label")
    name = label if label in ID_OF else label.removesuffix("group")
    if name not in ID_OF:
        raise InputError(f"{where}: no label of Cityscapes is called '{label}'{did_you_mean(label, ID_OF)}")
    return ID_OF[name]


def _points(where: str, polygon: Any) -> list[tuple[float, float]]:
    if not isinstance(polygon, list) or len(polygon) < 2 or not all(map(_is_point, polygon)):
        raise InputError(f"{where}: a polygon is a list of at least two points [x, y]")
    return [(x, y) for x, y in polygon]


def _is_point(point: Any) -> bool:
    return (
        isinstance(point, list)
        and len(point) == 2
        and all(type(number) in (int, float) and abs(number) <= _FARTHEST for number in point)
    )
