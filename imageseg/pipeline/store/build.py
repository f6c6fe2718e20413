"""Building the packed store: the pairs of a split are decoded once into a folder. No torch, so that worker processes start fast."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from imageseg.atomic_files import TEMPORARY, file_lock
from imageseg.datasets.base import SegmentationDataset
from imageseg.datasets.pairs import OpenFiles, Pair, ReadStored
from imageseg.errors import InputError, counted
from imageseg.images import image_size
from imageseg.labels import LabelSpace
from imageseg.ledger import Ledger, content_hash, size_and_time
from imageseg.parallel import Progress, in_processes, require_main_guard
from imageseg.pipeline.store.pair_file import DamagedPairError, PairFile, bytes_of, write_pair
from imageseg.user_cache import cache_folder, content_key

STORE_LEDGER = "pairs.jsonl"

_SUFFIX = ".pair"
_FORMAT = 1
"""Increased when files are read to other pixels or class indices than before, so that stores are built again."""
_BLOCK = 4096


class StoreError(InputError):
    """The disk has no room for the store, or its folder is not writable; the original files can still be read."""


class StoreSummary(NamedTuple):
    """The contents of a store."""

    folder: Path
    images: int
    done: int
    """Number of images that were packed now."""
    bytes: int


class StoredPair(NamedTuple):
    """A line of the ledger: two files in the state in which they were packed, and the packed file."""

    image: str
    mask: str
    state: list[int]
    """Size and modification time (ns) of the image, then of the mask."""
    key: str
    height: int
    width: int

    @property
    def files(self) -> tuple[str, str]:
        """Paths of image and mask."""
        return self.image, self.mask

    @property
    def bytes(self) -> int:
        """Size of the packed file."""
        return bytes_of((self.height, self.width))


def store_folder(dataset: SegmentationDataset, split: str, chosen: str | Path | None = None) -> Path:
    """Folder of the store of a split.

    Args:
        dataset: Dataset, whose class and plain arguments determine the folder's name, and its root if the folder is outside it.
        split: Split of the dataset.
        chosen: Folder of all stores. If not set, ``.imageseg/packed`` in the dataset's root; if the root is not writable and has
            no store, ``packed`` in the user's cache folder.

    Raises:
        StoreError: The root is not writable, and the user has no cache folder.
    """
    arguments = {
        name: str(value)
        for name, value in sorted(vars(dataset).items())
        if isinstance(value, str | int | float | tuple | None)
    }
    name, root = type(dataset).__name__, dataset.root.resolve()
    in_root = root / ".imageseg" / "packed" / f"{name}-{content_key(arguments)[:12]}" / split
    if chosen is None:
        if os.access(root, os.W_OK) or (in_root / STORE_LEDGER).is_file():
            return in_root
        if (cache := cache_folder()) is None:
            raise StoreError(f"{root}: is not writable, and there is no home folder for a cache; pass a pack_folder")
        chosen = cache / "packed"
    return Path(chosen).absolute() / f"{name}-{content_key(str(root), arguments)[:12]}" / split


def build_store(
    folder: Path,
    pairs: Sequence[Pair],
    labels: LabelSpace,
    read_stored: ReadStored,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> StoreSummary:
    """Pack what is not packed yet, and delete what no pair needs.

    A packed file is named by a hash of the bytes of both files and the label table. Files whose size and time equal those in the
    ledger are not opened; touched files are hashed, changed ones are packed again. A pair enters the ledger once it is on the disk,
    so that an interrupted run can be continued. A packed file that was written to after the ledger is checked, and packed again if
    it is damaged. Only one process packs at a time.

    Args:
        folder: Folder of this split alone.
        pairs: Pairs of the split; a pair without a mask is an error.
        labels: Label table that converts stored values to class indices.
        read_stored: Picklable function that reads a mask file as ``labels`` expects it.
        workers: Number of processes (default: number of CPU cores).
        progress: Called with (number of packed pairs, number of all pairs).

    Raises:
        StoreError: The disk has too little room, or the folder is not writable.
        InputError: A file cannot be read.
    """
    require_main_guard()  # before the lock, for which a worker would wait forever
    made_by = _made_by(labels)
    ledger = _ledger(folder, made_by)
    if (complete := _complete(ledger, pairs)) is not None:
        return complete
    with _writing(folder), file_lock(folder / ".lock"):
        if (complete := _complete(ledger, pairs)) is not None:  # another process was faster
            return complete
        there = _begin(ledger)
        stored = {entry.files: entry for entry in there}
        current = {entry.files for entry in _current(there, pairs) if entry is not None}
        sizes = _sizes(_packed_files(folder))
        todo = [
            pair
            for pair in pairs
            if _files_of(pair) not in current or sizes.get(stored[_files_of(pair)].key) != stored[_files_of(pair)].bytes
        ]
        _require_room(folder, todo, stored, sizes)
        done = len(pairs) - len(todo)
        shown = None if progress is None else lambda made, _: progress(done + made, len(pairs))
        trusted = frozenset(entry.key for entry in there)
        one = partial(
            _pack_pair, folder=folder, labels=labels, read_stored=read_stored, made_by=made_by, trusted=trusted
        )
        try:
            made = ledger.append(in_processes(one, todo, workers=workers, progress=shown))
        except KeyboardInterrupt:
            state = f"{len(ledger.entries())} of {len(pairs)} pairs in {folder} are packed"
            raise KeyboardInterrupt(f"{state}; run the same command again to continue") from None
        stored |= {entry.files: entry for entry in made}
        kept = [stored[_files_of(pair)] for pair in pairs]
        ledger.replace(kept)
        _delete_others(folder, kept)
        return StoreSummary(folder, len(pairs), len(todo), _bytes_of(kept))


def stored_pairs(folder: Path, pairs: Sequence[Pair], labels: LabelSpace) -> list[StoredPair | None]:
    """The ledger's entry of each pair; None if a file is not packed, or changed since."""
    return _current(_ledger(folder, _made_by(labels)).entries(), pairs)


