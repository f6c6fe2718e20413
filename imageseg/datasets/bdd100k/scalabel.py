"""Reading of Scalabel's JSON, BDD100K's format of polygons and run-length encodings, and drawing like the released masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imageseg.datasets.bdd100k.labels import TRAIN_ID_OF
from imageseg.datasets.masks.cache import Painted, is_plain_name
from imageseg.datasets.masks.rle import ends_of, paint_runs
from imageseg.datasets.text_files import read_json
from imageseg.errors import InputError, did_you_mean
from imageseg.images import MAX_PIXELS
from imageseg.labels import IGNORE

if TYPE_CHECKING:
    from matplotlib.backends.backend_agg import RendererAgg

_USUAL_SIZE = (720, 1280)
_FARTHEST = 1e6


class Frame(NamedTuple):
    """One image and its labels."""

    name: str
    height: int
    width: int
    labels: tuple[Any, ...]
    """Labels as stored in the file, not yet checked."""


def read_frames(path: Path) -> list[Frame]:
    """Read the frames of a file in its order: a list of frames, or an object with the list ``frames``.

    A frame without its own size has that of the file's ``config``, or 1280 x 720 by default (doc.bdd100k.com).

    Raises:
        InputError: The file is missing, not JSON, or not in Scalabel's format; the message names the frame.
    """
    content = read_json(path)
    config = content.get("config") if isinstance(content, dict) else None
    entries = content.get("frames") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise InputError(f"{path}: is not a Scalabel file, which is a list of frames, or contains the list 'frames'")
    usual = _size(path, "config", config["imageSize"] if isinstance(config, dict) and config.get("imageSize") else None)
    frames, stems = [], set()
    for place, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        where = f"frames[{place}]"
        if not isinstance(name, str) or not is_plain_name(name):
            raise InputError(f"{path}: {where}: the name {name!r} is not a plain file name")
        if Path(name).stem in stems:
            raise InputError(f"{path}: {where}: the name {Path(name).stem} is there twice")
        stems.add(Path(name).stem)
        labels = entry.get("labels") or []
        if not isinstance(labels, list) or not all(isinstance(label, dict) for label in labels):
            raise InputError(f"{path}: {where}: the labels of {name} are not a list of objects")
        height, width = _size(path, where, entry["size"]) if entry.get("size") else usual
        frames.append(Frame(name, height, width, tuple(labels)))
    return frames


def paint(frame: Frame, *, source: Path) -> Painted:
    """Draw the train ids of one frame, 255 where nothing is drawn.

    All labels are drawn in the order of the list, or by increasing score if there are scores. Void labels are drawn as 255:
    BDD100K's own tool skips them and so keeps what is below (the road under the hood of the car), unlike the released masks.
    The run-length encoding of a label, its visible part, is preferred to its polygons.

    Args:
        frame: Frame returned by ``read_frames``.
        source: Annotation file, for error messages.

    Raises:
        InputError: A category is unknown, a run-length encoding or polygon is invalid, or matplotlib is required and missing.
    """
    canvas = _Canvas(frame)
    labels = list(enumerate(frame.labels))
    if any(label.get("score") is not None for _, label in labels):
        labels.sort(key=lambda item: _score(item[1]))
    for place, label in labels:
        where = f"{source}: {frame.name}: labels[{place}]"
        canvas.draw(where, label, _train_id(where, label.get("category")))
    mask = canvas.mask()
    return Painted(mask, int(np.count_nonzero(mask != IGNORE)), len(labels))


class _Canvas:
    """A mask of train ids on which run-length encodings and polygons are drawn in any order."""

    def __init__(self, frame: Frame) -> None:
        self.height, self.width = frame.height, frame.width
        self._columns = bytearray([IGNORE]) * (
            self.height * self.width
        )  # column-major order, as in run-length encodings
        self._agg: _Polygons | None = None

    def draw(self, where: str, label: dict[str, Any], value: int) -> None:
        if label.get("rle") is not None:
            self._copy_polygons()
            self._draw_runs(where, label["rle"], value)
            return
        polygons = label.get("poly2d")
        if not isinstance(polygons, list | None):
            raise InputError(f"{where}: poly2d is a list of polygons")
        for polygon in polygons or ():
            if self._agg is None:
                self._agg = _Polygons(self.height, self.width)
            self._agg.draw(*_outline(where, polygon), value)

    def mask(self) -> npt.NDArray[np.uint8]:
        self._copy_polygons()
        return np.ascontiguousarray(self._upright())

    def _upright(self) -> npt.NDArray[np.uint8]:
        """(H, W), a view of the columns."""
        return np.frombuffer(self._columns, np.uint8).reshape(self.width, self.height).T

    def _copy_polygons(self) -> None:
        """Copy the polygons drawn so far into the mask."""
        if self._agg is not None:
            drawn, values = self._agg.result()
            np.copyto(self._upright(), values, where=drawn)
            self._agg = None

    def _draw_runs(self, where: str, rle: Any, value: int) -> None:
        if not isinstance(rle, dict) or rle.get("size") != [self.height, self.width]:
            size = rle.get("size") if isinstance(rle, dict) else None
            raise InputError(
                f"{where}: the run lengths are for a size of {size}, the frame has {[self.height, self.width]}"
            )
        try:
            ends = ends_of(rle.get("counts"), self.height * self.width)
        except ValueError as error:
            raise InputError(f"{where}: {error}") from error
        paint_runs(self._columns, ends.tolist(), value)


class _Polygons:
    """Matplotlib's Agg renderer with the settings of BDD100K's tool: no antialiasing, snapped to pixels, no outline.

    It is used without a Figure, whose coordinates at this size would be pixels. The red channel stores the value; the alpha
    channel is nonzero where something was drawn.
    """

    def __init__(self, height: int, width: int) -> None:
        try:
            from matplotlib.backends.backend_agg import RendererAgg
            from matplotlib.transforms import Affine2D
        except ImportError as error:
            raise InputError(
                "drawing BDD100K's polygons needs matplotlib, as the released masks did: pip install 'matplotlib>=3.9'"
            ) from error
        self._renderer: RendererAgg = RendererAgg(width, height, 72)
        self._context = self._renderer.new_gc()
        self._context.set_antialiased(False)
        self._context.set_snap(True)
        self._context.set_linewidth(0)
        self._upright = Affine2D().scale(1, -1).translate(0, height)  # the renderer counts rows from the bottom

    def draw(self, vertices: npt.NDArray[np.float64], types: str, value: int) -> None:
        """Draw one closed outline. L is a vertex; a pair of C are the control points of a cubic Bezier curve to the next vertex."""
        from matplotlib.path import Path as Outline

        codes = [Outline.LINETO if kind == "L" else Outline.CURVE4 for kind in types]
        codes[0] = Outline.MOVETO
        outline = Outline(np.concatenate((vertices, vertices[:1])), [*codes, Outline.LINETO])
        self._renderer.draw_path(self._context, outline, self._upright, (value / 255, 0.0, 0.0))

    def result(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.uint8]]:
        """Return (H, W) bool, true where something was drawn, and (H, W) uint8 values."""
        pixels = np.asarray(self._renderer.buffer_rgba())
        return pixels[..., 3] > 0, pixels[..., 0]


def _outline(where: str, polygon: Any) -> tuple[npt.NDArray[np.float64], str]:
    if not isinstance(polygon, dict) or not isinstance(polygon.get("vertices"), list):
        raise InputError(f"{where}: a polygon has the list 'vertices'")
    vertices, types = polygon["vertices"], polygon.get("types")
    if not all(isinstance(v, list) and len(v) == 2 and all(type(n) in (int, float) for n in v) for v in vertices):
        raise InputError(f"{where}: vertices are points [x, y]")
    points = np.array(vertices, np.float64).reshape(-1, 2) if _are_near(vertices) else None
    if points is None:
        raise InputError(f"{where}: a polygon extends far beyond any image")
    if not isinstance(types, str) or len(types) != len(vertices) or types[:1] != "L" or not _are_curves(types):
        raise InputError(
            f"{where}: types has one letter for each of the {len(vertices)} vertices, L or pairs of C between L, "
            f"found {str(types)[:40]!r}"
        )
    return points, types


def _are_near(vertices: Sequence[Sequence[float]]) -> bool:
    return all(abs(number) <= _FARTHEST for vertex in vertices for number in vertex)  # NaN is not


def _are_curves(types: str) -> bool:
    """Whether each C belongs to a pair; the outline closes, so that the first vertex may end the last curve."""
    return not set(types.replace("CC", "").replace("L", ""))


def _train_id(where: str, category: Any) -> int:
    if not isinstance(category, str) or category not in TRAIN_ID_OF:
        hint = did_you_mean(category, TRAIN_ID_OF) if isinstance(category, str) else ""
        raise InputError(
            f"{where}: no class of semantic segmentation is called '{category}'{hint}; use sem_seg_*.json, not the files "
            "of detection or instances"
        )
    return TRAIN_ID_OF[category]


def _score(label: dict[str, Any]) -> float:
    score = label.get("score")
    return float(score) if isinstance(score, int | float) else 0.0


def _size(path: Path, where: str, size: Any) -> tuple[int, int]:
    """(height, width)."""
    if size is None:
        return _USUAL_SIZE
    height, width = (size.get("height"), size.get("width")) if isinstance(size, dict) else (None, None)
    if type(height) is not int or type(width) is not int or min(height, width) < 1 or height * width > MAX_PIXELS:
        raise InputError(f"{path}: {where}: the size {str(size)[:60]} is invalid")
    return height, width
