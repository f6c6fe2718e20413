"""Cityscapes (Cordts et al. 2016, arXiv:1604.01685; cityscapes-dataset.com): street scenes of 2048 x 1024 in 19 classes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np

from imageseg.datasets.base import SegmentationDataset, existing_folder, require_split
from imageseg.datasets.cityscapes.labels import IDS, TRAIN_IDS
from imageseg.datasets.cityscapes.polygons import POLYGONS, label_ids_path, write_label_ids
from imageseg.datasets.pairs import Archive, Listing, Pair
from imageseg.errors import InputError, command
from imageseg.images import is_image, read_mask
from imageseg.labels import LabelSpace
from imageseg.parallel import Progress, in_processes

Masks = Literal["auto", "labelIds", "labelTrainIds"]

_SPLITS = ("train", "val", "test", "train_extra")
_SOURCE = "https://www.cityscapes-dataset.com (register; 'imageseg prepare Cityscapes --download' prints the steps)"
_SCORED = 1000  # instanceIds from 1000 on are objects; smaller ones are groups and everything else (cityscapesScripts)


class Cityscapes(SegmentationDataset):
    """Cityscapes with the 19 classes of the benchmark; all other ids are ignored.

    Splits: train (2975 frames), val (500), test (1525, without public masks, for prediction only), and train_extra (19,998
    with coarse masks). Masks are the ``labelIds`` files of the download, ``labelTrainIds`` files if they have been created, or
    drawn once from the polygons by ``imageseg prepare Cityscapes``.

    Args:
        root: Folder that contains ``leftImg8bit`` and ``gtFine``, or ``leftImg8bit_trainvaltest`` and
            ``gtFine_trainvaltest`` with these inside.
        masks: Kind of mask files to read; "auto" uses labelIds if there are any, else labelTrainIds.
    """

    def __init__(self, root: str = "data/Cityscapes", *, masks: Masks = "auto") -> None:
        if masks not in ("auto", "labelIds", "labelTrainIds"):
            raise InputError(f"Cityscapes: masks must be auto, labelIds or labelTrainIds, found '{masks}'")
        self.root = Path(root)
        self.masks = masks

    @property
    def labels(self) -> LabelSpace:  # type: ignore[override]
        """The 19 classes, with the stored values of the kind of files that is read."""
        return TRAIN_IDS if self._kind() == "labelTrainIds" else IDS

    def labels_of(self, mask: Path) -> LabelSpace:
        """The label space of one mask file, determined by its name."""
        return TRAIN_IDS if mask.stem.endswith("_labelTrainIds") else IDS

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits whose images exist."""
        self._images("train", required=not any(self._images(split) for split in _SPLITS))
        return tuple(split for split in _SPLITS if self._images(split))

    def listing(self, split: str) -> Listing:
        """List the frames of a split, sorted by city, sequence and frame."""
        require_split(split, _SPLITS, "Cityscapes")
        images = _frames(self._images(split, required=True), "leftImg8bit")
        if split == "test":  # its public masks are dummies
            return Listing([Pair(path, None, name) for name, path in images.items()], [], [])
        annotations, folder, kind = _annotations_of(split), self._masks(split, required=True), self._kind()
        assert folder is not None  # required
        masks = _frames(folder, f"{annotations}_{kind}")
        drawable = _frames(folder, f"{annotations}_polygons", suffixes=(".json",))
        if kind == "labelIds" and (missing := sorted(drawable.keys() & images.keys() - masks.keys())):
            raise InputError(
                f"Cityscapes: {len(missing)} of {len(images)} images of {split} have polygons and no {kind} file, such "
                f"as {drawable[missing[0]]}; {command('prepare', 'Cityscapes', '--root', self.root)} draws them"
            )
        absent = [name for name in images if name not in masks]
        alone = [name for name in masks if name not in images]
        return Listing(
            [Pair(path, masks[name], name) for name, path in images.items() if name in masks],
            without_mask=[Pair(images[name], _mask_for(images[name], folder, kind), name) for name in absent],
            without_image=[Pair(_image_for(masks[name], images), masks[name], name) for name in alone],
        )

    def prepare(
        self,
        *,
        splits: Iterable[str] | None = None,
        replace: bool = False,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Draw missing labelIds files next to their polygons; existing files are kept."""
        if not any(self._masks(split) for split in _SPLITS):
            self._masks("train", required=True)
        if self._kind() == "labelTrainIds":
            return
        todo = []
        for split in ("train", "val", "train_extra"):
            folder = self._masks(split) if splits is None or split in splits else None
            for polygons in _files(folder, POLYGONS) if folder else ():
                if not label_ids_path(polygons).exists():
                    todo.append(polygons)
        try:
            for _ in in_processes(write_label_ids, todo, workers=workers, progress=progress):
                pass
        except KeyboardInterrupt:
            made = sum(label_ids_path(polygons).exists() for polygons in todo)
            raise KeyboardInterrupt(
                f"{made} of {len(todo)} masks are drawn; the same command continues from there"
            ) from None

    def archives(self) -> list[Archive]:
        """Raises:
        InputError: Always, because the owner requires a registration; the message describes the steps.
        """
        raise InputError(
            "Cityscapes: its owner requires a registration: register at https://www.cityscapes-dataset.com/register, then "
            "'pip install cityscapesscripts' and 'csDownload leftImg8bit_trainvaltest.zip gtFine_trainvaltest.zip' (or "
            f"download both in a browser), and unpack both in {self.root}, which then contains leftImg8bit and gtFine"
        )

    def objects(self, pair: Pair) -> int | None:
        """Number of objects in the frame's instanceIds file, if it exists: each object has its own value from 1000 on."""
        if pair.mask is None:
            return None
        annotations = _annotations_of(pair.mask.parent.parent.name)
        path = pair.mask.with_name(f"{pair.name}_{annotations}_instanceIds.png")
        if not path.is_file():
            return None
        counts = np.bincount(read_mask(path).ravel())
        return int(np.count_nonzero(counts[_SCORED:]))

    def _kind(self) -> str:
        """The kind of files to read; without any files labelIds, which can be drawn."""
        if self.masks != "auto":
            return self.masks
        folders = [folder for folder in map(self._masks, ("train", "val", "train_extra")) if folder]
        for kind in ("labelIds", "labelTrainIds"):
            if any(next(iter(_files(folder, f"_{kind}.png")), None) for folder in folders):
                return kind
        return "labelIds"

    def _images(self, split: str, *, required: bool = False) -> Path | None:
        return self._folder("leftImg8bit", split, required=required)

    def _masks(self, split: str, *, required: bool = False) -> Path | None:
        return self._folder(_annotations_of(split), split, required=required)

    def _folder(self, kind: str, split: str, *, required: bool) -> Path | None:
        places = ("", "_trainvaltest", "_trainextra")
        candidates = [f"{kind}{place}/{kind}/{split}" if place else f"{kind}/{split}" for place in places]
        try:
            return existing_folder(
                self.root,
                candidates,
                dataset="Cityscapes",
                expected="leftImg8bit/<split>/<city>/*_leftImg8bit.png and gtFine/<split>/<city>/*_gtFine_labelIds.png",
                source=_SOURCE,
            )
        except InputError:
            if required:
                raise
            return None


def _annotations_of(split: str) -> str:
    return "gtCoarse" if split == "train_extra" else "gtFine"


def _files(folder: Path, ending: str) -> Iterable[Path]:
    """The files of all cities with this ending, except hidden ones."""
    for city in sorted(folder.iterdir()):
        if city.is_dir() and not city.name.startswith("."):
            names = (path for path in city.iterdir() if path.name.endswith(ending) and not path.name.startswith("."))
            yield from sorted(names)


def _frames(folder: Path | None, kind: str, *, suffixes: tuple[str, ...] = ()) -> dict[str, Path]:
    """Map the frame name (city, sequence and frame number) to the file, for the files of one kind."""
    found: dict[str, Path] = {}
    for path in _files(folder, "") if folder else ():
        if path.stem.endswith(f"_{kind}") and (path.suffix in suffixes if suffixes else is_image(path)):
            name = path.stem.removesuffix(f"_{kind}")
            if name in found:
                raise InputError(f"{found[name]} and {path} are the same frame; keep one of them")
            found[name] = path
    return found


def _mask_for(image: Path, folder: Path, kind: str) -> Path:
    annotations = _annotations_of(folder.name)
    name = image.stem.removesuffix("_leftImg8bit")
    return folder / image.parent.name / f"{name}_{annotations}_{kind}.png"


def _image_for(mask: Path, images: dict[str, Path]) -> Path:
    """The expected path of the image of a mask, in its city's folder."""
    folder = next(iter(images.values())).parent.parent if images else mask.parent.parent
    name = mask.stem.rpartition("_gt")[0]
    return folder / mask.parent.name / f"{name}_leftImg8bit.png"