def path_of(folder: Path, key: str) -> str:
    """Path of a packed file."""
    return f"{folder}{os.sep}{key}{_SUFFIX}"  # pathlib would take as long as opening it


def _ledger(folder: Path, made_by: str) -> Ledger[StoredPair]:
    return Ledger(
        folder / STORE_LEDGER,
        to_line=json.dumps,
        from_line=lambda line: StoredPair(*json.loads(line)),
        file_of=lambda stored: folder / f"{stored.key}{_SUFFIX}",
        header={"made_by": made_by},
    )


def _complete(ledger: Ledger[StoredPair], pairs: Sequence[Pair]) -> StoreSummary | None:
    """The contents of the store, if nothing has to be done."""
    stored = [entry for entry in _current(ledger.entries(), pairs) if entry is not None]
    if len(stored) < len(pairs):
        return None
    folder = ledger.path.parent
    files = _packed_files(folder)
    if _sizes(files) != {entry.key: entry.bytes for entry in stored} or _written_since(ledger, files):
        return None
    return StoreSummary(folder, len(pairs), 0, _bytes_of(stored))


def _begin(ledger: Ledger[StoredPair]) -> list[StoredPair]:
    """The pairs that are packed already. Files of another label table are deleted first, because they take up room."""
    folder = ledger.path.parent
    for leftover in folder.glob(f"{TEMPORARY}*"):
        leftover.unlink()
    if ledger.has_other_header():
        ledger.replace([])
        _delete_others(folder, [])
    doubtful = _written_since(ledger, _packed_files(folder))
    entries = [entry for entry in ledger.entries() if entry.key not in doubtful]
    ledger.replace(entries)  # without a last line that a kill cut short
    return entries


def _current(entries: Sequence[StoredPair], pairs: Sequence[Pair]) -> list[StoredPair | None]:
    """The entry of each pair whose files still have the same sizes and times."""
    by_files = {entry.files: entry for entry in entries}
    found = []
    for pair in pairs:
        entry = by_files.get(_files_of(pair))
        found.append(entry if entry is not None and entry.state == _state_of(pair) else None)
    return found


