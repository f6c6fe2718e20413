"""pack: decodes the pairs of a split once into a folder, from which windows are read. No torch, so that processes start fast."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from imageseg.datasets.base import Pair, SegmentationDataset
from imageseg.datasets.reading import OpenFiles, ReadStored
from imageseg.datasets.statistics_cache import cache_folder, fingerprint
from imageseg.errors import InputError, counted
from imageseg.files import TEMPORARY, alone, flush, replacing
from imageseg.images import image_size
from imageseg.labels import LabelSpace
from imageseg.pipeline.pair_files import DamagedPairError, PairFile, bytes_of, write_pair
from imageseg.workers import Progress, in_processes, require_main_guard

LEDGER = "pairs.jsonl"
SUFFIX = ".pair"

_FORMAT = 1
"""Raised when files would be read to other pixels or class indices than before, so that stores are packed anew."""
_FLUSH_SECONDS = 10.0
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


class Record(NamedTuple):
    """One line of the ledger: two files as they were when they were packed, and what they became."""

    image: str
    mask: str
    state: list[int]
    """Size and time (ns) of the picture, size and time of the mask."""
    key: str
    height: int
    width: int

    @property
    def files(self) -> tuple[str, str]:
        """The two."""
        return self.image, self.mask

    @property
    def bytes(self) -> int:
        """Of the packed file."""
        return bytes_of((self.height, self.width))


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
    if chosen is None and (os.access(root, os.W_OK) or (beside / LEDGER).is_file()):
        return beside
    cache = cache_folder()
    if chosen is None and cache is None:
        raise StoreError(f"{root}: may not be written, and there is no home for a cache; name a folder for the store")
    folder = Path(chosen) if chosen is not None else cache / "packed"  # type: ignore[operator]
    return folder.absolute() / f"{name}-{fingerprint(str(root), arguments)[:12]}" / split


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
    the ledger when it has reached the disk, so a killed packing goes on where it was. One process packs at a time.

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
    if (whole := _whole(folder, pairs, made_by)) is not None:
        return whole
    with _writing(folder), alone(folder / ".lock"):
        if (whole := _whole(folder, pairs, made_by)) is not None:  # another process was faster
            return whole
        there = _begin(folder, made_by)
        records = {record.files: record for record in there}
        current = {record.files for record in current_records(there, pairs) if record is not None}
        sizes = _sizes(folder)
        todo = [
            pair
            for pair in pairs
            if _files(pair) not in current or sizes.get(records[_files(pair)].key) != records[_files(pair)].bytes
        ]
        _require_room(folder, todo, records, sizes)
        done = len(pairs) - len(todo)
        shown = None if progress is None else lambda made, _: progress(done + made, len(pairs))
        trusted = frozenset(record.key for record in there)
        one = partial(
            _pack_one, folder=folder, labels=labels, read_stored=read_stored, made_by=made_by, trusted=trusted
        )
        try:
            for record in _entered(folder, in_processes(one, todo, workers=workers, progress=shown)):
                records[record.files] = record
        except KeyboardInterrupt:
            made = f"{len(_ledger(folder, made_by))} of {len(pairs)} pairs in {folder} are packed"
            raise KeyboardInterrupt(f"{made}; the same command goes on from there") from None
        kept = [records[_files(pair)] for pair in pairs]
        _write_ledger(folder, made_by, kept)
        _remove_others(folder, kept)
        return Packed(folder, len(pairs), len(todo), _bytes_of(kept))


def packed_records(folder: Path, pairs: Sequence[Pair], labels: LabelSpace) -> list[Record | None]:
    """The ledger's record of each pair; None where a file is not packed, or was written since."""
    return current_records(_ledger(folder, _made_by(labels)), pairs)


def current_records(records: Sequence[Record], pairs: Sequence[Pair]) -> list[Record | None]:
    """Of each pair the record whose sizes and times are still those of its files."""
    by_files = {record.files: record for record in records}
    found = []
    for pair in pairs:
        record = by_files.get(_files(pair))
        found.append(record if record is not None and record.state == _state(pair) else None)
    return found


def path_of(folder: Path, key: str) -> str:
    """The packed file of a record's key."""
    return f"{folder}{os.sep}{key}{SUFFIX}"  # pathlib would take as long as opening it


def _whole(folder: Path, pairs: Sequence[Pair], made_by: str) -> Packed | None:
    """What lies in the folder, if nothing is to do."""
    current = current_records(_ledger(folder, made_by), pairs)
    records = [record for record in current if record is not None]
    if len(records) < len(pairs):
        return None
    if _sizes(folder) != {record.key: record.bytes for record in records}:
        return None
    return Packed(folder, len(pairs), 0, _bytes_of(records))


