"""MaskCache: a folder of masks that a dataset made from annotations, with a note of how, and a ledger of what is done."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from imageseg._version import __version__
from imageseg.atomic_files import TEMPORARY, alone, flush, replacing, write_unflushed
from imageseg.errors import InputError
from imageseg.images import encode_mask, is_picture
from imageseg.parallel import Progress, in_processes, require_main_guard

NOTE = "imageseg.json"
LEDGER = "pictures.tsv"

_log = logging.getLogger(__name__)

_FORMAT = 1
"""Of the masks and the ledger: raised when they would come out differently, so that older folders are made anew."""
_FLUSH_AFTER, _FLUSH_SECONDS = 4000, 10.0


class Work(Protocol):
    """One picture to be painted."""

    @property
    def name(self) -> str:
        """The picture's file name; its stem names the mask."""


class Painted(NamedTuple):
    """A mask, and what the ledger keeps of it."""

    mask: npt.NDArray[np.uint8]
    """(H, W) stored values."""
    labelled: int
    """Pixels that show a class, background and ignored ones apart."""
    objects: int


class Record(NamedTuple):
    """One line of the ledger: a mask that is on the disk."""

    name: str
    labelled: int
    objects: int


Item = TypeVar("Item", bound=Work)


class MaskCache:
    """Masks ``<stem>.png`` in ``folder``.

    Beside them lie ``imageseg.json``, which says how they were made and whether all are, and ``pictures.tsv``, one line per
    mask that has reached the disk. A mask enters the ledger after it was flushed: after a kill or a power cut, what the
    ledger does not name is made again.

    Args:
        folder: of one split.
        recipe: the choices that the masks depend on, as plain values of JSON.
        annotations: the file that they are made from.
        hint: what to do where the folder cannot be used, for errors.
    """

    def __init__(self, folder: Path, *, recipe: Mapping[str, Any], annotations: Path, hint: str) -> None:
        self.folder = folder
        self._recipe = {"format": _FORMAT, **recipe}
        self._annotations = annotations
        self._hint = hint

    def exists(self) -> bool:
        """Whether a cache of ours, whole or not, lies in the folder."""
        return (self.folder / NOTE).is_file()

    def is_whole(self) -> bool:
        """Whether all masks are there, made from these annotations in this way; opens none of them."""
        note = self._note()
        return (
            note.get("complete") is True and self._is_ours(note) and len(_ledger(self._ledger)) == note.get("pictures")
        )

    def trouble(self) -> str:
        """What is wrong with a cache that is not whole, after the folder's name."""
        note = self._note()
        if not note:
            return "holds no masks of ours"
        return (
            f"holds {len(self.records())} masks, not all"
            if self._is_ours(note)
            else f"holds masks {self._difference(note)}"
        )

    def is_complete(self) -> bool:
        """As ``is_whole``, and every file is still in the folder, which is listed for it."""
        if not self.is_whole():
            return False
        there = self._files()
        return all(f"{stem}.png" in there for stem in self.records())

    def records(self) -> Mapping[str, Record]:
        """The ledger: stem of the picture -> its line, in the order of the annotations once the cache is whole."""
        return _ledger(self._ledger)

    def make(
        self,
        work: Callable[[], Sequence[Item]],
        paint: Callable[[Item], Painted],
        *,
        palette: npt.NDArray[np.uint8],
        replace: bool = False,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Makes what is missing.

        Args:
            work: reads the annotations; called only if something is to do.
            paint: runs in other processes, so it must be importable, or a ``functools.partial`` of what is.
            palette: (256, 3) uint8 colours of the files.
            replace: empty a cache of other annotations or choices first; without, it is an error, because another run may
                be reading those masks.
            workers: processes; unset, one per processor.
            progress: called with (masks there, masks in all).

        Raises:
            InputError: masks of unknown origin, or of other choices, are there, the folder cannot be written, or what
                ``work`` and ``paint`` raise.
        """
        require_main_guard()  # before the lock, for which a worker would wait for ever
        with self._writing(), alone(self.folder / ".lock"):
            if self.is_complete():  # another process was faster
                return
            done = self._begin(replace=replace)
            pictures = work()
            todo = [picture for picture in pictures if _stem(picture.name) not in done]
            count = len(pictures) - len(todo)
            shown = None if progress is None else lambda made, _: progress(count + made, len(pictures))
            write = partial(_paint_and_write, paint=paint, folder=self.folder, palette=palette, hint=self._hint)
            try:
                self._enter(in_processes(write, todo, workers=workers, progress=shown))
            except KeyboardInterrupt:
                made = f"{len(_ledger(self._ledger))} of {len(pictures)} masks in {self.folder} are made"
                raise KeyboardInterrupt(f"{made}; the same command goes on from there") from None
            records = _ledger(self._ledger)
            stems = [_stem(picture.name) for picture in pictures]
            self._write_ledger([records[stem] for stem in stems])
            self._write_note(complete=True, pictures=len(pictures))

    def _begin(self, *, replace: bool) -> dict[str, Record]:
        """Makes the folder ours; returns what is done in it already."""
        note = self._note()
        if note and not self._is_ours(note) and not replace:
            raise InputError(
                f"{self.folder}: holds masks {self._difference(note)}; 'imageseg prepare' with the choices wanted makes them "
                f"anew, or {self._hint}"
            )
        if not self.exists() and any(map(is_picture, self.folder.iterdir())):
            raise InputError(
                f"{self.folder}: holds masks without {NOTE}, so imageseg did not make them; move them away, or {self._hint}"
            )
        for leftover in self.folder.glob(f"{TEMPORARY}*"):
            leftover.unlink()
        if self._is_ours(note):
            there = self._files()
            done = {stem: record for stem, record in self.records().items() if f"{stem}.png" in there}
            self._write_ledger(list(done.values()))  # without a last line that a kill cut short
            return done
        if note:
            _log.warning("%s: held masks %s; they are made anew", self.folder, self._difference(note))
        # The ledger goes first: without it no old mask counts, wherever this is interrupted.
        self._ledger.unlink(missing_ok=True)
        self._write_note(complete=False)
        for path in self.folder.glob("*.png"):
            path.unlink()
        return {}

    def _difference(self, note: Mapping[str, Any]) -> str:
        """What the folder's masks are made from, where it is not what is wanted."""
        recipe = note.get("recipe")
        made = recipe if isinstance(recipe, dict) else {}
        other = [
            f"{name} {made.get(name)} (not {value})" for name, value in self._recipe.items() if made.get(name) != value
        ]
        return f"of other choices: {', '.join(other)}" if other else f"of another file than {self._annotations}"

    def _files(self) -> set[str]:
        with os.scandir(self.folder) as entries:
            return {entry.name for entry in entries}

    def _enter(self, records: Iterator[Record]) -> None:
        """Notes every mask once it has reached the disk."""
        waiting: list[Record] = []
        since = time.monotonic()
        try:
            for record in records:
                waiting.append(record)
                if len(waiting) >= _FLUSH_AFTER or time.monotonic() - since > _FLUSH_SECONDS:
                    self._keep(waiting)
                    waiting, since = [], time.monotonic()
        finally:
            self._keep(waiting)

    def _keep(self, records: Sequence[Record]) -> None:
        flush([self.folder / f"{_stem(record.name)}.png" for record in records])
        with self._ledger.open("a", encoding="utf-8", newline="\n") as ledger:
            ledger.writelines(map(_line, records))
            ledger.flush()
            os.fsync(ledger.fileno())

    def _write_ledger(self, records: Sequence[Record]) -> None:
        with replacing(self._ledger) as temporary:
            temporary.write_text("".join(map(_line, records)), encoding="utf-8", newline="\n")

    def _write_note(self, *, complete: bool, pictures: int | None = None) -> None:
        note = {
            "made_by": f"imageseg {__version__}",
            "recipe": self._recipe,
            "annotations": _fingerprint(self._annotations),
            "complete": complete,
            "pictures": pictures,
        }
        with replacing(self.folder / NOTE) as temporary:
            temporary.write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")

    def _note(self) -> dict[str, Any]:
        """What the folder's note says; nothing where there is none, or where it is no note."""
        try:
            note = json.loads((self.folder / NOTE).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def _is_ours(self, note: Mapping[str, Any]) -> bool:
        return note.get("recipe") == self._recipe and _is_same_file(self._annotations, note.get("annotations"))

    @property
    def _ledger(self) -> Path:
        return self.folder / LEDGER

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be written ({error.strerror or error}); {self._hint}") from error


def is_plain_name(name: str) -> bool:
    """Whether a picture's name out of annotations may name a file in a folder: no path, nothing hidden, no line breaks."""
    return bool(name) and name == Path(name).name and name.isprintable() and "\\" not in name and name[0] != "."


def _paint_and_write(
    item: Item, *, paint: Callable[[Item], Painted], folder: Path, palette: npt.NDArray[np.uint8], hint: str
) -> Record:
    painted = paint(item)
    try:
        write_unflushed(f"{folder}{os.sep}{_stem(item.name)}.png", encode_mask(painted.mask, palette))
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}); {hint}") from error
    return Record(item.name, painted.labelled, painted.objects)