def _files_of(pair: Pair) -> tuple[str, str]:
    """Like ``StoredPair.files``."""
    return str(pair.image), str(pair.mask)


def _state_of(pair: Pair) -> list[int]:
    """Like ``StoredPair.state``; empty if a file is missing."""
    try:
        return [*size_and_time(pair.image), *size_and_time(pair.mask or "")]
    except OSError:
        return []


def _require_room(
    folder: Path, todo: Sequence[Pair], stored: Mapping[tuple[str, str], StoredPair], sizes: Mapping[str, int]
) -> None:
    """Check that the pairs fit on the disk, by their headers.

    Raises:
        StoreError: They do not.
    """
    needed = 0
    for pair in todo:
        entry = stored.get(_files_of(pair))
        if entry is None or entry.key not in sizes:  # otherwise the file is probably touched only
            needed += -(-bytes_of(image_size(pair.image)) // _BLOCK) * _BLOCK
    free = shutil.disk_usage(folder).free
    if needed > free:
        images = counted(len(todo), "image", "images")
        raise StoreError(
            f"{folder}: packing {images} needs {needed / 1e6:,.1f} MB, but only {free / 1e6:,.1f} MB are free; free some space, or "
            "pass a pack_folder on another disk"
        )


def _pack_pair(
    pair: Pair, *, folder: Path, labels: LabelSpace, read_stored: ReadStored, made_by: str, trusted: frozenset[str]
) -> StoredPair:
    """Pack a pair; runs in other processes."""
    if pair.mask is None:
        raise InputError(f"{pair.image}: this split has no masks; it cannot be packed")
    state = _state_of(pair)
    opened = OpenFiles(pair, labels, read_stored)
    key = hashlib.sha256(f"{made_by} {_hash_of(pair.image)} {_hash_of(pair.mask)}".encode()).hexdigest()[:32]
    path = folder / f"{key}{_SUFFIX}"
    try:
        there = PairFile(path)
        # A file that is not in the ledger may not have reached the disk before a power cut
        if key in trusted or there.is_intact():
            return StoredPair(*_files_of(pair), state, key, *there.size)
    except DamagedPairError:
        pass
    image, mask = opened.read()
    if _state_of(pair) != state:
        raise InputError(f"{pair.image}: it or its mask was modified during packing; pack again when that is finished")
    with _writing(folder):
        write_pair(path, image, mask)
    return StoredPair(*_files_of(pair), state, key, *opened.size)


def _hash_of(path: Path) -> str:
    try:
        return content_hash(path)
    except OSError as error:  # a fault of the dataset, not of the store
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _packed_files(folder: Path) -> dict[str, os.stat_result]:
    """Key -> status of every packed file in the folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name.removesuffix(_SUFFIX): entry.stat() for entry in entries if entry.name.endswith(_SUFFIX)}
    except (FileNotFoundError, NotADirectoryError):
        return {}


def _sizes(files: Mapping[str, os.stat_result]) -> dict[str, int]:
    return {key: status.st_size for key, status in files.items()}


def _written_since(ledger: Ledger[StoredPair], files: Mapping[str, os.stat_result]) -> set[str]:
    """The packed files that were written to after the ledger, and may therefore be damaged."""
    written = ledger.written_ns
    return {key for key, status in files.items() if status.st_mtime_ns > written}


def _delete_others(folder: Path, kept: Sequence[StoredPair]) -> None:
    wanted = {entry.key for entry in kept}
    for key in _packed_files(folder):
        if key not in wanted:
            (folder / f"{key}{_SUFFIX}").unlink(missing_ok=True)


def _made_by(labels: LabelSpace) -> str:
    """A hash of what a packed file depends on besides its two files."""
    return content_key(_FORMAT, labels.to_dict())


def _bytes_of(stored: Sequence[StoredPair]) -> int:
    return sum({entry.key: entry.bytes for entry in stored}.values())


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be written ({error.strerror or error}); pass another pack_folder"
        ) from error
