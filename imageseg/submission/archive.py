"""Reading and writing of zip and tar.gz archives, without unpacking them to disk."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
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


def read_files(path: Path, kind: Kind) -> Iterator[tuple[str, bytes | None]]:
    """Yield (name, content) of all files in the order of the archive; the content of a damaged file in a zip is None.

    Raises:
        Exception: One of ``UNREADABLE`` if the archive is damaged.
    """
    if kind == "zip":
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.filename.endswith("/"):  # is_dir() raises IndexError for an empty name
                    try:
                        content = archive.read(info)
                    except UNREADABLE:
                        content = None
                    yield info.filename, content
        return
    with gzip.open(path) as compressed:
        with tarfile.open(fileobj=compressed, mode="r:") as tar:
            for member in tar:
                if not member.isdir():
                    file = tar.extractfile(member) if member.isreg() else None
                    yield member.name, file.read() if file is not None else None
        while compressed.read(1 << 20):  # the checksum is at the end, after what tarfile reads
            pass


def write_files(path: Path, kind: Kind, files: Iterable[tuple[str, bytes]]) -> None:
    """Write an archive with fixed times and permissions: the same files give the same bytes."""
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # PNGs are compressed already
            for name, data in files:
                entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                entry.create_system = 3  # Unix on every system, because these are Unix permissions
                entry.external_attr = 0o100644 << 16
                archive.writestr(entry, data)
        return
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(data), 0o644, 0
            tar.addfile(member, io.BytesIO(data))
