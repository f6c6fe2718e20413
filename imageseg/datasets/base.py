"""What a dataset is: labels, and pairs of files per split. It knows no augmentation and no loader."""

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
    """A dataset on disk. Subclasses take ``root`` first and keep it."""

    root: Path
    labels: LabelSpace
    scored_split: str = "val"
    """The split that a finished run is scored on: "test" where its masks are public."""

    @property
    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The splits that are there, in the order train, val, test, others.

        Raises:
            InputError: the dataset is not there; names what was looked for and where the data come from.
        """

    @abstractmethod
    def listing(self, split: str) -> Listing:
        """The files of a split, sorted by name or in the order of the dataset's own list, faults included.

        Raises:
            InputError: no such split, or nothing that could be listed.
        """

    def pairs(self, split: str) -> list[Pair]:
        """The files of a split.

        Raises:
            InputError: no such split, or a file without its partner.
        """
        listing = self.listing(split)
        if not (faults := listing.faults()):
            return listing.pairs
        fault, first = faults[0]
        there, gone = (first.image, first.mask) if listing.without_mask else (first.mask, first.image)
        name = type(self).__name__
        lister = command("check", name, "--root", self.root)
        raise InputError(f"{name} {split}: {fault}: {there} has no {gone}; {lister} lists them all")

    def prepare(  # noqa: B027
        self,
        *,
        splits: Iterable[str] | None = None,
        replace: bool = False,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Makes whatever must exist once before ``listing`` works; does nothing when it is there.

        Args:
            splits: what is needed; unset, all.
            replace: make anew what was made by other choices; without, that is an error, because somebody may be using it.
            workers: processes that may be started; unset, one per processor.
            progress: called with (files done, files in all).
        """

    def archives(self) -> list[Archive]:
        """What ``imageseg prepare --download`` fetches.

        Raises:
            InputError: the owner wants a login or a signature; says the steps.
        """
        raise InputError(f"{type(self).__name__} is not offered for download")

    def read_stored(self, mask: Path) -> npt.NDArray[Any]:
        """A mask file as ``labels.encode`` takes it; datasets with encodings of their own override this."""
        return read_mask(mask)

    def labels_of(self, mask: Path) -> LabelSpace:
        """The table that one mask file is stored by; only datasets with several kinds of files override this."""
        return self.labels

    def objects(self, pair: Pair) -> int | None:
        """How many objects are annotated in a picture; None where the dataset does not tell them apart."""
        return None

    def samples(self, split: str) -> PairSamples:
        """The samples of a split, decoded one by one, without augmentation."""
        from imageseg.datasets.samples import PairSamples

        return PairSamples(self.pairs(split), self.labels, self.plain_reader)

    @property
    def plain_reader(self) -> Callable[[Path], npt.NDArray[Any]]:
        """``read_stored`` for other processes: without the dataset, which may hold large tables, where plain masks are read."""
        is_plain = type(self).read_stored is SegmentationDataset.read_stored
        return read_mask if is_plain else self.read_stored


def find_folder(root: Path, candidates: Iterable[str]) -> Path | None:
    """The first of the candidate folders below ``root`` that exists; upper and lower case are the same. None: there is none.

    Args:
        root: where to look.
        candidates: paths below it, "" for itself.
    """
    for candidate in candidates:
        folder = root
        for part in Path(candidate).parts:
            folder = _child(folder, part)
        if folder.is_dir():
            return folder
    return None


def existing_folder(root: str | Path, candidates: Iterable[str], *, dataset: str, expected: str, source: str) -> Path:
    """As ``find_folder``, where one of them must be there.

    Args:
        root: where to look.
        candidates: paths below it, "" for itself.
        dataset: its name, for the error.
        expected: the tree that should be there, for the error.
        source: where to get the data, for the error.

    Raises:
        InputError: none is there.
    """
    tried = list(candidates)
    found = find_folder(Path(root), tried)
    if found is not None:
        return found
    state = "has no" if Path(root).is_dir() else "does not exist; looked there for"
    looked = ", ".join(candidate for candidate in tried if candidate) or "it"
    raise InputError(
        f"{dataset}: {root} {state} {looked}; expected {expected}; get it from {source}, then pass --data.root"
    )


def listing_by_stem(images: Path, masks: Path) -> Listing:
    """Pictures and masks of the same name, suffix aside, sorted.

    Raises:
        InputError: two files of one name in a folder, or a folder without any picture.
    """
    pictures, labels = _files_by_stem(images), _files_by_stem(masks)
    return Listing(
        [Pair(path, labels[stem], stem) for stem, path in pictures.items() if stem in labels],
        without_mask=[Pair(path, masks / f"{stem}.png", stem) for stem, path in pictures.items() if stem not in labels],
        without_image=[
            Pair(images / f"{stem}.jpg", path, stem) for stem, path in labels.items() if stem not in pictures
        ],
    )


def listing_of(pairs: Iterable[Pair]) -> Listing:
    """The pairs that a list names, sorted out by which of their files are there."""
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
    """train, val, test, then the others by name."""
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
            raise InputError(f"{found[path.stem]} and {path} have one name; keep one of them")
        found[path.stem] = path
    if not found:
        raise InputError(f"{folder}: holds no pictures ({', '.join(IMAGE_SUFFIXES)}){_deeper(folder)}")
    return dict(sorted(found.items()))


def _deeper(folder: Path) -> str:
    """Where the pictures are that were looked for a level too high."""
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        if count := sum(map(is_image, inner.iterdir())):
            return f"; its folder {inner.name} holds {count}: move {'it' if count == 1 else 'them'} up"
    return ""
