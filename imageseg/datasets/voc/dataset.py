"""Pascal VOC 2007 and 2012, segmentation (Everingham et al. 2010; host.robots.ox.ac.uk/pascal/VOC)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np

from imageseg.datasets.base import SegmentationDataset, existing_folder, listing_by_stem, listing_of, require_split
from imageseg.datasets.pairs import Archive, Listing, Pair
from imageseg.datasets.text_files import read_names
from imageseg.datasets.voc.augmented import AugmentedTrain
from imageseg.errors import InputError
from imageseg.images import read_mask
from imageseg.labels import Label, LabelSpace, voc_color, voc_palette
from imageseg.parallel import Progress

_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

_LISTED = ("train", "val", "test", "trainval")
_AUGMENTED = "train_aug"
_UNLISTED = "unlisted"
_HOST = "http://host.robots.ox.ac.uk/pascal/VOC"

# Checksums: torchvision's voc.py and sbd.py; the same in PaddleDetection's table of downloads (VOC) and in the reader of
# facebookresearch/astmt (SBD).
_ARCHIVES = {
    "2007": (
        Archive(f"{_HOST}/voc2007/VOCtrainval_06-Nov-2007.tar", "c52e279531787c972589f7e41ab4ae64"),
        Archive(f"{_HOST}/voc2007/VOCtest_06-Nov-2007.tar", "b6e924de25625d8de591ea690078ad9f"),
    ),
    "2012": (
        Archive(f"{_HOST}/voc2012/VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd"),
        Archive(
            "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
            "82b4d87ceb2ed10f6038a1cba92111cb",
            "SBD",
        ),
    ),
}


LABELS = LabelSpace(
    tuple(Label(name, voc_color(value), (value,)) for value, name in enumerate(_NAMES)),
    ignored_values=(255,),
    ignored_colors=(voc_color(255),),
)


class VOC(SegmentationDataset):
    """Pascal VOC 2007 or 2012: 20 object classes and background; 255, the border around objects, is ignored.

    The lists in ``ImageSets/Segmentation`` define the splits, because most images of VOC have no mask. Masks are the devkit's
    palette PNGs, or the same indices in one gray channel. The test split of 2012 has no public masks.

    2012 has an additional split ``train_aug``: the 10,582 images with a mask from VOC or SBD, without VOC's val. Masks of SBD
    are in ``SegmentationClassAug``; ``imageseg prepare VOC`` converts them from SBD's own files. If both have a mask of an
    image, VOC's is used, because it contains the border.

    A devkit without lists has the single split ``unlisted``: all images and masks, paired by name.

    Args:
        root: Folder that contains ``VOCdevkit``, ``VOCdevkit`` itself, or ``VOC2012``.
        year: Year of the challenge, "2007" or "2012".
    """

    labels = LABELS

    def __init__(self, root: str = "data/VOC", *, year: Literal["2007", "2012"] | int = "2012") -> None:
        if str(year) not in ("2007", "2012"):
            raise InputError(f"VOC supports the years 2007 and 2012, found '{year}'")
        self.root = Path(root)
        self.year = str(year)

    @property
    def scored_split(self) -> str:  # type: ignore[override]
        """The test split of 2007 if its masks exist; those of 2012 are not public."""
        if self.year == "2012" or not self._list("test").is_file():
            return "val"
        return "test" if any(pair.mask for pair in self.listing("test").pairs) else "val"

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have a list, and ``train_aug`` if SBD's masks have been converted."""
        listed = [split for split in _LISTED if self._list(split).is_file()]
        if self.year == "2012" and self._augmented().is_there():
            listed.append(_AUGMENTED)
        return tuple(listed) or (_UNLISTED,)

    def listing(self, split: str) -> Listing:
        """List the images named in the list of the split, in its order."""
        require_split(split, (*_LISTED, _AUGMENTED, _UNLISTED), f"VOC{self.year}")
        base = self._base()
        if split == _UNLISTED:
            return listing_by_stem(base / "JPEGImages", base / "SegmentationClass")
        if split == _AUGMENTED:
            return self._augmented().listing(_ARCHIVES["2012"][1].url)
        if not self._list(split).is_file() and self.splits == (_UNLISTED,):
            raise InputError(
                f"VOC{self.year}: {base / 'ImageSets' / 'Segmentation'} contains no lists, so there is no split '{split}'; "
                f"copy ImageSets from the devkit, or use the split '{_UNLISTED}', which pairs all images and masks by name"
            )
        names = read_names(self._list(split))
        pairs = [Pair(base / "JPEGImages" / f"{n}.jpg", base / "SegmentationClass" / f"{n}.png", n) for n in names]
        if split == "test" and not any(pair.mask and pair.mask.exists() for pair in pairs):
            pairs = [pair._replace(mask=None) for pair in pairs]
        return listing_of(pairs)

    def prepare(
        self,
        *,
        splits: Iterable[str] | None = None,
        replace: bool = False,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Convert SBD's masks into ``SegmentationClassAug`` if SBD is there; an interrupted run is continued."""
        if self.year == "2012" and (splits is None or _AUGMENTED in splits):
            self._augmented().make(voc_palette(), workers=workers, progress=progress)

    def archives(self) -> list[Archive]:
        """VOC's archives, and for 2012 also SBD's, which ``train_aug`` needs."""
        return list(_ARCHIVES[self.year])

    def objects(self, pair: Pair) -> int | None:
        """Number of distinct values in ``SegmentationObject`` besides 0, the background, and 255, the border."""
        path = self._base() / "SegmentationObject" / f"{pair.name}.png"
        if not path.is_file():
            return None
        return len(set(np.unique(read_mask(path)).tolist()) - {0, 255})

    def _augmented(self) -> AugmentedTrain:
        if self.year != "2012":
            raise InputError(f"VOC{self.year} has no split '{_AUGMENTED}': SBD's masks belong to images of VOC2012")
        return AugmentedTrain(self._base(), [self.root])

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
            source=f"{_HOST}/voc{self.year} ('imageseg prepare VOC --year {self.year} --download' downloads it)",
        )
