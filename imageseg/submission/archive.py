"""Reading and writing of zip and tar.gz archives, without unpacking them to disk."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

Kind = Literal["zip", "tar.gz"]

# What zipfile, tarfile and gzip raise for damaged files. RuntimeError: encrypted files, unknown compression methods.
UNREADABLE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error),
    *(EOFError, OSError, ValueError, OverflowError, RuntimeError),
)


def kind_of(path: Path) -> Kind | None:
    """Return the kind of an archive by its first bytes, or None if it is neither zip nor gzip."""
    with path.open("rb") as file:
        start = file.read(4)
    if start in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    return "tar.gz" if start.startswith(b"\x1f\x8b") else None


def names_in(path: Path, kind: Kind) -> list[str]:
    """List the names of all files in an archive, in order; names may occur twice.

    Raises:
        Exception: One of ``UNREADABLE`` if the archive is damaged.
    """
    if kind == "zip":
        with zipfile.ZipFile(path) as archive:
            return [info.filename for info in archive.infolist() if not info.is_dir()]
    with tarfile.open(path, "r:gz") as tar:
        names = [member.name for member in tar if not member.isdir()]
    with gzip.open(path) as file:  # the checksum is at the end, after what tarfile reads
        while file.read(1 << 20):
            pass
    return names


def read_files(path: Path, kind: Kind, wanted: Collection[int]) -> Iterator[tuple[int, bytes | None]]:
    """Yield (index, content) of some files in the order of the archive; the content of a damaged file is None.

    Args:
        path: Path of the archive.
        kind: Kind of the archive.
        wanted: Indices into ``names_in(path, kind)``.
    """
    if kind == "zip":
        with zipfile.ZipFile(path) as archive:
            files = [info for info in archive.infolist() if not info.is_dir()]
            for index in sorted(wanted):
                try:
                    content = archive.read(files[index])
                except UNREADABLE:
                    content = b""
                yield index, content if len(content) == files[index].file_size else None
        return
    with tarfile.open(path, "r:gz") as tar:
        index = 0
        for member in tar:
            if member.isdir():
                continue
            if index in wanted:
                file = tar.extractfile(member) if member.isreg() else None
                yield index, file.read() if file is not None else None
            index += 1


def write_zip(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a zip with fixed times and permissions: the same files give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # PNGs are compressed already
        for name, data in files:
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # Unix on every system, because these are Unix permissions
            info.external_attr = 0o100644 << 16
            archive.writestr(info, data)


def write_tar(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a tar.gz with fixed times and permissions: the same files give the same bytes."""
    with (
        path.open("wb") as raw,
        closing(gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0)) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(data), 0o644, 0
            archive.addfile(info, io.BytesIO(data))
