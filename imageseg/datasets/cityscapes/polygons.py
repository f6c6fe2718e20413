"""Drawing of labelIds files from Cityscapes' polygons, pixel for pixel as cityscapesScripts does."""

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
    """Draw ``..._polygons.json`` into ``..._labelIds.png`` next to it, unless that file exists.

    Raises:
        InputError: The file cannot be read or drawn, or the folder is not writable.
    """
    target = label_ids_path(polygons)
    if target.exists():
        return
    mask = draw(polygons)
    try:
        with replacing(target) as temporary:
            temporary.write_bytes(encode_mask(mask))
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror or error})") from error


def label_ids_path(polygons: Path) -> Path:
    """The path of the labelIds file that belongs to a polygon file."""
    return polygons.with_name(polygons.name.removesuffix(POLYGONS) + LABEL_IDS)


def draw(polygons: Path) -> npt.NDArray[np.uint8]:
    """Draw a polygon file as (H, W) uint8 ids of Cityscapes.

    As in cityscapesScripts' ``json2labelImg``, objects are painted in the order of the file on a canvas of "unlabeled", by
    Pillow's polygon filling, which includes the outline. Deleted objects are skipped; a group of an instance class
    ("cargroup") is drawn as the class; license plates are not drawn, so that the car below remains.

    Raises:
        InputError: The file is missing or not JSON, a label is unknown, or a polygon has fewer than two points; the message
            names the object.
    """
    content = _content(polygons)
    canvas = Image.new("L", _size(polygons, content), ID_OF["unlabeled"])
    drawer = ImageDraw.Draw(canvas)
    for place, entry in enumerate(content["objects"]):
        where = f"{polygons}: objects[{place}]"
        if not isinstance(entry, dict):
            raise InputError(f"{where}: is not an object")
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
            f"{path}: is not a polygon file of Cityscapes, which has imgHeight, imgWidth and the list 'objects'"
        )
    return content


def _size(path: Path, content: dict[str, Any]) -> tuple[int, int]:
    width, height = content.get("imgWidth"), content.get("imgHeight")
    if type(width) is not int or type(height) is not int or min(width, height) < 1 or width * height > MAX_PIXELS:
        raise InputError(f"{path}: imgWidth {width} and imgHeight {height} are not an image size")
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
