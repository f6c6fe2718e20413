"""COCO (Lin et al. 2014, arXiv:1405.0312; cocodataset.org) with the 21 classes of Pascal VOC."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Literal

from imageseg.datasets.base import SegmentationDataset, existing_folder, require_split
from imageseg.datasets.coco.annotations import read_instances
from imageseg.datasets.coco.masks import Crowd, Overlap, paint
from imageseg.datasets.masks.cache import MadeMask, MaskCache
from imageseg.datasets.pairs import Archive, Listing, Pair
from imageseg.datasets.voc.dataset import LABELS
from imageseg.errors import InputError, command, counted
from imageseg.images import is_image
from imageseg.parallel import Progress

_SPLITS = ("train", "val")
_SITE = "http://images.cocodataset.org"  # its certificate is issued for another name; the checksums are verified
# Each checksum is the same in at least two independent public sources: download lists of PaddlePaddle, those of LAVIS (the
# images of 2014), and scripts that pass them to md5sum. One R package has another one for train2014.
_MD5 = {
    "zips/train2014.zip": "0da8c0bd3d6becc4dcb32757491aca88",
    "zips/val2014.zip": "a3d79f5ed8d289b7a7554ce06a5782b3",
    "annotations/annotations_trainval2014.zip": "0a379cfc70b0e71301e0f377548639bd",
    "zips/train2017.zip": "cced6f7f71b7629ddf16f17bbcfab6b2",
    "zips/val2017.zip": "442b8da7639aecaf257c1dceb8ba8c80",
    "annotations/annotations_trainval2017.zip": "f4bbac642086de4f52a3fdda2de5fa2c",
}


class COCO(SegmentationDataset):
    """COCO 2014 or 2017 with the 20 object classes of Pascal VOC; everything else is background.

    ``imageseg prepare COCO`` draws the masks once from the annotations, as palette PNGs in ``mask/<split><year>``. Images
    without annotations are entirely background.

    Args:
        root: Folder that contains ``annotations`` and ``images`` (or directly ``train2017`` and ``val2017``).
        year: Year of the release, "2014" or "2017": the same images, split differently.
        overlap: Rule for overlapping objects. "first": the object that comes first in the file wins, as in the converter that
            most code descends from. "void": the pixel is ignored (255), as in torchvision's reference. "area": the smaller
            object wins.
        crowd: Rule for regions of many objects that were not annotated separately. "class": drawn as their class. "ignore":
            255 where there is no other object. "skip": not drawn.
        min_pixels: Number of pixels of the 20 classes that a training image must exceed to be used; 0 keeps images with at
            least one, -1 keeps all. The default is that of public VOC-style conversions.
        filter_val: Whether ``min_pixels`` also applies to val, as in those conversions. Scores are then not comparable with
            scores on the complete split.
        masks: Folder for the masks if the root is read-only; ``<split><year>`` is appended. (default: ``mask`` in the root)
    """

    labels = LABELS

    def __init__(
        self,
        root: str = "data/COCO",
        *,
        year: Literal["2014", "2017"] | int = "2017",
        overlap: Overlap = "first",
        crowd: Crowd = "class",
        min_pixels: int = 1000,
        filter_val: bool = False,
        masks: str | None = None,
    ) -> None:
        if str(year) not in ("2014", "2017"):
            raise InputError(f"COCO supports the years 2014 and 2017, found '{year}'")
        if overlap not in ("first", "void", "area"):
            raise InputError(f"COCO: overlap must be first, void or area, found '{overlap}'")
        if crowd not in ("class", "ignore", "skip"):
            raise InputError(f"COCO: crowd must be class, ignore or skip, found '{crowd}'")
        self.root = Path(root)
        self.year = str(year)
        self.overlap = overlap
        self.crowd = crowd
        self.min_pixels = min_pixels
        self.filter_val = filter_val
        self.masks = None if masks is None else Path(masks)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits whose images exist, together with annotations or masks."""
        return tuple(
            split
            for split in self._splits_with_images()
            if self._annotations(split).is_file() or self._cache(split).exists()
        )

    def listing(self, split: str) -> Listing:
        """List the annotated images in the order of the annotations, without those that ``min_pixels`` excludes."""
        require_split(split, _SPLITS, f"COCO {self.year}")
        images, cache = self._images(split), self._cache(split)
        if not cache.is_whole():
            if not self._annotations(split).is_file():
                raise InputError(
                    f"COCO: {self._annotations(split)}: no such file; get {self._archive_of_annotations()} from {_SITE}"
                )
            raise InputError(
                f"COCO: {cache.folder} {cache.trouble()}; "
                f"{command('prepare', 'COCO', '--root', self.root, *self._flags())} generates the requested masks"
            )
        records = cache.records()
        image_names, mask_names = _names(images), _names(cache.folder)
        wanted = {stem: record for stem, record in records.items() if self._is_wanted(split, record)}
        few = counted(len(records) - len(wanted), "image has", "images have")
        by_choice = f"{few} at most min_pixels={self.min_pixels} pixels of the 20 classes"
        listing = Listing([], [], [], by_choice if len(wanted) < len(records) else "")
        for stem, record in wanted.items():
            pair = Pair(images / record.name, cache.folder / f"{stem}.png", stem)
            if record.name not in image_names:
                listing.without_image.append(pair)
            elif f"{stem}.png" not in mask_names:
                listing.without_mask.append(pair)
            else:
                listing.pairs.append(pair)
        known = {record.name for record in records.values()}
        for name in sorted(image_names - known):
            stem = Path(name).stem
            listing.without_mask.append(Pair(images / name, cache.folder / f"{stem}.png", stem))
        return listing

    def prepare(
        self,
        *,
        splits: Iterable[str] | None = None,
        replace: bool = False,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Draw the masks of this year with these options."""
        for split in self._splits_with_images():
            annotations, cache = self._annotations(split), self._cache(split)
            is_wanted = splits is None or split in splits
            if not is_wanted or cache.is_complete() or not annotations.is_file():
                continue
            cache.make(
                partial(read_instances, annotations),
                partial(paint, overlap=self.overlap, crowd=self.crowd, source=annotations),
                palette=LABELS.palette,
                replace=replace,
                workers=workers,
                progress=progress,
            )

    def archives(self) -> list[Archive]:
        """The archives of images and annotations of this year."""
        files = {f"zips/{split}{self.year}.zip": "images" for split in _SPLITS}
        files[self._archive_of_annotations()] = ""
        return [Archive(f"{_SITE}/{file}", _MD5[file], folder) for file, folder in files.items()]

    def objects(self, pair: Pair) -> int | None:
        """Number of annotations that are drawn as one of the 20 classes."""
        for split in _SPLITS:
            cache = self._cache(split)
            if pair.mask is not None and pair.mask.parent == cache.folder:
                record = cache.records().get(pair.name)
                return None if record is None else record.objects
        return None

    def _is_wanted(self, split: str, record: MadeMask) -> bool:
        return (split != "train" and not self.filter_val) or record.labelled > self.min_pixels

    def _cache(self, split: str) -> MaskCache:
        return MaskCache(
            (self.root / "mask" if self.masks is None else self.masks) / f"{split}{self.year}",
            recipe={"dataset": "COCO, 21 classes of VOC", "overlap": self.overlap, "crowd": self.crowd},
            annotations=self._annotations(split),
            hint="pass another folder with --masks (in a recipe, data.masks)",
        )

    def _annotations(self, split: str) -> Path:
        return self.root / "annotations" / f"instances_{split}{self.year}.json"

    def _archive_of_annotations(self) -> str:
        return f"annotations/annotations_trainval{self.year}.zip"

    def _flags(self) -> list[str]:
        """The command line flags that make the same masks."""
        flags = {"year": self.year, "overlap": self.overlap, "crowd": self.crowd, "masks": self.masks}
        usual = {"year": "2017", "overlap": "first", "crowd": "class", "masks": None}
        return [word for name, value in flags.items() if value != usual[name] for word in (f"--{name}", str(value))]

    def _splits_with_images(self) -> list[str]:
        """The splits whose images exist; an error if there are none."""
        found = []
        for split in _SPLITS:
            with contextlib.suppress(InputError):
                self._images(split)
                found.append(split)
        if not found:
            self._images("train")  # raises the error that names the expected folders
        return found

    def _images(self, split: str) -> Path:
        return existing_folder(
            self.root,
            [f"images/{split}{self.year}", f"{split}{self.year}"],
            dataset="COCO",
            expected=f"images/{{train,val}}{self.year} and annotations/instances_{{train,val}}{self.year}.json",
            source="https://cocodataset.org ('imageseg prepare COCO --download' downloads it)",
        )


def _names(folder: Path) -> set[str]:
    with os.scandir(folder) as entries:
        files: Iterable[str] = [entry.name for entry in entries]
    return {name for name in files if is_image(Path(name))}
