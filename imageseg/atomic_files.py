"""Atomic files, written to a temporary file and renamed, flushed one by one or together; and a lock between processes."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

TEMPORARY = ".tmp-"
"""Prefix of temporary files; those left by a killed process may be deleted."""

_FEW = 64


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Provide a temporary path next to ``path``; when the block ends without an error, that file replaces ``path``.

    The temporary file is in the folder of the target, because a rename is atomic only within a file system. If the block
    raises, the temporary file is deleted and the old target stays as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=TEMPORARY, suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _flush(temporary)
        # mkstemp creates files that only their owner may read; these files get the user's default permissions.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name != "nt":  # Windows cannot open a folder
        _flush(target.parent)


def write_unflushed(path: str, data: bytes) -> None:
    """Write a file atomically like ``replacing``, but without waiting for the disk; for many small files.

    A killed process leaves the old file or the complete new one. A power cut may still lose, empty or truncate the file until
    ``flush`` has been called for it. Callers that write thousands of files call ``flush`` from time to time, and record the
    files as done only afterwards.
    """
    folder, name = os.path.split(path)  # pathlib would take as long as the writing
    temporary = os.path.join(folder, f"{TEMPORARY}{os.getpid()}-{name}")  # noqa: PTH118
    try:
        with open(temporary, "wb") as file:  # noqa: PTH123
            file.write(data)
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def flush(paths: Sequence[Path]) -> None:
    """Wait until files of one folder are on the disk: one by one if they are few, else together with all pending writes."""
    if len(paths) > _FEW and sys.platform != "win32":
        flush_all()  # a thousand calls of fsync would be a thousand commits of the file system
        return
    for path in paths:
        _flush(path)
    if paths and os.name != "nt":
        _flush(paths[0].parent)


def flush_all() -> None:
    """Wait until all pending writes are on the disk; not available on Windows."""
    if sys.platform != "win32":
        os.sync()


@contextlib.contextmanager
def file_lock(lock: Path) -> Iterator[None]:
    """Let one process at a time run the block; others wait. Without effect on Windows and on file systems without locks.

    Not the package filelock: it raises where a network file system has no locks, and leaves the lock file behind.

    Args:
        lock: Lock file, in an existing folder. It exists only while a process holds or awaits the lock.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    while True:
        with lock.open("w") as file:
            with contextlib.suppress(OSError):  # some network file systems have no locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_same_file(lock, file.fileno()):  # the previous holder has deleted it
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def _is_same_file(path: Path, descriptor: int) -> bool:
    """Whether the path still refers to the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
