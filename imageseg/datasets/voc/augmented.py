"""The split train_aug of VOC2012: the 10,582 images that have a mask of VOC or SBD, without VOC's val."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imageseg.datasets.base import listing_of
from imageseg.datasets.pairs import Listing, Pair
from imageseg.datasets.text_files import read_names
from imageseg.datasets.voc.sbd import Sbd, convert, find_sbd
from imageseg.errors import InputError
from imageseg.parallel import Progress

_LISTS = ("train_aug.txt", "trainaug.txt")


class AugmentedTrain:
    """The names and masks of the split train_aug.

    Names come from ``train_aug.txt`` or ``trainaug.txt`` among VOC's lists, else from VOC's train and all of SBD. Masks are VOC's
    own, which have the border, else those in ``SegmentationClassAug``, which is often shared, or filled by ``make`` from SBD.

    Args:
        devkit: Folder ``VOC2012``.
        roots: Folders that may contain SBD.
    """

    def __init__(self, devkit: Path, roots: Iterable[Path]) -> None:
        self.masks = devkit / "SegmentationClassAug"
        self._devkit = devkit
        self._lists = devkit / "ImageSets" / "Segmentation"
        self._roots = (*roots, devkit)

    def is_there(self) -> bool:
        """Whether there are lists, and masks besides VOC's own."""
        return self._has_lists() and self.masks.is_dir() and any(self.masks.glob("*.png"))

    def listing(self, source: str) -> Listing:
        """List the images and masks, sorted by name.

        Args:
            source: URL of SBD, for the error message.

        Raises:
            InputError: There are no masks besides VOC's own; the message says how to get them.
        """
        sbd = find_sbd(self._roots)
        if not self.is_there():
            found = (
                f"SBD is in {sbd.folder}: 'imageseg prepare VOC' converts them"
                if sbd
                else f"download them, or download {source}, unpack it in {self._roots[0]} and run 'imageseg prepare VOC'"
            )
            raise InputError(f"VOC2012 train_aug: {self.masks} contains no masks; {found}")
        own_masks, own_images = _stems(self._devkit / "SegmentationClass"), _stems(self._devkit / "JPEGImages")
        return listing_of(
            Pair(
                self._devkit / "JPEGImages" / f"{name}.jpg" if name in own_images or sbd is None else sbd.image(name),
                (self._devkit / "SegmentationClass" if name in own_masks else self.masks) / f"{name}.png",
                name,
            )
            for name in sorted(self._names(sbd))
        )

    def make(
        self, palette: npt.NDArray[np.uint8], *, workers: int | None = None, progress: Progress | None = None
    ) -> None:
        """Fill ``SegmentationClassAug`` from SBD if it is there; an interrupted run is continued."""
        sbd = find_sbd(self._roots)
        if sbd is None or not self._has_lists():
            return
        # A listed name that SBD does not contain has its mask from elsewhere; if it has none, ``listing`` reports it.
        wanted = (self._names(sbd) - _stems(self._devkit / "SegmentationClass")) & _stems(sbd.folder / "cls")
        convert(sbd, sorted(wanted), self.masks, palette=palette, workers=workers, progress=progress)

    def _has_lists(self) -> bool:
        return (self._lists / "train.txt").is_file() and (self._lists / "val.txt").is_file()

    def _names(self, sbd: Sbd | None) -> set[str]:
        given = [path for path in sorted(self._lists.iterdir()) if path.name.lower() in _LISTS]
        if given:
            names = set(read_names(given[0]))
        else:
            names = set(read_names(self._lists / "train.txt")) | (_stems(self.masks) if sbd is None else sbd.names())
        # SBD's splits overlap VOC's val; without this, val would be scored on training images.
        return names - set(read_names(self._lists / "val.txt"))


def _stems(folder: Path) -> set[str]:
    return {path.stem for path in folder.iterdir() if not path.name.startswith(".")} if folder.is_dir() else set()