def _stem(name: str) -> str:
    """As ``Path(name).stem``, which costs ten times as much, of a plain name."""
    return name.rpartition(".")[0] or name


def _line(record: Record) -> str:
    return "\t".join(map(str, record)) + "\n"


def _ledger(path: Path) -> Mapping[str, Record]:
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return MappingProxyType(_read_ledger(path, stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=4)
def _read_ledger(path: Path, _mtime: int, _size: int) -> dict[str, Record]:
    """Only whole lines count: a kill may have cut the last one short."""
    found = {}
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        name, *numbers = line.split("\t")
        if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
            found[_stem(name)] = Record(name, *map(int, numbers))
    return found


def _fingerprint(path: Path) -> dict[str, Any]:
    stat = path.stat()
    return {
        "file": path.name,
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sha256": _sha256(path, stat.st_mtime_ns),
    }


def _is_same_file(path: Path, noted: Any) -> bool:
    """Whether the annotations are those of the note; unchanged times spare reading them, a deleted file cannot differ."""
    if not isinstance(noted, dict):
        return False
    try:
        stat = path.stat()
    except FileNotFoundError:
        return True
    if stat.st_size != noted.get("size"):
        return False
    return stat.st_mtime_ns == noted.get("mtime_ns") or _sha256(path, stat.st_mtime_ns) == noted.get("sha256")


@lru_cache(maxsize=4)
def _sha256(path: Path, _mtime: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
