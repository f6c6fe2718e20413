"""Reading and checking of COCO's instances_*.json: the annotations of each image."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from imageseg.datasets.masks.cache import is_plain_name
from imageseg.datasets.text_files import read_json
from imageseg.errors import InputError
from imageseg.images import MAX_PIXELS

# COCO's category of each VOC class, by class index; 0 is background, which includes all other categories.
# The order is that of the VOC devkit; the ids are those of COCO (cocodataset.org).
CATEGORIES = (
    *((0, ""), (5, "airplane"), (2, "bicycle"), (16, "bird"), (9, "boat"), (44, "bottle"), (6, "bus"), (3, "car")),
    *((17, "cat"), (62, "chair"), (21, "cow"), (67, "dining table"), (18, "dog"), (19, "horse"), (4, "motorcycle")),
    *((1, "person"), (64, "potted plant"), (20, "sheep"), (63, "couch"), (7, "train"), (72, "tv")),
)
_CLASS_OF = {category: index for index, (category, _) in enumerate(CATEGORIES) if index}


class Annotation(NamedTuple):
    """One annotated object, or a crowd of objects."""

    id: int
    class_index: int
    crowd: bool
    area: float
    """Area in pixels, as given in the file."""
    segmentation: Any
    """A list of polygons [x, y, x, y, ...], or {"counts": ..., "size": [height, width]}; not yet checked."""


class AnnotatedImage(NamedTuple):
    """One image, and its annotations of the 20 classes in the order of the file."""

    name: str
    height: int
    width: int
    annotations: tuple[Annotation, ...]


def read_instances(path: Path) -> list[AnnotatedImage]:
    """Read the images of a file in its order, including those without annotations.

    Raises:
        InputError: The file is missing, not JSON, or not in COCO's format; the message names the entry.
    """
    with _without_collector():
        content = read_json(path, missing="it comes in annotations_trainval<year>.zip from cocodataset.org")
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations")
    ):
        raise InputError(f"{path}: is not a COCO instances file, which has the lists 'images' and 'annotations'")
    _check_categories(path, content.get("categories"))
    sizes = _images(path, content["images"])
    found: dict[int, list[Annotation]] = {id_: [] for id_ in sizes}
    for place, entry in enumerate(content["annotations"]):
        _add(path, place, entry, found)
    return [AnnotatedImage(*sizes[id_], tuple(annotations)) for id_, annotations in found.items()]


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Pause garbage collection: searching a million new lists for cycles would double the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _images(path: Path, entries: list[Any]) -> dict[int, tuple[str, int, int]]:
    """Map each image id to (file name, height, width)."""
    sizes: dict[int, tuple[str, int, int]] = {}
    stems: set[str] = set()
    for place, entry in enumerate(entries):
        where = f"{path}: images[{place}]"
        id_, name, height, width = _fields(where, entry, id=int, file_name=str, height=int, width=int)
        if not is_plain_name(name):
            _refuse(where, f"the file name {name!r} is not a plain file name")
        if not (height > 0 and width > 0 and height * width <= MAX_PIXELS):
            _refuse(where, f"{name} cannot be {width} x {height} pixels")
        if id_ in sizes:
            _refuse(where, f"the id {id_} is there twice")
        if Path(name).stem in stems:
            _refuse(where, f"the name {Path(name).stem} is there twice")
        stems.add(Path(name).stem)
        sizes[id_] = (name, height, width)
    return sizes


def _add(path: Path, place: int, entry: Any, found: dict[int, list[Annotation]]) -> None:
    """Add one entry of the file to its image if it belongs to one of the 20 classes."""
    where = f"{path}: annotations[{place}]"
    if not isinstance(entry, dict) or type(entry.get("category_id")) is not int:
        _refuse(where, "has no category_id; is this an instances file?")
    class_index = _CLASS_OF.get(entry["category_id"])
    if class_index is None:
        return
    id_, image, segmentation = _fields(where, entry, id=int, image_id=int, segmentation=(list, dict))
    crowd, area = entry.get("iscrowd", 0), entry.get("area", 0)
    if crowd not in (0, 1):
        _refuse(where, f"iscrowd is 0 or 1, found {crowd!r}")
    if type(area) not in (int, float) or not abs(area) <= MAX_PIXELS:
        _refuse(where, f"the area is a number of pixels, found {area!r}")
    if image not in found:
        _refuse(where, f"no image has the id {image}")
    found[image].append(Annotation(id_, class_index, bool(crowd), float(area), segmentation))


def _check_categories(path: Path, entries: Any) -> None:
    """Refuse other datasets in COCO's format, whose category ids have other meanings."""
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, Mapping) or not isinstance(entry.get("id"), int):
            raise InputError(f"{path}: an entry of 'categories' has no id")
        index = _CLASS_OF.get(entry["id"])
        if index is not None and entry.get("name") != CATEGORIES[index][1]:
            raise InputError(
                f"{path}: category {entry['id']} is '{entry.get('name')}', in COCO '{CATEGORIES[index][1]}'; "
                "only COCO itself is supported"
            )


def _fields(where: str, entry: Any, **kinds: Any) -> tuple[Any, ...]:
    if not isinstance(entry, dict):
        _refuse(where, "is not an object")
    for name, kind in kinds.items():
        value = entry.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            _refuse(where, f"has no '{name}'" if value is None else f"'{name}' cannot be {str(value)[:40]!r}")
    return tuple(entry[name] for name in kinds)


def _refuse(where: str, what: str) -> NoReturn:
    raise InputError(f"{where}: {what}")
