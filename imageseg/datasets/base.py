"""The contract of a dataset: labels, and pairs of files per split. It knows neither augmentation nor data loading."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from imageseg.datasets.pairs import Archive, Listing, Pair
from imageseg.errors import InputError, command
from imageseg.images import IMAGE_SUFFIXES, is_image, read_mask
from imageseg.labels import LabelSpace

if TYPE_CHECKING:
    from imageseg.datasets.samples import PairSamples
    from imageseg.parallel import Progress


class SegmentationDataset(ABC):
    """Base class of datasets on disk. The first argument of every subclass is ``root``, which it keeps as an attribute."""

    root: Path
    labels: LabelSpace
    scored_split: str = "val"
    """The split that a finished training run is evaluated on: "test" where its masks are public."""

    @property
    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The splits that exist on disk, in the order train, val, test, others.

        Raises:
            InputError: The dataset is missing; the message names the expected files and the source of the data.
        """

    @abstractmethod
    def listing(self, split: str) -> Listing:
        """List the files of a split, sorted by name or in the order of the dataset's own list, including incomplete pairs.

        Raises:
            InputError: The split does not exist, or contains nothing that could be listed.
        """

    def pairs(self, split: str) -> list[Pair]:
        """Return the pairs of a split.

        Raises:
            InputError: The split does not exist, or an image or mask has no counterpart.
        """
        listing = self.listing(split)
        if not (faults := listing.faults()):
            return listing.pairs
        fault, first = faults[0]
        there, gone = (first.image, first.mask) if listing.without_mask else (first.mask, first.image)
        name = type(self).__name__
        lister = command("check", name, "--root", self.root)
        raise InputError(f"{name} {split}: {fault}: {there} has no {gone}; {lister} lists all of them")

    def prepare(  # noqa: B027
        self,
        *,
        splits: Iterable[str] | None = None,
        replace: bool = False,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Create the files that ``listing`` needs, such as masks drawn from annotations; existing ones are kept.

        Args:
            splits: Splits that are needed. If not set, all.
            replace: Whether files made with other options are made again. If not, they are an error, because another run may
                be using them.
            workers: Number of worker processes. If not set, one per CPU core.
            progress: Function called with (files done, total number of files).
        """

    def archives(self) -> list[Archive]:
        """Return the archives that ``imageseg prepare --download`` downloads.

        Raises:
            InputError: The owner requires a login or a signature; the message describes the steps.
        """
        raise InputError(f"{type(self).__name__} is not offered for download")

    def read_stored(self, mask: Path) -> npt.NDArray[Any]:
        """Read a mask file as ``labels.encode`` accepts it; datasets with their own encodings override this."""
        return read_mask(mask)

    def labels_of(self, mask: Path) -> LabelSpace:
        """The label space of one mask file; only datasets with several kinds of mask files override this."""
        return self.labels

    def objects(self, pair: Pair) -> int | None:
        """Number of annotated objects in an image, or None where the dataset does not distinguish objects."""
        return None

    def samples(self, split: str) -> PairSamples:
        """The samples of a split, decoded one at a time, without augmentation."""
        from imageseg.datasets.samples import PairSamples

        return PairSamples(self.pairs(split), self.labels, self.plain_reader)

    @property
    def plain_reader(self) -> Callable[[Path], npt.NDArray[Any]]:
        """``read_stored`` for worker processes; for plain mask files without the dataset, which may hold large tables."""
        is_plain = type(self).read_stored is SegmentationDataset.read_stored
        return read_mask if is_plain else self.read_stored


def find_folder(root: Path, candidates: Iterable[str]) -> Path | None:
    """Return the first of the candidate folders below ``root`` that exists, ignoring case, or None.

    Args:
        root: Folder to search.
        candidates: Paths below ``root``; "" is ``root`` itself.
    """
    for candidate in candidates:
        folder = root
        for part in Path(candidate).parts:
            folder = _child(folder, part)
        if folder.is_dir():
            return folder
    return None


def existing_folder(root: str | Path, candidates: Iterable[str], *, dataset: str, expected: str, source: str) -> Path:
    """Return the first of the candidate folders that exists, as ``find_folder`` does, or raise an error.

    Args:
        root: Folder to search.
        candidates: Paths below ``root``; "" is ``root`` itself.
        dataset: Name of the dataset, for the error message.
        expected: Expected folder structure, for the error message.
        source: Source of the data, for the error message.

    Raises:
        InputError: None of the folders exists.
    """
    tried = list(candidates)
    found = find_folder(Path(root), tried)
    if found is not None:
        return found
    missing = ", ".join(candidate for candidate in tried if candidate)
    state = f"has no {missing}" if Path(root).is_dir() and missing else "does not exist"
    raise InputError(f"{dataset}: {root} {state}; expected {expected}; get it from {source}, then pass --data.root")


def listing_by_stem(images: Path, masks: Path) -> Listing:
    """Pair images and masks whose names are equal apart from the suffix, sorted by name.

    Raises:
        InputError: A folder contains two files of one name, or no image at all.
    """
    image_files, mask_files = _files_by_stem(images), _files_by_stem(masks)
    return Listing(
        [Pair(path, mask_files[stem], stem) for stem, path in image_files.items() if stem in mask_files],
        without_mask=[
            Pair(path, masks / f"{stem}.png", stem) for stem, path in image_files.items() if stem not in mask_files
        ],
        without_image=[
            Pair(images / f"{stem}.jpg", path, stem) for stem, path in mask_files.items() if stem not in image_files
        ],
    )


def listing_of(pairs: Iterable[Pair]) -> Listing:
    """Make a listing of given pairs, according to which of their files exist."""
    listing = Listing([], [], [])
    for pair in pairs:
        if not pair.image.exists():
            listing.without_image.append(pair)
        elif pair.mask is not None and not pair.mask.exists():
            listing.without_mask.append(pair)
        else:
            listing.pairs.append(pair)
    return listing


def require_split(split: str, splits: Iterable[str], dataset: str) -> None:
    """Raises:
    InputError: ``split`` is not one of ``splits``.
    """
    known = list(splits)
    if split not in known:
        raise InputError(f"{dataset} has no split '{split}'; it has {', '.join(known) or 'none'}")


def in_usual_order(splits: Iterable[str]) -> tuple[str, ...]:
    """Sort splits: train, val, test, then the others by name."""
    usual = ("train", "val", "test")
    return tuple(sorted(splits, key=lambda split: (usual.index(split) if split in usual else len(usual), split)))


def _child(folder: Path, name: str) -> Path:
    exact = folder / name
    if exact.exists() or not folder.is_dir():
        return exact
    return next((path for path in sorted(folder.iterdir()) if path.name.lower() == name.lower()), exact)


def _files_by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not is_image(path):
            continue
        if path.stem in found:
            raise InputError(f"{found[path.stem]} and {path} have the same name; keep one of them")
        found[path.stem] = path
    if not found:
        raise InputError(f"{folder}: contains no images ({', '.join(IMAGE_SUFFIXES)}){_deeper(folder)}")
    return dict(sorted(found.items()))


def _deeper(folder: Path) -> str:
    """A hint for images that are one folder level deeper than expected."""
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        if count := sum(map(is_image, inner.iterdir())):
            return f"; its folder '{inner.name}' contains {count}: move {'it' if count == 1 else 'them'} up"
    return ""
