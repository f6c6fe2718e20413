"""pack: decodes the pairs of a split once into a folder, from which windows are read. No torch, so that processes start fast."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from imageseg.atomic_files import TEMPORARY, file_lock
from imageseg.datasets.base import SegmentationDataset
from imageseg.datasets.pairs import Pair
from imageseg.datasets.reading import OpenFiles, ReadStored
from imageseg.errors import InputError, counted
from imageseg.images import image_size
from imageseg.labels import LabelSpace
from imageseg.parallel import Progress, in_processes, require_main_guard
from imageseg.pipeline.store.ledger import LEDGER, SUFFIX, Ledger, Record, current_records, files_of, state_of
from imageseg.pipeline.store.pair_file import DamagedPairError, PairFile, bytes_of, write_pair
from imageseg.user_cache import cache_folder, fingerprint

_FORMAT = 1
"""Raised when files would be read to other pixels or class indices than before, so that stores are packed anew."""
_BLOCK = 4096


class StoreError(InputError):
    """There is no room for the store, or it may not be written; whoever wanted it can read the files themselves."""


class Packed(NamedTuple):
    """What lies in a store."""

    folder: Path
    pictures: int
    done: int
    """How many of them were packed now."""
    bytes: int


def store_folder(dataset: SegmentationDataset, split: str, chosen: str | Path | None = None) -> Path:
    """Where the store of a split lies.

    Args:
        dataset: its class and its plain arguments name the folder, with its root where that is not above it.
        split: of the dataset.
        chosen: the folder of all stores. Unset, ``.imageseg/packed`` in the dataset's root; where the root may not be
            written and holds no store, ``packed`` in the user's cache folder.

    Raises:
        StoreError: the root may not be written, and the user has no cache folder.
    """
    arguments = {
        name: str(value)
        for name, value in sorted(vars(dataset).items())
        if isinstance(value, str | int | float | tuple | None)
    }
    name, root = type(dataset).__name__, dataset.root.resolve()
    beside = root / ".imageseg" / "packed" / f"{name}-{fingerprint(arguments)[:12]}" / split
    if chosen is None:
        if os.access(root, os.W_OK) or (beside / LEDGER).is_file():
            return beside
        if (cache := cache_folder()) is None:
            raise StoreError(f"{root}: may not be written, and there is no home for a cache; name a pack_folder")
        chosen = cache / "packed"
    return Path(chosen).absolute() / f"{name}-{fingerprint(str(root), arguments)[:12]}" / split


def pack(
    folder: Path,
    pairs: Sequence[Pair],
    labels: LabelSpace,
    read_stored: ReadStored,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Packed:
    """Packs what is not packed yet, and removes what no pair needs any more.

    A packed file is named by a hash of what it was made from: of both files' bytes and the label table. Files whose size
    and time are those of the ledger are not opened; touched ones are hashed, changed ones are packed anew. A pair enters
    the ledger when it has reached the disk, so a killed packing goes on where it was; a packed file that was written to
    after that is checked, and packed anew if it is damaged. One process packs at a time.

    Args:
        folder: of this split alone.
        pairs: of the split; those without a mask are an error.
        labels: turns stored values into class indices.
        read_stored: reads a mask file as ``labels`` takes it. It must be picklable.
        workers: processes; unset, one per processor.
        progress: called with (pairs packed, pairs in all).

    Raises:
        StoreError: too little room, or the folder may not be written.
        InputError: a file that cannot be read, as when reading it.
    """
    require_main_guard()  # before the lock, for which a worker would wait for ever
    made_by = _made_by(labels)
    ledger = Ledger(folder, made_by)
    if (whole := _whole(ledger, pairs)) is not None:
        return whole
    with _writing(folder), file_lock(folder / ".lock"):
        if (whole := _whole(ledger, pairs)) is not None:  # another process was faster
            return whole
        there = _begin(ledger)
        records = {record.files: record for record in there}
        current = {record.files for record in current_records(there, pairs) if record is not None}
        sizes = _sizes(_packed_files(folder))
        todo = [
            pair
            for pair in pairs
            if files_of(pair) not in current or sizes.get(records[files_of(pair)].key) != records[files_of(pair)].bytes
        ]
        _require_room(folder, todo, records, sizes)
        done = len(pairs) - len(todo)
        shown = None if progress is None else lambda made, _: progress(done + made, len(pairs))
        trusted = frozenset(record.key for record in there)
        one = partial(
            _pack_one, folder=folder, labels=labels, read_stored=read_stored, made_by=made_by, trusted=trusted
        )
        try:
            for record in ledger.entered(in_processes(one, todo, workers=workers, progress=shown)):
                records[record.files] = record
        except KeyboardInterrupt:
            made = f"{len(ledger.records())} of {len(pairs)} pairs in {folder} are packed"
            raise KeyboardInterrupt(f"{made}; the same command goes on from there") from None
        kept = [records[files_of(pair)] for pair in pairs]
        ledger.write(kept)
        _remove_others(folder, kept)
        return Packed(folder, len(pairs), len(todo), _bytes_of(kept))


def packed_records(folder: Path, pairs: Sequence[Pair], labels: LabelSpace) -> list[Record | None]:
    """The ledger's record of each pair; None where a file is not packed, or was written since."""
    return current_records(Ledger(folder, _made_by(labels)).records(), pairs)