def _begin(folder: Path, made_by: str) -> list[Record]:
    """What is packed already. Without a ledger of ours, nothing is: old files cannot be of use for another label table."""
    for leftover in folder.glob(f"{TEMPORARY}*"):
        leftover.unlink()
    records = _ledger(folder, made_by)
    if not records:
        if _header(folder) not in (None, made_by):
            (folder / LEDGER).unlink(missing_ok=True)
            _remove_others(folder, [])
        _write_ledger(folder, made_by, [])
    else:
        _write_ledger(folder, made_by, records)  # without a last line that a kill cut short
    return records


def _require_room(
    folder: Path, todo: Sequence[Pair], records: Mapping[tuple[str, str], Record], sizes: Mapping[str, int]
) -> None:
    """Raises:
    StoreError: the pairs would not fit on the disk, as their headers tell.
    """
    needed = 0
    for pair in todo:
        record = records.get(_files(pair))
        if record is None or record.key not in sizes:  # else it is probably only touched
            needed += -(-bytes_of(image_size(pair.image)) // _BLOCK) * _BLOCK
    free = shutil.disk_usage(folder).free
    if needed > free:
        pictures = counted(len(todo), "picture", "pictures")
        raise StoreError(
            f"{folder}: packing {pictures} needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free there; make room, or "
            "name a pack_folder on another disk"
        )


def _pack_one(
    pair: Pair, *, folder: Path, labels: LabelSpace, read_stored: ReadStored, made_by: str, trusted: frozenset[str]
) -> Record:
    """Runs in other processes."""
    if pair.mask is None:
        raise InputError(f"{pair.image}: this split has no masks; it cannot be packed")
    opened = OpenFiles(pair, labels, read_stored)
    state = _state(pair)
    digest = hashlib.sha256(made_by.encode())
    for path in (pair.image, pair.mask):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    key = digest.hexdigest()[:32]
    path = folder / f"{key}{SUFFIX}"
    try:
        there = PairFile(path)
        # What the ledger does not name may not have reached the disk before a power cut.
        if key in trusted or there.is_intact():
            return Record(*_files(pair), state, key, *there.size)
    except DamagedPairError:
        pass
    image, mask = opened.whole()
    with _writing(folder):
        write_pair(path, image, mask)
    return Record(*_files(pair), state, key, *opened.size)


def _entered(folder: Path, records: Iterator[Record]) -> Iterator[Record]:
    """The same, each noted in the ledger once its file has reached the disk."""
    waiting: list[Record] = []
    since = time.monotonic()
    try:
        for record in records:
            waiting.append(record)
            yield record
            if time.monotonic() - since > _FLUSH_SECONDS:
                _enter(folder, waiting)
                waiting, since = [], time.monotonic()
    finally:
        _enter(folder, waiting)


def _enter(folder: Path, records: Sequence[Record]) -> None:
    if not records:
        return
    flush([folder / f"{record.key}{SUFFIX}" for record in records])
    with (folder / LEDGER).open("a", encoding="utf-8", newline="\n") as ledger:
        ledger.writelines(json.dumps(record) + "\n" for record in records)
        ledger.flush()
        os.fsync(ledger.fileno())


def _write_ledger(folder: Path, made_by: str, records: Sequence[Record]) -> None:
    lines = [json.dumps({"made_by": made_by}), *map(json.dumps, records)]
    with replacing(folder / LEDGER) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _ledger(folder: Path, made_by: str) -> list[Record]:
    """Only whole lines count: a kill may have cut the last one short."""
    try:
        lines = (folder / LEDGER).read_text(encoding="utf-8").split("\n")[:-1]
        if not lines or json.loads(lines[0]) != {"made_by": made_by}:
            return []
        return [Record(*json.loads(line)) for line in lines[1:]]
    except (OSError, ValueError, TypeError):
        return []


def _header(folder: Path) -> str | None:
    try:
        with (folder / LEDGER).open(encoding="utf-8") as ledger:
            return str(json.loads(ledger.readline())["made_by"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _sizes(folder: Path) -> dict[str, int]:
    """Key -> bytes of every packed file that is there."""
    try:
        with os.scandir(folder) as entries:
            return {
                entry.name.removesuffix(SUFFIX): entry.stat().st_size
                for entry in entries
                if entry.name.endswith(SUFFIX)
            }
    except (FileNotFoundError, NotADirectoryError):
        return {}


def _remove_others(folder: Path, kept: Sequence[Record]) -> None:
    wanted = {record.key for record in kept}
    for key in _sizes(folder):
        if key not in wanted:
            (folder / f"{key}{SUFFIX}").unlink(missing_ok=True)


def _files(pair: Pair) -> tuple[str, str]:
    return str(pair.image), str(pair.mask)


def _state(pair: Pair) -> list[int]:
    """As ``Record`` has it; of files that are not there, nothing."""
    try:
        image, mask = os.stat(pair.image), os.stat(pair.mask or "")  # noqa: PTH116
    except OSError:
        return []
    return [image.st_size, image.st_mtime_ns, mask.st_size, mask.st_mtime_ns]


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
