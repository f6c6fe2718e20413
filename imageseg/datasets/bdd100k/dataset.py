"""BDD100K (Yu et al. 2020, arXiv:1805.04687; bdd-data.berkeley.edu): 10,000 street frames of 1280 x 720 in 19 classes."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy.typing as npt
from PIL import Image

from imageseg.datasets.base import SegmentationDataset, existing_folder, require_split
from imageseg.datasets.bdd100k.labels import INSTANCES, PANOPTIC, SEMANTIC
from imageseg.datasets.bdd100k.scalabel import paint, read_frames
from imageseg.datasets.masks.cache import MaskCache
from imageseg.datasets.pairs import Archive, Listing, Pair
from imageseg.errors import InputError, command
from imageseg.images import is_image, read_bitmask, read_mask
from imageseg.labels import IGNORE, LabelSpace
from imageseg.parallel import Progress

Masks = Literal["auto", "masks", "colormaps", "ins_seg", "pan_seg"]

_KINDS = ("auto", "masks", "colormaps", "ins_seg", "pan_seg")
_SPLITS = ("train", "val", "test")
_EXPECTED = "images/10k/{train,val,test} and labels/sem_seg/masks/{train,val}"
_SOURCE = "https://bdd-data.berkeley.edu ('imageseg prepare BDD100K --download' prints the steps)"
_IGNORED_BIT = 1  # bits of the green channel: truncated 8, occluded 4, crowd 2, ignored 1

# Files whose counterpart is missing in the release itself (https://github.com/bdd100k/bdd100k/issues/103).
_WITHOUT_MASK = {
    "train": ("3d581db5-2564fb7e", "52e3fd10-c205dec2", "781756b0-61e0a182", "78ac84ba-07bd30c2"),
    "val": ("80a9e37d-e4548ac1", "9342e334-33d167eb"),
}
_WITHOUT_IMAGE = {
    "train": ("fee92217-63b3f87f", "ff1e4d6d-f4d85cfd", "ff3d3536-04986e25", "ff3da814-c3463a43"),
    "val": ("ff55861e-a06b953c", "ff7b98c7-3cb964ac"),
}


class BDD100K(SegmentationDataset):
    """BDD100K with the 19 classes of Cityscapes; the test split is for prediction only.

    Six images and six masks without a counterpart in the release are left out. If there are only polygons or run-length
    encodings (such as ``labels/sem_seg/polygons/sem_seg_train.json``), ``imageseg prepare BDD100K`` draws the masks once.

    Args:
        root: Folder that contains ``images`` and ``labels``, or a parent folder up to two levels of ``bdd100k`` above it; for
            the release before 2021, the folder that contains ``seg``.
        masks: Kind of mask files to read. "auto": masks if there are any, else colormaps. "masks": train ids,
            ``<name>_train_id.png`` in the older release. "colormaps": palette files, whose indices are also train ids.
            "ins_seg" and "pan_seg": RGBA bitmasks, whose kind cannot be detected; ins_seg has 9 classes, 8 kinds of objects
            and everything else.
    """

    def __init__(self, root: str = "data/BDD100K", *, masks: Masks = "auto") -> None:
        if masks not in _KINDS:
            raise InputError(f"BDD100K: masks must be {', '.join(_KINDS[:-1])} or {_KINDS[-1]}, found '{masks}'")
        self.root = Path(root)
        self.masks = masks

    @property
    def labels(self) -> LabelSpace:  # type: ignore[override]
        """The classes, with the stored values of the kind of files that is read."""
        return {"ins_seg": INSTANCES, "pan_seg": PANOPTIC}.get(self.masks, SEMANTIC)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits whose images exist."""
        images = self._tree().images
        return tuple(split for split in _SPLITS if (images / split).is_dir())

    def listing(self, split: str) -> Listing:
        """Pair frames and masks of the same name, sorted, without those that are incomplete in the release itself."""
        require_split(split, self.splits, f"BDD100K at {self.root}")
        tree = self._tree()
        images = _by_name(tree.images / split)
        if split == "test":
            return Listing([Pair(path, None, name) for name, path in images.items()], [], [])
        folder, ending = self._masks(tree, split)
        masks = _by_name(folder, ending)
        absent = images.keys() - masks.keys() - {*_WITHOUT_MASK[split]}
        alone = masks.keys() - images.keys() - {*_WITHOUT_IMAGE[split]}
        return Listing(
            [Pair(path, masks[name], name) for name, path in images.items() if name in masks],
            without_mask=[Pair(images[name], folder / f"{name}{ending}.png", name) for name in sorted(absent)],
            without_image=[Pair(tree.images / split / f"{name}.jpg", masks[name], name) for name in sorted(alone)],
        )

    def prepare(
        self,
        *,
        splits: Iterable[str] | None = None,
        replace: bool = False,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Draw ``labels/sem_seg/masks/<split>`` if there are only polygons or run-length encodings."""
        tree = self._tree()
        for split in _SPLITS[:2] if splits is None else {*_SPLITS[:2]} & {*splits}:
            source, cache = _annotations(tree, split), _cache(tree, split)
            if source is None or self.masks not in ("auto", "masks") or cache.is_complete():
                continue
            if not cache.exists() and self._found(tree, split) is not None:
                continue
            cache.make(
                partial(read_frames, source),
                partial(paint, source=source),
                palette=SEMANTIC.palette,
                replace=replace,
                workers=workers,
                progress=progress,
            )

    def archives(self) -> list[Archive]:
        """Raises:
        InputError: Always, because the owner requires a login; the message describes the steps.
        """
        raise InputError(
            "BDD100K: its owner requires a login: sign in at https://bdd-data.berkeley.edu, download '10K Images' and 'Semantic "
            f"Segmentation' from its download page, and unpack both in {self.root}, which then contains "
            "bdd100k/images/10k and bdd100k/labels/sem_seg"
        )

    def read_stored(self, mask: Path) -> npt.NDArray[Any]:
        """Read train ids, or the red channel of a bitmask; for ins_seg with 255 where the ignored bit is set."""
        if self.masks not in ("ins_seg", "pan_seg"):
            return read_mask(mask)
        channels = read_bitmask(mask)
        stored = channels[..., 0].copy()
        if self.masks == "ins_seg":
            stored[channels[..., 1] & _IGNORED_BIT != 0] = IGNORE
        return stored

    def _masks(self, tree: _Tree, split: str) -> tuple[Path, str]:
        """The folder of a split's masks, and the ending that their names add to those of the images."""
        found = self._found(tree, split)
        if found is not None:
            cache = _cache(tree, split)
            if found[0] == cache.folder and cache.exists() and not cache.is_whole():
                raise InputError(f"BDD100K: {cache.folder} does not contain all masks yet; {self._how_to_prepare()}")
            return found
        source = _annotations(tree, split)
        if source is not None and self.masks in ("auto", "masks"):
            raise InputError(f"BDD100K: there are no masks of {split} yet, only {source}; {self._how_to_prepare()}")
        bitmasks = next((folder for folder in _bitmasks(tree, split) if _mode(folder) == "RGBA"), None)
        if bitmasks is not None and self.masks == "auto":
            raise InputError(
                f"BDD100K: {bitmasks} contains RGBA bitmasks, which may be instances or panoptic; choose with "
                "--masks ins_seg or --masks pan_seg (in a recipe, data.masks)"
            )
        wanted = _EXPECTED if self.masks == "auto" else f"labels/{_FOLDERS[self.masks]}/{split}"
        raise InputError(
            f"BDD100K: {tree.base} contains no {wanted} with masks of the kind '{self.masks}'; from {_SOURCE}"
        )

    def _found(self, tree: _Tree, split: str) -> tuple[Path, str] | None:
        """The first folder with files of the requested kind."""
        labels = tree.base / "labels"
        if self.masks in ("ins_seg", "pan_seg"):
            kind = f"{self.masks}/bitmasks"
            folders = (labels / kind / split, labels / "sem_seg" / "bitmasks" / split)
            return next(((folder, "") for folder in folders if _mode(folder) == "RGBA"), None)
        if self.masks != "colormaps":
            if tree.old and _mode(labels / split):
                return labels / split, "_train_id"
            for kind in ("masks", "bitmasks"):
                folder = labels / "sem_seg" / kind / split
                if _mode(folder) in ("L", "P") or (kind == "masks" and _cache(tree, split).exists()):
                    return folder, ""
        folder = labels / "sem_seg" / "colormaps" / split
        return (folder, "") if self.masks != "masks" and _mode(folder) in ("L", "P") else None

    def _how_to_prepare(self) -> str:
        return f"{command('prepare', 'BDD100K', '--root', self.root)} draws them"

    def _tree(self) -> _Tree:
        above = ("", "bdd100k/", "bdd100k/bdd100k/")
        candidates = [f"{each}images/10k" for each in above] + [f"{each}seg/images" for each in above]
        if (self.root / "images" / "train").is_dir():  # the root is seg itself
            candidates.append("images")
        images = existing_folder(self.root, candidates, dataset="BDD100K", expected=_EXPECTED, source=_SOURCE)
        old = images.name != "10k"
        return _Tree(images.parent if old else images.parent.parent, images, old)


class _Tree(NamedTuple):
    """Folders of a release."""

    base: Path
    images: Path
    """Folder that contains one folder of images per split."""
    old: bool
    """Whether it is a release before 2021, with ``seg/images`` and ``seg/labels``."""


_FOLDERS = {
    "masks": "sem_seg/masks",
    "colormaps": "sem_seg/colormaps",
    "ins_seg": "ins_seg/bitmasks",
    "pan_seg": "pan_seg/bitmasks",
}


def _annotations(tree: _Tree, split: str) -> Path | None:
    """The annotation file to draw masks from; run-length encodings are preferred, because they are the released masks."""
    labels = tree.base / "labels"
    files = (
        labels / "sem_seg" / "rles" / f"sem_seg_{split}.json",
        labels / "sem_seg" / "polygons" / f"sem_seg_{split}.json",
        labels / "pan_seg" / "polygons" / f"pan_seg_{split}.json",  # the same names of categories
    )
    return next((file for file in files if file.is_file()), None)


def _cache(tree: _Tree, split: str) -> MaskCache:
    labels = tree.base / "labels" / "sem_seg"
    return MaskCache(
        labels / "masks" / split,
        recipe={"dataset": "BDD100K, train ids"},
        annotations=_annotations(tree, split) or labels / "polygons" / f"sem_seg_{split}.json",
        hint="copy the dataset, or link its images and labels, to a folder that can be written",
    )


def _bitmasks(tree: _Tree, split: str) -> list[Path]:
    return [tree.base / "labels" / task / "bitmasks" / split for task in ("sem_seg", "ins_seg", "pan_seg")]


def _mode(folder: Path) -> str | None:
    """The pixel mode of the first image in a folder, or None."""
    if not folder.is_dir():
        return None
    first = min((path for path in folder.iterdir() if is_image(path)), default=None)
    if first is None:
        return None
    try:
        with Image.open(first) as image:
            return image.mode
    except OSError as error:
        raise InputError(f"{first}: cannot be read as an image ({error})") from error


def _by_name(folder: Path, ending: str = "") -> dict[str, Path]:
    """Images whose names have this ending, sorted, by their name without it."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not is_image(path) or not path.stem.endswith(ending):
            continue
        name = path.stem.removesuffix(ending)
        if name in found:
            raise InputError(f"{found[name]} and {path} have the same name; keep one of them")
        found[name] = path
    return found
