"""Scan: the files of a dataset with the facts about each, collected once and judged by the faults."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from pathlib import Path

from imageseg.checking.duplicates import Duplicate, duplicates_across
from imageseg.checking.file_facts import Header, ImageFacts, MaskFacts, PairFacts, facts_of
from imageseg.checking.label_values import ValueReport, compare
from imageseg.datasets.base import SegmentationDataset, find_folder
from imageseg.datasets.folder import Folder, find_lists
from imageseg.datasets.pairs import Pair
from imageseg.errors import InputError
from imageseg.images import is_image
from imageseg.labels import LabelSpace
from imageseg.parallel import Progress, in_processes


@dataclass
class SplitFiles:
    """The files of one split.

    Attributes:
        pairs: Images with their masks.
        without_mask: Images whose mask is missing.
        without_image: Masks whose image is missing.
        same_name: Pairs of files in one folder whose names differ in the suffix only, the one that was checked first.
        error: Reason why the dataset cannot list the split; empty if it can.
        listed_in: The user's list file that names the split's images; None if folders define the split.
    """

    pairs: list[Pair] = field(default_factory=list)
    without_mask: list[Pair] = field(default_factory=list)
    without_image: list[Pair] = field(default_factory=list)
    same_name: list[tuple[Path, Path]] = field(default_factory=list)
    error: str = ""
    listed_in: Path | None = None


@dataclass
class Scan:
    """Everything that the faults examine.

    Attributes:
        name: Name of the dataset.
        root: Folder of the dataset.
        splits: Files of each scanned split, by the split's name.
        facts: One entry per pair of files, even if several splits list it.
        labels: Label table; None if there is none that could be read.
        label_error: Reason why there is no label table.
        label_file: File of the label table, if the user has one under the expected or a similar name.
        own_masks: Whether the masks are the user's own (a ``Folder``, in any encoding), not those of a published dataset.
        all_splits: Whether all splits of the dataset were scanned.
    """

    name: str
    root: Path
    splits: dict[str, SplitFiles]
    facts: list[PairFacts]
    labels: LabelSpace | None
    label_error: str = ""
    label_file: Path | None = None
    own_masks: bool = False
    all_splits: bool = True

    @cached_property
    def duplicates(self) -> list[Duplicate]:
        """Images that two splits share."""
        facts = dict(self.images())
        return duplicates_across(
            {
                split: {pair.image: facts[pair.image] for pair in (*files.pairs, *files.without_mask)}
                for split, files in self.splits.items()
            }
        )

    @cached_property
    def values(self) -> ValueReport:
        """The values of all sound masks, compared with the label table."""
        return compare(self.sound_masks(), self.labels)

    def images(self) -> Iterator[tuple[Path, ImageFacts]]:
        """Yield every image once."""
        for facts in self.facts:
            yield facts.pair.image, facts.image

    def masks(self) -> Iterator[tuple[Path, MaskFacts]]:
        """Yield every mask once."""
        for facts in self.facts:
            if facts.pair.mask is not None and facts.mask is not None:
                yield facts.pair.mask, facts.mask

    @cached_property
    def file_counts(self) -> tuple[int, int]:
        """Number of images and of masks on disk, including files without a partner."""
        images, masks = {path for path, _ in self.images()}, {path for path, _ in self.masks()}
        folders = [] if self.splits or not self.own_masks else [""]
        for split, files in self.splits.items():
            images |= {second for first, second in files.same_name if first in images}
            masks |= {second for first, second in files.same_name if first in masks}
            masks |= {pair.mask for pair in files.without_image if pair.mask is not None and pair.mask.is_file()}
            if files.error and self.own_masks:
                folders.append("" if files.listed_in else split)
        for folder in folders:
            images |= _images_below(find_folder(self.root, [f"images/{folder}"]))
            masks |= _images_below(find_folder(self.root, [f"masks/{folder}"]))
        return len(images), len(masks)

    def headers(self) -> Iterator[tuple[Path, Header]]:
        """Yield the header of every file."""
        files: Iterator[tuple[Path, ImageFacts | MaskFacts]] = chain(self.images(), self.masks())
        for path, facts in files:
            yield path, facts.header

    def sound_masks(self) -> Iterator[tuple[Path, MaskFacts]]:
        """Yield the masks that the dataset can read and that do not look like photos."""
        for path, mask in self.masks():
            if not mask.error and not mask.header.oversized and not looks_like_a_photo(mask):
                yield path, mask

    def shown(self, path: Path) -> str:
        """Return a path as the report prints it: relative to the root if it is inside."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def scan(
    dataset: SegmentationDataset,
    splits: Sequence[str] = (),
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Scan:
    """Read every file of a dataset. Faults of single files raise nothing: they are what the scan is for.

    Args:
        dataset: Dataset to scan.
        splits: Names of the splits to scan. If empty, all splits that exist are scanned.
        workers: Number of worker processes (default: one per CPU core).
        progress: Callback that reports the number of files done.

    Raises:
        InputError: The dataset does not exist or has no such split.
    """
    existing = _existing_splits(dataset)
    chosen = list(dict.fromkeys(splits)) or list(existing)
    files = {split: _files_of(dataset, split, exists=split in existing) for split in chosen}
    pairs = list(dict.fromkeys(pair for split in files.values() for pair in _pairs_to_read(split)))
    work = partial(facts_of, read_stored=dataset.read_stored)
    facts = list(in_processes(work, pairs, workers=workers, progress=progress))
    labels, label_error = _labels_of(dataset)
    return Scan(
        type(dataset).__name__,
        dataset.root,
        files,
        facts,
        labels,
        label_error,
        next(filter(Path.is_file, (dataset.root / name for name in ("labels.yaml", "labels.yml"))), None),
        own_masks=isinstance(dataset, Folder),
        all_splits=set(chosen) >= set(existing),
    )


