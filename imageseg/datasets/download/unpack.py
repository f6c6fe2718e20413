"""unpack: an archive into a folder, whole or not at all, and never anywhere else."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, NamedTuple, cast

from imageseg.errors import InputError
from imageseg.parallel import Progress

MAX_FILES = 2_000_000
MAX_RATIO = 100
"""Unpacked bytes per byte of the archive. Pictures pack to about 1, JSON to about 10; a zip bomb to 1000 and more."""
SMALL = 64 * 2**20
"""Archives that unpack to no more than this many bytes may have any ratio."""

_BLOCK = 2**20
_COMPRESSED: tuple[tuple[bytes, Callable[[IO[bytes]], Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", lzma.open),
)
# What zipfile, tarfile and the decompressors raise for damaged archives; RuntimeError: an encrypted zip; the last three:
# a file and a folder of one name.
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, RuntimeError, ValueError, OverflowError),
    *(FileExistsError, NotADirectoryError, IsADirectoryError),
)


def unpack(archive: Path, folder: Path, *, progress: Progress | None = None) -> list[str]:
    """Unpacks a zip or tar archive (compressed or not, its content decides) into ``folder``.

    Everything is first unpacked into a hidden folder inside ``folder`` and then renamed into place: a folder that was not
    there as a whole, into a folder that was there file by file. Files of the same name are replaced, others stay.

    Args:
        archive: the file.
        folder: where to; made when missing.
        progress: called with (bytes of the archive that are done, its size).

    Returns:
        The names at the archive's top.

    Raises:
        InputError: a damaged archive, or one with a name that leads out of the folder, a link, a device, or more files or
            bytes than an honest one has. Nothing of it has been put in place then.
    """
    unfinished = folder / f".unpacking-{archive.name}"
    _remove(unfinished)  # of a run that was killed
    unfinished.mkdir(parents=True)
    try:
        size = archive.stat().st_size
        budget = _Budget(archive, max(SMALL, MAX_RATIO * size))
        with archive.open("rb") as opened:
            for count, member in enumerate(_members(archive, opened, budget), start=1):
                if count > MAX_FILES:
                    raise InputError(f"{archive}: holds more than {MAX_FILES} files; refused")
                _write(member, unfinished.joinpath(*_safe_parts(member.name, archive)), budget)
                if progress is not None:
                    progress(min(opened.tell(), size), size)
        top = sorted(path.name for path in unfinished.iterdir())
        _move_into(folder, unfinished)
        return top
    except InputError:
        raise
    except _DAMAGE as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # gzip's own, or a jump to where no file has bytes
            raise _damaged(archive, error) from error
        raise
    finally:
        _remove(unfinished)


class _Member(NamedTuple):
    name: str
    content: IO[bytes] | None
    """None: a folder."""


class _Budget:
    """How many bytes an archive may still unpack to."""

    def __init__(self, archive: Path, limit: int) -> None:
        self.limit = limit
        self._archive = archive
        self._left = limit

    def spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise InputError(
                f"{self._archive}: unpacks to more than {self.limit} bytes, {MAX_RATIO} times its size; refused"
            )


class _Watched:
    """A decompressed stream that never hands out more than the budget: a tar's own headers may be the bomb."""

    def __init__(self, stream: IO[bytes], budget: _Budget) -> None:
        self._stream = stream
        self._budget = budget

    def read(self, size: int) -> bytes:
        block = self._stream.read(size)
        self._budget.spend(len(block))
        return block


def _members(archive: Path, opened: IO[bytes], budget: _Budget) -> Iterator[_Member]:
    start = opened.read(8)
    opened.seek(0)
    if start.startswith(b"PK"):
        return _zip_members(archive, opened)
    decompress = next((reader for magic, reader in _COMPRESSED if start.startswith(magic)), None)
    # SBD's benchmark.tgz is no gzip file but a plain tar: the suffix says nothing.
    return _tar_members(archive, opened if decompress is None else decompress(opened), budget)


def _zip_members(archive: Path, opened: IO[bytes]) -> Iterator[_Member]:
    with zipfile.ZipFile(opened) as packed:
        for info in packed.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise InputError(f"{archive}: '{info.filename}' is a link or a device; refused")
            if info.is_dir():
                yield _Member(info.filename, None)
            else:
                with packed.open(info) as content:
                    yield _Member(info.filename, content)


def _tar_members(archive: Path, stream: IO[bytes], budget: _Budget) -> Iterator[_Member]:
    # Twice the budget: the stream is watched here, the files are counted again as they are written.
    watched = cast(IO[bytes], _Watched(stream, _Budget(archive, 2 * budget.limit)))
    try:
        packed = tarfile.open(fileobj=watched, mode="r|")  # noqa: SIM115 - closed below
    except tarfile.ReadError as error:
        raise InputError(f"{archive}: is neither a zip nor a tar archive; delete it and fetch it again") from error
    with packed:
        for info in packed:
            if not (info.isfile() or info.isdir()):
                raise InputError(f"{archive}: '{info.name}' is a link or a device; refused")
            yield _Member(info.name, packed.extractfile(info) if info.isfile() else None)


def _safe_parts(name: str, archive: Path) -> tuple[str, ...]:
    """The parts of a member's path, whatever system packed it."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    # An anchor is a drive, a share, or a leading slash of either kind.
    if PureWindowsPath(name).anchor or ".." in parts or "\0" in name:
        raise InputError(f"{archive}: the name '{name}' leads out of the folder; refused")
    return parts


def _write(member: _Member, place: Path, budget: _Budget) -> None:
    if member.content is None:
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("wb") as file:
        while block := member.content.read(_BLOCK):
            budget.spend(len(block))
            file.write(block)


def _damaged(archive: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    return InputError(f"{archive}: is damaged ({reason}); delete it and fetch it again")


def _move_into(folder: Path, unpacked: Path) -> None:
    """Renames what was unpacked into ``folder``; where a folder of that name is there, what is in it."""
    for source in sorted(unpacked.iterdir()):
        target = folder / source.name
        if source.is_dir() and target.is_dir():
            _move_into(target, source)
        elif source.is_dir() != target.is_dir() and target.exists():
            raise InputError(
                f"{target}: the archive has a file where a folder is, or a folder where a file is; move it away"
            )
        else:
            source.replace(target)


def _remove(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif os.path.lexists(folder):
        shutil.rmtree(folder)
