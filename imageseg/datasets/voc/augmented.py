"""The split train_aug of VOC2012: the 10,582 pictures that have a mask of VOC or SBD, less VOC's val."""

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
    """Where its names and masks come from.

    Names: of ``train_aug.txt`` or ``trainaug.txt`` among VOC's lists, else VOC's train and all of SBD. Masks: VOC's own,
    which have the border, else ``SegmentationClassAug``, which people share, or which ``make`` fills from SBD's tree.

    Args:
        devkit: the folder ``VOC2012``.
        roots: where SBD's tree may lie.
    """

    def __init__(self, devkit: Path, roots: Iterable[Path]) -> None:
        self.masks = devkit / "SegmentationClassAug"
        self._devkit = devkit
        self._lists = devkit / "ImageSets" / "Segmentation"
        self._roots = (*roots, devkit)

    def is_there(self) -> bool:
        """Whether there are lists, and masks beside VOC's own."""
        return self._has_lists() and self.masks.is_dir() and any(self.masks.glob("*.png"))

    def listing(self, source: str) -> Listing:
        """The pictures and masks, by name.

        Args:
            source: SBD's address, for the error.

        Raises:
            InputError: no masks beside VOC's own; says how to come by them.
        """
        sbd = find_sbd(self._roots)
        if not self.is_there():
            found = (
                f"SBD is in {sbd.folder}: 'imageseg prepare VOC' makes them from it"
                if sbd
                else f"get them, or get {source}, unpack it in {self._roots[0]} and run 'imageseg prepare VOC'"
            )
            raise InputError(f"VOC2012 train_aug: {self.masks} holds no masks; {found}")
        own, pictures = _stems(self._devkit / "SegmentationClass"), _stems(self._devkit / "JPEGImages")
        return listing_of(
            Pair(
                self._devkit / "JPEGImages" / f"{name}.jpg" if name in pictures or sbd is None else sbd.image(name),
                (self._devkit / "SegmentationClass" if name in own else self.masks) / f"{name}.png",
                name,
            )
            for name in sorted(self._names(sbd))
        )

    def make(
        self, palette: npt.NDArray[np.uint8], *, workers: int | None = None, progress: Progress | None = None
    ) -> None:
        """Fills ``SegmentationClassAug`` from SBD's tree, where that is there; goes on where an earlier run ended."""
        sbd = find_sbd(self._roots)
        if sbd is None or not self._has_lists():
            return
        # A listed name that SBD does not know has its mask from elsewhere; where it has none, ``listing`` says so.
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
        # SBD's own splits overlap VOC's val: a score on val would be of pictures that were trained on.
        return names - set(read_names(self._lists / "val.txt"))


def _stems(folder: Path) -> set[str]:
    return {path.stem for path in folder.iterdir() if not path.name.startswith(".")} if folder.is_dir() else set()
