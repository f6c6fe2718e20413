"""What a dataset is: labels, and pairs of files per split. It knows no augmentation and no loader."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from imageseg.errors import InputError
from imageseg.images import IMAGE_SUFFIXES, is_picture
from imageseg.labels import LabelSpace

if TYPE_CHECKING:
    from imageseg.datasets.samples import PairSamples


class Pair(NamedTuple):
    """One picture and the file of its mask; ``mask`` is None where the truth is not public."""

    image: Path
    mask: Path | None
    name: str


class SegmentationDataset(ABC):
    """A dataset on disk. Subclasses take ``root`` first and keep it."""

    root: Path
    labels: LabelSpace
    scored_split: str = "val"
    """The split that a finished run is scored on: "test" where its masks are public."""

    @abstractmethod
    def pairs(self, split: str) -> list[Pair]:
        """The files of a split, sorted by name or in the order of the dataset's own list.

        Raises:
            InputError: no such split, or files are missing; names what was looked for and where the data come from.
        """

    def prepare(self) -> None:  # noqa: B027 (a dataset that needs no preparing is complete)
        """Makes whatever must exist once before ``pairs`` works; does nothing when it is there."""

    def samples(self, split: str) -> PairSamples:
        """The samples of a split, decoded one by one, without augmentation."""
        from imageseg.datasets.samples import PairSamples

        return PairSamples(self.pairs(split), self.labels)


def existing_folder(root: str | Path, candidates: Iterable[str], *, dataset: str, expected: str, source: str) -> Path:
    """The first of the candidate folders below ``root`` that exists; upper and lower case are the same.

    Args:
        root: where to look.
        candidates: paths below it, "" for itself.
        dataset: its name, for the error.
        expected: the tree that should be there, for the error.
        source: where to get the data, for the error.
    """
    tried = list(candidates)
    for candidate in tried:
        folder = Path(root)
        for part in Path(candidate).parts:
            folder = _child(folder, part)
        if folder.is_dir():
            return folder
    state = "has no" if Path(root).is_dir() else "does not exist; looked there for"
    looked = ", ".join(candidate for candidate in tried if candidate) or "it"
    raise InputError(
        f"{dataset}: {root} {state} {looked}; expected {expected}; get it from {source}, then pass --data.root"
    )


def pairs_by_stem(images: Path, masks: Path) -> list[Pair]:
    """Pictures and masks of the same name, suffix aside, sorted.

    Raises:
        InputError: a picture without mask, a mask without picture, or two files of one name.
    """
    by_stem = {folder: _files_by_stem(folder) for folder in (images, masks)}
    for here, there, what in ((images, masks, "mask"), (masks, images, "picture")):
        lonely = sorted(by_stem[here].keys() - by_stem[there].keys())
        if lonely:
            files = ", ".join(str(by_stem[here][stem]) for stem in lonely[:3])
            raise InputError(
                f"{len(lonely)} of {len(by_stem[here])} files in {here} have no {what} of that name in {there}: {files}"
            )
    return [Pair(path, by_stem[masks][stem], stem) for stem, path in sorted(by_stem[images].items())]


def require_split(split: str, splits: Iterable[str], dataset: str) -> None:
    """Raises:
    InputError: ``split`` is not one of ``splits``.
    """
    known = list(splits)
    if split not in known:
        raise InputError(f"{dataset} has no split '{split}'; it has {', '.join(known) or 'none'}")


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
        if not is_picture(path):
            continue
        if path.stem in found:
            raise InputError(f"{found[path.stem]} and {path} have one name; keep one of them")
        found[path.stem] = path
    if not found:
        raise InputError(f"{folder}: holds no pictures ({', '.join(IMAGE_SUFFIXES)})")
    return found
