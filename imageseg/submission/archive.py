"""Archives from strangers: listed and read within limits, never unpacked to disk."""

from __future__ import annotations

import contextlib
import gzip
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Literal, NamedTuple

from imageseg.errors import InputError

Kind = Literal["zip", "tar.gz"]

MAX_ENTRIES = 20_000
"""Ten times as many as the largest test split has pictures."""
MAX_ENTRY = 1 << 25
"""Bytes of one file. 2048 x 1024 pixels without compression are 2 MiB."""
MAX_TOTAL = 1 << 33
"""Bytes of all files: 1525 such pictures are 3 GiB."""

# What the readers raise for archives that are damaged or made to do harm. RuntimeError: also unknown features, and
# headers nested without end.
_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error),
    *(EOFError, OSError, ValueError, OverflowError, RuntimeError),
)


class Entry(NamedTuple):
    """One file of an archive."""

    place: int
    """Which one of the archive it is: names may come twice."""
    name: str
    size: int
    fault: str
    """"" for a plain file; else the kind of fault for which it is not read."""


class ArchiveError(Exception):
    """An archive that is not read any further: a kind of fault, and what was found."""

    def __init__(self, fault: str, detail: str) -> None:
        super().__init__(detail)
        self.fault = fault


def kind_of(path: Path) -> str:
    """ "zip" or "tar.gz", by the first bytes; else what it is instead, in words."""
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if start.startswith(b"\x1f\x8b"):
        return "tar.gz"
    if start[257:262] == b"ustar":
        return "a tar without gzip"
    known = {b"7z\xbc\xaf": "a 7z", b"Rar!": "a rar", b"BZh": "a bzip2", b"\xfd7zXZ": "an xz", b"\x89PNG": "a PNG"}
    return next((name for magic, name in known.items() if start.startswith(magic)), "no archive that is known here")


def entries_of(path: Path, kind: Kind) -> list[Entry]:
    """The files of an archive, folders left out.

    Raises:
        ArchiveError: damaged, or beyond the limits.
        InputError: the file cannot be opened.
    """
    found: list[Entry] = []
    total = 0
    try:
        for entry in _zip_entries(path) if kind == "zip" else _tar_entries(path):
            if len(found) == MAX_ENTRIES:
                raise ArchiveError("entries", f"more than {MAX_ENTRIES}")
            total += entry.size
            if total > MAX_TOTAL:
                raise ArchiveError("total", f"more than {MAX_TOTAL >> 30} GiB when unpacked")
            found.append(entry)
    except PermissionError:
        raise InputError(f"{path}: may not be read (permission denied)") from None
    except _BROKEN as error:
        raise ArchiveError("unreadable", " ".join(str(error).split()) or type(error).__name__) from error
    return found


def contents_of(path: Path, kind: Kind, indices: Sequence[int]) -> Iterator[tuple[int, bytes | None]]:
    """The bytes of some files, in the order of the archive; None for one that is damaged.

    Args:
        path: the archive.
        kind: what it is.
        indices: of entries that ``entries_of`` found to be plain files.
    """
    wanted = set(indices)
    if kind == "zip":
        with zipfile.ZipFile(path) as archive:
            for index, info in enumerate(archive.infolist()):
                if index in wanted:
                    yield index, _unzipped(archive, info)
        return
    with _opened_tar(path) as tar:
        for index, member in _members(tar):
            if index in wanted:
                file = tar.extractfile(member)
                yield index, file.read() if file is not None else None


def _zip_entries(path: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(path) as archive:
        for index, info in enumerate(archive.infolist()):
            if info.is_dir():
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                fault = "link"
            elif info.flag_bits & 1:
                fault = "encrypted"
            elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                fault = "method"
            else:
                fault = "large" if info.file_size > MAX_ENTRY else ""
            yield Entry(index, info.filename, info.file_size, fault)


def _unzipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes | None:
    try:
        with archive.open(info) as file:
            data = file.read(MAX_ENTRY + 1)
    except _BROKEN:
        return None
    # Too small a size in the directory ends the reading early, where the checksum does not fit; too large a one is seen here.
    return data if len(data) == info.file_size else None


def _tar_entries(path: Path) -> Iterator[Entry]:
    with _opened_tar(path) as tar:
        for index, member in _members(tar):
            if member.isdir():
                continue
            plain = member.isreg() and not member.issparse()
            fault = "link" if not plain else "large" if member.size > MAX_ENTRY else ""
            yield Entry(index, member.name, member.size if plain else 0, fault)


def _members(tar: tarfile.TarFile) -> Iterator[tuple[int, tarfile.TarInfo]]:
    """Every header in turn. ``tarfile`` takes a damaged one for the end, so that files after it count as missing."""
    index = 0
    while (member := tar.next()) is not None:
        if member.size < 0:
            raise tarfile.ReadError("a file of negative size")
        yield index, member
        index += 1


@contextlib.contextmanager
def _opened_tar(path: Path) -> Iterator[tarfile.TarFile]:
    """A tar.gz, open for the block; after it the rest is read too, because the checksum stands at the end."""
    with (
        contextlib.closing(_Bounded(path)) as file,
        tarfile.open(fileobj=file, mode="r:") as tar,  # type: ignore[call-overload]
    ):
        yield tar
        file.drain()


class _Bounded:
    """A gzip file that gives no more than the limits, however well it was compressed."""

    def __init__(self, path: Path) -> None:
        self._raw: IO[bytes] = path.open("rb")
        self._file = gzip.GzipFile(fileobj=self._raw, mode="rb")

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_ENTRY:
            raise tarfile.ReadError(f"a header or file of {size} bytes")
        return self._file.read(size)

    def seek(self, place: int) -> int:
        if not 0 <= place <= 2 * MAX_TOTAL:
            raise ArchiveError("total", f"more than {MAX_TOTAL >> 30} GiB when unpacked")
        return self._file.seek(place)

    def tell(self) -> int:
        return self._file.tell()

    def drain(self) -> None:
        while self._file.read(1 << 20):
            if self._file.tell() > 2 * MAX_TOTAL:
                raise ArchiveError("total", f"more than {MAX_TOTAL >> 30} GiB when unpacked")

    def close(self) -> None:
        self._file.close()
        self._raw.close()
