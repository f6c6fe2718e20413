"""Pascal VOC 2007 and 2012, segmentation (Everingham et al. 2010; host.robots.ox.ac.uk/pascal/VOC)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from imageseg.datasets.base import Listing, Pair, SegmentationDataset, existing_folder, listing_of, require_split
from imageseg.errors import InputError
from imageseg.labels import Label, LabelSpace

_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


_SPLITS = ("train", "val", "test", "trainval")


def voc_color(value: int) -> tuple[int, int, int]:
    """The devkit's colour of a stored value: its bits, three at a time, fill red, green and blue from the top."""
    red = green = blue = 0
    for position in range(7, -1, -1):
        red |= (value & 1) << position
        green |= (value >> 1 & 1) << position
        blue |= (value >> 2 & 1) << position
        value >>= 3
    return red, green, blue


LABELS = LabelSpace(
    tuple(Label(name, voc_color(value), (value,)) for value, name in enumerate(_NAMES)),
    ignored_values=(255,),
    ignored_colors=(voc_color(255),),
)


class VOC(SegmentationDataset):
    """The 20 object classes and background; 255, the border around objects, is ignored.

    The lists in ``ImageSets/Segmentation`` say what belongs to a split: most pictures of the set have no mask. Masks are
    the devkit's palette PNGs, or the same indices with one grey channel. The test split of 2012 has no public masks.

    Args:
        root: the folder that holds ``VOCdevkit``, ``VOCdevkit`` itself, or ``VOC2012``.
        year: "2007" or "2012".
    """

    labels = LABELS

    def __init__(self, root: str = "data/VOC", *, year: Literal["2007", "2012"] | int = "2012") -> None:
        if str(year) not in ("2007", "2012"):
            raise InputError(f"VOC segmentation is here for the years 2007 and 2012, found '{year}'")
        self.root = Path(root)
        self.year = str(year)

    @property
    def scored_split(self) -> str:  # type: ignore[override]
        """The test split of 2007 where its list is there; the masks of other years' test pictures are not public."""
        return "test" if self.year == "2007" and self._list("test").is_file() else "val"

    @property
    def splits(self) -> tuple[str, ...]:
        """Those whose list is there."""
        return tuple(split for split in _SPLITS if self._list(split).is_file())

    def listing(self, split: str) -> Listing:
        """The pictures that the split's list names, in its order."""
        require_split(split, _SPLITS, f"VOC{self.year}")
        base = self._base()
        names = _read_list(self._list(split))
        pairs = [Pair(base / "JPEGImages" / f"{n}.jpg", base / "SegmentationClass" / f"{n}.png", n) for n in names]
        if split == "test" and not any(pair.mask and pair.mask.exists() for pair in pairs):
            pairs = [pair._replace(mask=None) for pair in pairs]
        return listing_of(pairs)

    def _list(self, split: str) -> Path:
        return self._base() / "ImageSets" / "Segmentation" / f"{split}.txt"

    def _base(self) -> Path:
        folder = f"VOC{self.year}"
        candidates = [f"VOCdevkit/{folder}", folder, f"TrainVal/VOCdevkit/{folder}"]
        if self.root.name.lower() == folder.lower():
            candidates.append("")
        return existing_folder(
            self.root,
            candidates,
            dataset=folder,
            expected=f"VOCdevkit/{folder}/{{JPEGImages,SegmentationClass,ImageSets/Segmentation}}",
            source=f"http://host.robots.ox.ac.uk/pascal/VOC/voc{self.year}",
        )


def _read_list(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f"{path}: no such list; the split's picture names belong there, one a line, as in the devkit")
    names = path.read_text(encoding="utf-8").split()
    if not names:
        raise InputError(f"{path}: the list is empty")
    return names