def looks_like_a_photo(mask: MaskFacts) -> bool:
    """Whether a mask file holds a photo: many values, and few pixels that equal all their neighbors."""
    return mask.pixels.distinct > 64 and mask.pixels.flat < 0.3


def _existing_splits(dataset: SegmentationDataset) -> tuple[str, ...]:
    try:
        return dataset.splits
    except InputError as error:
        # A wrong root is most often one level above or below the right one.
        candidates = [dataset.root.parent, *(sorted(dataset.root.iterdir()) if dataset.root.is_dir() else ())]
        right = next((path for path in candidates if (path / "images").is_dir() and (path / "masks").is_dir()), None)
        if right is None:
            raise
        raise InputError(f"{error.line()}; {right} has images and masks: did you mean that?") from error


def _files_of(dataset: SegmentationDataset, split: str, *, exists: bool) -> SplitFiles:
    listed_in = find_lists(dataset.root).get(split) if isinstance(dataset, Folder) else None
    try:
        listing = dataset.listing(split)
    except InputError as error:
        if not exists:
            raise
        files = _pair_by_stem(dataset.root / "images" / split, dataset.root / "masks" / split)
        if files.same_name and listed_in is None:  # the rest of the split can be scanned nevertheless
            return files
        return SplitFiles(error=error.line(), listed_in=listed_in)
    return SplitFiles(listing.pairs, listing.without_mask, listing.without_image, listed_in=listed_in)


def _pair_by_stem(image_folder: Path, mask_folder: Path) -> SplitFiles:
    """List a split of the plain layout that the dataset refuses; of several files of one name, the first is paired."""
    if not image_folder.is_dir() or not mask_folder.is_dir():
        return SplitFiles()
    images, masks = _by_stem(image_folder), _by_stem(mask_folder)
    same_name = [(paths[0], other) for found in (images, masks) for paths in found.values() for other in paths[1:]]
    pairs, without_mask, without_image = list[Pair](), list[Pair](), list[Pair]()
    for stem in sorted({*images, *masks}):
        image = images.get(stem, [image_folder / f"{stem}.jpg"])[0]
        mask = masks.get(stem, [mask_folder / f"{stem}.png"])[0]
        kind = without_mask if stem not in masks else without_image if stem not in images else pairs
        kind.append(Pair(image, mask, stem))
    return SplitFiles(pairs, without_mask, without_image, same_name=same_name)


def _images_below(folder: Path | None) -> set[Path]:
    """Return all image files in a folder and its subfolders."""
    return set(filter(is_image, folder.rglob("*"))) if folder else set()


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if is_image(path):
            found.setdefault(path.stem, []).append(path)
    return found


def _pairs_to_read(split: SplitFiles) -> list[Pair]:
    """Return the pairs, and the images without a mask: a damaged one among them is a fault of its own."""
    return [*split.pairs, *(pair._replace(mask=None) for pair in split.without_mask)]


def _labels_of(dataset: SegmentationDataset) -> tuple[LabelSpace | None, str]:
    try:
        return dataset.labels, ""
    except InputError as error:
        return None, error.line()
