"""Unpacking of zip and tar archives into a folder: all of it or nothing, and never outside the folder."""

from __future__ import annotations

import errno
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path, PureWindowsPath
from typing import IO

from imageseg.errors import InputError
from imageseg.parallel import Progress

MAX_FILES = 2_000_000
MAX_RATIO = 100
"""Unpacked bytes per byte of the archive. Images compress by a factor of about 1, JSON of about 10, a zip bomb of 1000 and more."""
SMALL = 64 * 2**20
"""Archives that unpack to no more than this many bytes may have any ratio."""

# Raised by zipfile, tarfile and the decompressors for damaged archives; RuntimeError: an encrypted zip archive; the last
# three: a file and a folder of the same name.
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, RuntimeError, ValueError, OverflowError),
    *(FileExistsError, NotADirectoryError, IsADirectoryError),
)


def unpack(archive: Path, folder: Path, *, progress: Progress | None = None) -> list[str]:
    """Unpack a zip or tar archive into ``folder``. The content, not the suffix, decides which of the two it is.

    Everything is first unpacked into a hidden folder inside ``folder`` and then renamed into place. Existing files of the
    same name are replaced; other files stay.

    Args:
        archive: Archive file; a tar archive may be compressed with gzip, bzip2 or xz.
        folder: Target folder, created if missing.
        progress: Function called with (bytes of the archive read so far, size of the archive).

    Returns:
        Names at the top level of the archive.

    Raises:
        InputError: The archive is damaged, or has a name that leads out of the folder, a link, a device, or more files or
            bytes than an honest archive has. Nothing has been put in place then.
    """
    staging = folder / f".unpacking-{archive.name}"
    _remove(staging)  # left by a run that was killed
    staging.mkdir(parents=True)
    try:
        with archive.open("rb") as opened:
            # SBD's benchmark.tgz is a plain tar archive: the suffix does not tell.
            is_zip = opened.read(2) == b"PK"
            opened.seek(0)
            (_unpack_zip if is_zip else _unpack_tar)(archive, opened, staging, progress)
        top = sorted(path.name for path in staging.iterdir())
        _move_into(folder, staging)
        return top
    except InputError:
        raise
    except _DAMAGE as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # from a decompressor, or a seek to an impossible position
            raise _damaged(archive, error) from error
        raise
    finally:
        _remove(staging)


def _unpack_zip(archive: Path, opened: IO[bytes], staging: Path, progress: Progress | None) -> None:
    size = archive.stat().st_size
    with zipfile.ZipFile(opened) as packed:
        members = packed.infolist()
        # zipfile never writes more bytes than a member declares.
        _check_limits(archive, files=len(members), unpacked=sum(member.file_size for member in members))
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            _check_member(archive, member.filename, is_plain=kind in (0, stat.S_IFREG, stat.S_IFDIR))
            packed.extract(member, staging)
            if progress is not None:
                progress(min(opened.tell(), size), size)


def _unpack_tar(archive: Path, opened: IO[bytes], staging: Path, progress: Progress | None) -> None:
    size = archive.stat().st_size
    try:
        packed = tarfile.open(fileobj=opened)  # noqa: SIM115 - closed below
    except tarfile.ReadError as error:
        raise InputError(f"{archive}: is neither a zip nor a tar archive; delete it and download it again") from error
    with packed:
        for count, member in enumerate(packed, start=1):
            _check_limits(archive, files=count, unpacked=packed.offset)
            _check_member(archive, member.name, is_plain=member.isfile() or member.isdir())
            # Not tarfile's extract: its filters need Python 3.11.4, and without them it sets the archive's modes and owners.
            target = staging / member.name
            content = packed.extractfile(member)
            (target if content is None else target.parent).mkdir(parents=True, exist_ok=True)
            if content is not None:
                with content, target.open("wb") as file:
                    shutil.copyfileobj(content, file)
            if progress is not None:
                progress(min(opened.tell(), size), size)


def _check_limits(archive: Path, *, files: int, unpacked: int) -> None:
    if files > MAX_FILES:
        raise InputError(f"{archive}: contains more than {MAX_FILES} files; refused")
    limit = max(SMALL, MAX_RATIO * archive.stat().st_size)
    if unpacked > limit:
        raise InputError(f"{archive}: unpacks to more than {limit} bytes, {MAX_RATIO} times its size; refused")


def _check_member(archive: Path, name: str, *, is_plain: bool) -> None:
    """Refuse everything but files and folders with relative paths that are safe on every operating system."""
    if not is_plain:
        raise InputError(f"{archive}: '{name}' is a link or a device; refused")
    path = PureWindowsPath(name)  # splits at both kinds of slashes; the anchor is a drive, a share or a leading slash
    if path.anchor or ".." in path.parts or "\0" in name:
        raise InputError(f"{archive}: the name '{name}' leads out of the folder; refused")


def _damaged(archive: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    return InputError(f"{archive}: is damaged ({reason}); delete it and download it again")


def _move_into(folder: Path, unpacked: Path) -> None:
    """Rename what was unpacked into ``folder``, merging into folders that exist there."""
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


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif os.path.lexists(path):
        shutil.rmtree(path)
