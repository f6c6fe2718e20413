"""Files that are whole or not there: written beside their target, then renamed; flushed to the disk one by one or together."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

TEMPORARY = ".tmp-"
"""How the name of every unfinished file begins; what a kill leaves of them may be deleted."""

_FEW = 64


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside ``path``; when the block ends well, that file takes the place of ``path``.

    The temporary file lies in the target's own folder, because a rename is atomic only within a file system. When the
    block raises, the temporary file goes and the old target stays as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=TEMPORARY, suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _flush(temporary)
        # mkstemp makes a file that only its owner may read; a run's files are as readable as the user's others.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name != "nt":  # Windows cannot open a folder
        _flush(target.parent)


def write_unflushed(path: str, data: bytes) -> None:
    """``replacing`` for many small files: a kill leaves the old file or the whole new one, and no time goes to the disk.

    A power cut may still take the file, or leave it empty or short, until ``flush`` has been called for it. So whoever
    makes thousands calls ``flush`` now and then, and notes only afterwards that they are made.
    """
    folder, name = os.path.split(path)  # pathlib's paths would take as long as the writing
    temporary = os.path.join(folder, f"{TEMPORARY}{os.getpid()}-{name}")  # noqa: PTH118
    try:
        with open(temporary, "wb") as file:  # noqa: PTH123
            file.write(data)
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def flush(paths: Sequence[Path]) -> None:
    """Waits until these files, all of one folder, are on the disk: one by one if few, else with everything that waits."""
    if len(paths) > _FEW and sys.platform != "win32":
        flush_all()  # one for all: a thousand calls of fsync take a thousand commits of the file system
        return
    for path in paths:
        _flush(path)
    if paths and os.name != "nt":
        _flush(paths[0].parent)


def flush_all() -> None:
    """Waits until everything that was written is on the disk; Windows cannot be asked."""
    if sys.platform != "win32":
        os.sync()


@contextlib.contextmanager
def file_lock(lock: Path) -> Iterator[None]:
    """One process at a time, where the system has such locks: the others wait here.

    Args:
        lock: a file in a folder that is there; it is there while somebody holds or awaits it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    while True:
        with lock.open("w") as file:
            with contextlib.suppress(OSError):  # some network file systems have none
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_still(lock, file.fileno()):  # whoever held it has taken it away
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one that bears the name now."""
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
