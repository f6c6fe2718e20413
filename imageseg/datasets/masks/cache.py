"""MaskCache: a folder of masks that are made from annotations, with a note on how, and a ledger of the finished ones."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from imageseg._version import __version__
from imageseg.atomic_files import TEMPORARY, file_lock, replacing, write_unflushed
from imageseg.errors import InputError
from imageseg.images import encode_mask, is_image
from imageseg.ledger import Ledger, cached_content_hash, size_and_time
from imageseg.parallel import Progress, in_processes, require_main_guard

NOTE = "imageseg.json"
MASK_LEDGER = "pictures.tsv"

logger = logging.getLogger(__name__)

_FORMAT = 1
"""Version of the masks and the ledger, increased when they change, so that older folders are made again."""


class Work(Protocol):
    """One mask to be made."""

    @property
    def name(self) -> str:
        """File name of the image; its stem is the name of the mask."""


class Painted(NamedTuple):
    """A mask, and the numbers that the ledger keeps."""

    mask: npt.NDArray[np.uint8]
    """(H, W) stored values."""
    labelled: int
    """Number of pixels that show a class other than background."""
    objects: int


class MadeMask(NamedTuple):
    """A line of the ledger: a mask that is on the disk."""

    name: str
    labelled: int
    objects: int


Item = TypeVar("Item", bound=Work)


class MaskCache:
    """Masks ``<stem>.png`` in ``folder``.

    The folder also has ``imageseg.json``, the note on how the masks were made and whether they are complete, and
    ``pictures.tsv``, the ledger. A mask enters the ledger after it was flushed to the disk; after a kill or a power cut, masks
    that are not in the ledger are made again.

    Args:
        folder: Folder of one split.
        recipe: Choices that the masks depend on, as plain JSON values.
        annotations: File that the masks are made from.
        hint: What to do if the folder cannot be used, for errors.
    """

    def __init__(self, folder: Path, *, recipe: Mapping[str, Any], annotations: Path, hint: str) -> None:
        self.folder = folder
        self._recipe = {"format": _FORMAT, **recipe}
        self._annotations = annotations
        self._hint = hint
        self._ledger = _ledger(folder / MASK_LEDGER)

    def exists(self) -> bool:
        """Whether the folder holds a mask cache, complete or not."""
        return (self.folder / NOTE).is_file()

    def is_whole(self) -> bool:
        """Whether all masks were made, from these annotations and choices; opens and lists no masks."""
        note = self._note()
        return note.get("complete") is True and self._is_ours(note) and len(self.records()) == note.get("pictures")

    def trouble(self) -> str:
        """What is wrong with an incomplete cache, to follow the name of its folder."""
        note = self._note()
        if not note:
            return "holds no masks made by imageseg"
        return (
            f"holds {len(self.records())} masks, not all"
            if self._is_ours(note)
            else f"holds masks {self._difference(note)}"
        )

    def is_complete(self) -> bool:
        """Like ``is_whole``, and every mask file is still in the folder, which is listed for it."""
        if not self.is_whole():
            return False
        there = self._files()
        return all(f"{stem}.png" in there for stem in self.records())

    def records(self) -> Mapping[str, MadeMask]:
        """The ledger by the stem of the image, in the order of the annotations once the cache is complete."""
        try:
            state = size_and_time(self._ledger.path)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return MappingProxyType(_read_ledger(self._ledger.path, state))

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
        """Make the missing masks.

        Args:
            work: Function that reads the annotations; called only if a mask is missing.
            paint: Function that makes one mask, in other processes: importable, or a ``functools.partial`` of such a function.
            palette: (256, 3) uint8 colors of the files.
            replace: Whether masks of other annotations or choices are deleted first. Otherwise they are an error, because
                another run may be reading them.
            workers: Number of processes (default: number of CPU cores).
            progress: Called with (number of finished masks, number of all masks).

        Raises:
            InputError: The folder holds masks of unknown origin or of other choices, or is not writable, or an error of
                ``work`` or ``paint``.
        """
        require_main_guard()  # before the lock, for which a worker would wait forever
        with self._writing(), file_lock(self.folder / ".lock"):
            if self.is_complete():  # another process was faster
                return
            done = self._begin(replace=replace)
            items = work()
            todo = [item for item in items if _stem(item.name) not in done]
            count = len(items) - len(todo)
            shown = None if progress is None else lambda made, _: progress(count + made, len(items))
            write = partial(_paint_and_write, paint=paint, folder=self.folder, palette=palette, hint=self._hint)
            try:
                self._ledger.append(in_processes(write, todo, workers=workers, progress=shown))
            except KeyboardInterrupt:
                made = f"{len(self.records())} of {len(items)} masks in {self.folder} are finished"
                raise KeyboardInterrupt(f"{made}; run the same command again to continue") from None
            records = self.records()
            self._ledger.replace([records[_stem(item.name)] for item in items])
            self._write_note(complete=True, images=len(items))

    def _begin(self, *, replace: bool) -> Mapping[str, MadeMask]:
        """Take over the folder; return the masks that are finished already."""
        note = self._note()
        if note and not self._is_ours(note) and not replace:
            raise InputError(
                f"{self.folder}: holds masks {self._difference(note)}; make them again with 'imageseg prepare' and these "
                f"choices, or {self._hint}"
            )
        if not self.exists() and any(map(is_image, self.folder.iterdir())):
            raise InputError(
                f"{self.folder}: holds masks without {NOTE}, so imageseg did not make them; move them away, or {self._hint}"
            )
        for leftover in self.folder.glob(f"{TEMPORARY}*"):
            leftover.unlink()
        if self._is_ours(note):
            there = self._files()
            done = {stem: record for stem, record in self.records().items() if f"{stem}.png" in there}
            self._ledger.replace(list(done.values()))  # without a last line that a kill cut short
            return done
        if note:
            logger.warning("%s: held masks %s; they are made again", self.folder, self._difference(note))
        # The ledger is deleted first: without it no old mask counts, wherever this is interrupted
        self._ledger.path.unlink(missing_ok=True)
        self._write_note(complete=False)
        for path in self.folder.glob("*.png"):
            path.unlink()
        return {}

    def _difference(self, note: Mapping[str, Any]) -> str:
        """How the folder's masks differ from the requested ones."""
        recipe = note.get("recipe")
        made = recipe if isinstance(recipe, dict) else {}
        other = [
            f"{name} {made.get(name)} (not {value})" for name, value in self._recipe.items() if made.get(name) != value
        ]
        return f"of other choices: {', '.join(other)}" if other else f"of another file than {self._annotations}"

    def _files(self) -> set[str]:
        with os.scandir(self.folder) as entries:
            return {entry.name for entry in entries}

    def _write_note(self, *, complete: bool, images: int | None = None) -> None:
        size, mtime_ns = state = size_and_time(self._annotations)
        note = {
            "made_by": f"imageseg {__version__}",
            "recipe": self._recipe,
            "annotations": {
                "file": self._annotations.name,
                "size": size,
                "mtime_ns": mtime_ns,
                "sha256": cached_content_hash(self._annotations, state),
            },
            "complete": complete,
            "pictures": images,
        }
        with replacing(self.folder / NOTE) as temporary:
            temporary.write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")

    def _note(self) -> dict[str, Any]:
        """The folder's note; empty if there is none or it is damaged."""
        try:
            note = json.loads((self.folder / NOTE).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def _is_ours(self, note: Mapping[str, Any]) -> bool:
        return note.get("recipe") == self._recipe and _is_same_file(self._annotations, note.get("annotations"))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be written ({error.strerror or error}); {self._hint}") from error


def is_plain_name(name: str) -> bool:
    """Whether an image's name in annotations may name a file in a folder: no path, not hidden, no line breaks."""
    return bool(name) and name == Path(name).name and name.isprintable() and "\\" not in name and name[0] != "."


def _paint_and_write(
    item: Item, *, paint: Callable[[Item], Painted], folder: Path, palette: npt.NDArray[np.uint8], hint: str
) -> MadeMask:
    painted = paint(item)
    try:
        write_unflushed(f"{folder}{os.sep}{_stem(item.name)}.png", encode_mask(painted.mask, palette))
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}); {hint}") from error
    return MadeMask(item.name, painted.labelled, painted.objects)


def _stem(name: str) -> str:
    """Like ``Path(name).stem`` for a plain name, ten times as fast."""
    return name.rpartition(".")[0] or name


def _ledger(path: Path) -> Ledger[MadeMask]:
    return Ledger(
        path,
        to_line=lambda mask: "\t".join(map(str, mask)),
        from_line=_parsed,
        file_of=lambda mask: path.parent / f"{_stem(mask.name)}.png",
    )


def _parsed(line: str) -> MadeMask | None:
    name, *numbers = line.split("\t")
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        return None
    return MadeMask(name, *map(int, numbers))


@lru_cache(maxsize=4)
def _read_ledger(path: Path, _state: tuple[int, int]) -> dict[str, MadeMask]:
    return {_stem(mask.name): mask for mask in _ledger(path).entries()}


def _is_same_file(path: Path, noted: Any) -> bool:
    """Whether the annotations are those of the note. They are read only if their time differs; a deleted file cannot differ."""
    if not isinstance(noted, dict):
        return False
    try:
        size, mtime_ns = state = size_and_time(path)
    except FileNotFoundError:
        return True
    if size != noted.get("size"):
        return False
    return mtime_ns == noted.get("mtime_ns") or cached_content_hash(path, state) == noted.get("sha256")