def path_of(folder: Path, key: str) -> str:
    """The packed file of a record's key."""
    return f"{folder}{os.sep}{key}{SUFFIX}"  # pathlib would take as long as opening it


def _whole(ledger: Ledger, pairs: Sequence[Pair]) -> Packed | None:
    """What lies in the folder, if nothing is to do."""
    current = current_records(ledger.records(), pairs)
    records = [record for record in current if record is not None]
    if len(records) < len(pairs):
        return None
    files = _packed_files(ledger.folder)
    if _sizes(files) != {record.key: record.bytes for record in records} or _written_since(ledger, files):
        return None
    return Packed(ledger.folder, len(pairs), 0, _bytes_of(records))


def _begin(ledger: Ledger) -> list[Record]:
    """What is packed already. Files of another label table are of no use, and would take room meanwhile."""
    for leftover in ledger.folder.glob(f"{TEMPORARY}*"):
        leftover.unlink()
    if ledger.is_of_something_else():
        ledger.write([])
        _remove_others(ledger.folder, [])
    doubtful = _written_since(ledger, _packed_files(ledger.folder))
    records = [record for record in ledger.records() if record.key not in doubtful]
    ledger.write(records)  # without a last line that a kill cut short
    return records


def _require_room(
    folder: Path, todo: Sequence[Pair], records: Mapping[tuple[str, str], Record], sizes: Mapping[str, int]
) -> None:
    """Raises:
    StoreError: the pairs would not fit on the disk, as their headers tell.
    """
    needed = 0
    for pair in todo:
        record = records.get(files_of(pair))
        if record is None or record.key not in sizes:  # else it is probably only touched
            needed += -(-bytes_of(image_size(pair.image)) // _BLOCK) * _BLOCK
    free = shutil.disk_usage(folder).free
    if needed > free:
        pictures = counted(len(todo), "picture", "pictures")
        raise StoreError(
            f"{folder}: packing {pictures} needs {needed / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB are free there; make room, or "
            "name a pack_folder on another disk"
        )


def _pack_one(
    pair: Pair, *, folder: Path, labels: LabelSpace, read_stored: ReadStored, made_by: str, trusted: frozenset[str]
) -> Record:
    """Runs in other processes."""
    if pair.mask is None:
        raise InputError(f"{pair.image}: this split has no masks; it cannot be packed")
    state = state_of(pair)
    opened = OpenFiles(pair, labels, read_stored)
    key = hashlib.sha256(f"{made_by} {_sha256(pair.image)} {_sha256(pair.mask)}".encode()).hexdigest()[:32]
    path = folder / f"{key}{SUFFIX}"
    try:
        there = PairFile(path)
        # What the ledger does not name may not have reached the disk before a power cut.
        if key in trusted or there.is_intact():
            return Record(*files_of(pair), state, key, *there.size)
    except DamagedPairError:
        pass
    image, mask = opened.whole()
    if state_of(pair) != state:
        raise InputError(f"{pair.image}: it or its mask was written while it was packed; pack again when that is done")
    with _writing(folder):
        write_pair(path, image, mask)
    return Record(*files_of(pair), state, key, *opened.size)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:  # of the data, not of the store
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _packed_files(folder: Path) -> dict[str, os.stat_result]:
    """Key -> state of every packed file that is there."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name.removesuffix(SUFFIX): entry.stat() for entry in entries if entry.name.endswith(SUFFIX)}
    except (FileNotFoundError, NotADirectoryError):
        return {}


def _sizes(files: Mapping[str, os.stat_result]) -> dict[str, int]:
    return {key: state.st_size for key, state in files.items()}


def _written_since(ledger: Ledger, files: Mapping[str, os.stat_result]) -> set[str]:
    """The packed files that somebody has written to after the ledger was: by whatever, they may be damaged."""
    written = ledger.written
    return {key for key, state in files.items() if state.st_mtime_ns > written}


def _remove_others(folder: Path, kept: Sequence[Record]) -> None:
    wanted = {record.key for record in kept}
    for key in _packed_files(folder):
        if key not in wanted:
            (folder / f"{key}{SUFFIX}").unlink(missing_ok=True)


def _made_by(labels: LabelSpace) -> str:
    """What a packed file depends on besides its two files."""
    return fingerprint(_FORMAT, labels.to_dict())


def _bytes_of(records: Sequence[Record]) -> int:
    return sum({record.key: record.bytes for record in records}.values())


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be written ({error.strerror or error}); name another pack_folder"
        ) from error
