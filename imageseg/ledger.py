"""Ledger: a text file with one line per finished file, by which interrupted work on many files is continued."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from imageseg.atomic_files import flush, replacing

Entry = TypeVar("Entry")

_FLUSH_AFTER, _FLUSH_SECONDS = 4000, 10.0


class Ledger(Generic[Entry]):
    """Entries of finished files, appended once the files are on the disk, so that a kill or a power cut loses no finished work.

    Args:
        path: Path of the ledger.
        to_line: Function that formats an entry as one line, without its end.
        from_line: Function that parses a line. It returns None, or raises ValueError or TypeError, for a damaged line.
        file_of: Function that returns the file of an entry.
        header: Values that all entries depend on, stored as JSON in the first line; a ledger with another header has no entries.
            If not set, the file has no header.
    """

    def __init__(
        self,
        path: Path,
        *,
        to_line: Callable[[Entry], str],
        from_line: Callable[[str], Entry | None],
        file_of: Callable[[Entry], Path],
        header: dict[str, Any] | None = None,
    ) -> None:
        self.path = path
        self._to_line = to_line
        self._from_line = from_line
        self._file_of = file_of
        self._header = header

    @property
    def written_ns(self) -> int:
        """Modification time in nanoseconds; 0 if there is no ledger."""
        try:
            return self.path.stat().st_mtime_ns
        except OSError:
            return 0

    def entries(self) -> list[Entry]:
        """All entries. Damaged lines do not count, nor does a last line that a kill cut short."""
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")[:-1]
        except (OSError, UnicodeDecodeError):
            return []
        if self._header is not None:
            if not lines or _json(lines[0]) != self._header:
                return []
            lines = lines[1:]
        return [entry for line in lines if (entry := self._entry(line)) is not None]

    def has_other_header(self) -> bool:
        """Whether the entries belong to other values, so that none of their files can be used."""
        try:
            with self.path.open(encoding="utf-8") as ledger:
                header = _json(ledger.readline())
        except (OSError, UnicodeDecodeError):
            return False
        return isinstance(header, dict) and header.keys() == (self._header or {}).keys() and header != self._header

    def replace(self, entries: Sequence[Entry]) -> None:
        """Replace all entries."""
        lines = [] if self._header is None else [json.dumps(self._header)]
        text = "".join(f"{line}\n" for line in [*lines, *map(self._to_line, entries)])
        with replacing(self.path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")

    def append(self, entries: Iterable[Entry]) -> list[Entry]:
        """Append the entries of files as they are finished, in groups: first the files are flushed to the disk, then the ledger.

        If ``entries`` raises an exception, those before it are still appended.
        """
        done: list[Entry] = []
        flushed, since = 0, time.monotonic()
        try:
            for entry in entries:
                done.append(entry)
                if len(done) - flushed >= _FLUSH_AFTER or time.monotonic() - since > _FLUSH_SECONDS:
                    self._append_flushed(done[flushed:])
                    flushed, since = len(done), time.monotonic()
        finally:
            self._append_flushed(done[flushed:])
        return done

    def _append_flushed(self, entries: Sequence[Entry]) -> None:
        flush([self._file_of(entry) for entry in entries])
        with self.path.open("a", encoding="utf-8", newline="\n") as ledger:
            ledger.writelines(f"{self._to_line(entry)}\n" for entry in entries)
            ledger.flush()
            os.fsync(ledger.fileno())

    def _entry(self, line: str) -> Entry | None:
        try:
            return self._from_line(line)
        except (ValueError, TypeError):
            return None


def size_and_time(path: str | Path) -> tuple[int, int]:
    """Size in bytes and modification time in nanoseconds, by which a changed file is noticed without reading it."""
    stat = os.stat(path)  # noqa: PTH116 (pathlib is slower)
    return stat.st_size, stat.st_mtime_ns


def content_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=4)
def cached_content_hash(path: Path, size_and_time: tuple[int, int]) -> str:
    """``content_hash``, computed once per size and time of the file."""
    return content_hash(path)


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
