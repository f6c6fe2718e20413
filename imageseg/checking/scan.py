"""Scan: a dataset's files as they lie on disk, with the facts about each; made once, judged by the faults."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from pathlib import Path

from imageseg.checking.duplicates import Copy, copies_across
from imageseg.checking.file_facts import Header, MaskFacts, PairFacts, PictureFacts, facts_of
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
    """One split's files.

    Attributes:
        pairs: pictures with their masks.
        without_mask: pictures whose mask is not there.
        without_image: masks whose picture is not there.
        twins: two files of one folder that have one name.
        error: why the dataset cannot list the split; empty where it can.
        listed_in: the user's own file that names the split's pictures; None where folders do.
    """

    pairs: list[Pair] = field(default_factory=list)
    without_mask: list[Pair] = field(default_factory=list)
    without_image: list[Pair] = field(default_factory=list)
    twins: list[tuple[Path, Path]] = field(default_factory=list)
    error: str = ""
    listed_in: Path | None = None


@dataclass
class Scan:
    """Everything that the faults look at.

    Attributes:
        name: the dataset's.
        root: where it lies.
        splits: what was scanned, by name.
        facts: one entry per pair of files, however many splits list it.
        labels: the label table; None where there is none that could be read.
        label_error: why not.
        label_file: the file of the table, where the user has one of the right or nearly the right name.
        own_masks: whether the masks are the user's own, in whatever encoding they came; else a published set's.
        all_splits: whether every split of the dataset was scanned.
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
    def copies(self) -> list[Copy]:
        """Pictures that two splits share."""
        facts = dict(self.pictures())
        return copies_across(
            {
                split: {pair.image: facts[pair.image] for pair in (*files.pairs, *files.without_mask)}
                for split, files in self.splits.items()
            }
        )

    @cached_property
    def values(self) -> ValueReport:
        """The values of all sound masks, held against the label table."""
        return compare(self.sound_masks(), self.labels)

    def pictures(self) -> Iterator[tuple[Path, PictureFacts]]:
        """Every picture once."""
        for facts in self.facts:
            yield facts.pair.image, facts.picture

    def masks(self) -> Iterator[tuple[Path, MaskFacts]]:
        """Every mask once."""
        for facts in self.facts:
            if facts.pair.mask is not None and facts.mask is not None:
                yield facts.pair.mask, facts.mask

    @cached_property
    def lying(self) -> tuple[int, int]:
        """How many pictures and masks lie there, whether they could be paired or not."""
        pictures, masks = {path for path, _ in self.pictures()}, {path for path, _ in self.masks()}
        places = [] if self.splits or not self.own_masks else [""]
        for split, files in self.splits.items():
            pictures |= {twin for first, twin in files.twins if first in pictures}
            masks |= {twin for first, twin in files.twins if first in masks}
            masks |= {pair.mask for pair in files.without_image if pair.mask is not None and pair.mask.is_file()}
            if files.error and self.own_masks:
                places.append("" if files.listed_in else split)
        for place in places:
            pictures |= _below(find_folder(self.root, [f"images/{place}"]))
            masks |= _below(find_folder(self.root, [f"masks/{place}"]))
        return len(pictures), len(masks)

    def headers(self) -> Iterator[tuple[Path, Header]]:
        """The header of every file."""
        files: Iterator[tuple[Path, PictureFacts | MaskFacts]] = chain(self.pictures(), self.masks())
        for path, facts in files:
            yield path, facts.header

    def sound_masks(self) -> Iterator[tuple[Path, MaskFacts]]:
        """The masks that the dataset can read and that do not look like photos."""
        for path, mask in self.masks():
            if not mask.error and not mask.header.oversized and not looks_like_a_photo(mask):
                yield path, mask

    def shown(self, path: Path) -> str:
        """A path as the report shows it: below the root."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def scan(
    dataset: SegmentationDataset,
    splits: Sequence[str] = (),
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Scan:
    """Reads every file of the splits; unset, of all that are there.

    Raises:
        InputError: the dataset is not there, or has no such split; what is wrong with single files raises nothing.
    """
    there = _splits(dataset)
    chosen = list(dict.fromkeys(splits)) or list(there)
    files = {split: _files(dataset, split, known=split in there) for split in chosen}
    pairs = list(dict.fromkeys(pair for split in files.values() for pair in _readable(split)))
    work = partial(facts_of, read_stored=dataset.read_stored)
    facts = list(in_processes(work, pairs, workers=workers, progress=progress))
    labels, label_error = _labels(dataset)
    return Scan(
        type(dataset).__name__,
        dataset.root,
        files,
        facts,
        labels,
        label_error,
        next(filter(Path.is_file, (dataset.root / name for name in ("labels.yaml", "labels.yml"))), None),
        own_masks=isinstance(dataset, Folder),
        all_splits=set(chosen) >= set(there),
    )


def looks_like_a_photo(mask: MaskFacts) -> bool:
    """Whether a mask file holds a photograph: many values, and hardly two neighbours alike."""
    return mask.pixels.distinct > 64 and mask.pixels.flat < 0.3


def _splits(dataset: SegmentationDataset) -> tuple[str, ...]:
    try:
        return dataset.splits
    except InputError as error:
        # The most frequent wrong folder is one above or one below the right one.
        near = [dataset.root.parent, *(sorted(dataset.root.iterdir()) if dataset.root.is_dir() else ())]
        right = next((path for path in near if (path / "images").is_dir() and (path / "masks").is_dir()), None)
        if right is None:
            raise
        raise InputError(f"{error.line()}; {right} has images and masks: did you mean that?") from error


def _files(dataset: SegmentationDataset, split: str, *, known: bool) -> SplitFiles:
    listed_in = find_lists(dataset.root).get(split) if isinstance(dataset, Folder) else None
    try:
        listing = dataset.listing(split)
    except InputError as error:
        if not known:
            raise
        listed = _looked_up(dataset.root / "images" / split, dataset.root / "masks" / split)
        if listed.twins and listed_in is None:  # the rest of the split can be scanned all the same
            return listed
        return SplitFiles(error=error.line(), listed_in=listed_in)
    return SplitFiles(listing.pairs, listing.without_mask, listing.without_image, listed_in=listed_in)


def _looked_up(images: Path, masks: Path) -> SplitFiles:
    """The plainest layout, listed by our own rule where the dataset refuses to: of two files of one name, the first."""
    if not images.is_dir() or not masks.is_dir():
        return SplitFiles()
    pictures, labels = _by_stem(images), _by_stem(masks)
    twins = [(paths[0], twin) for found in (pictures, labels) for paths in found.values() for twin in paths[1:]]
    pairs, without_mask, without_image = list[Pair](), list[Pair](), list[Pair]()
    for stem in sorted({*pictures, *labels}):
        pair = Pair(pictures.get(stem, [images / f"{stem}.jpg"])[0], labels.get(stem, [masks / f"{stem}.png"])[0], stem)
        kind = without_mask if stem not in labels else without_image if stem not in pictures else pairs
        kind.append(pair)
    return SplitFiles(pairs, without_mask, without_image, twins=twins)


def _below(folder: Path | None) -> set[Path]:
    """All pictures in a folder and in those inside it."""
    return set(filter(is_image, folder.rglob("*"))) if folder else set()


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if is_image(path):
            found.setdefault(path.stem, []).append(path)
    return found


def _readable(split: SplitFiles) -> list[Pair]:
    """Also pictures that have lost their masks: a damaged one among them is a fault of its own."""
    return [*split.pairs, *(pair._replace(mask=None) for pair in split.without_mask)]


def _labels(dataset: SegmentationDataset) -> tuple[LabelSpace | None, str]:
    try:
        return dataset.labels, ""
    except InputError as error:
        return None, error.line()
