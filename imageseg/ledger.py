"""Ledger: which pairs of files are packed, as they were then. A line is written when the packed file has reached the disk."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from imageseg.atomic_files import flush, replacing
from imageseg.datasets.pairs import Pair
from imageseg.pipeline.store.pair_file import bytes_of

LEDGER = "pairs.jsonl"
SUFFIX = ".pair"

_FLUSH_SECONDS = 10.0


class Record(NamedTuple):
    """One line: two files as they were when they were packed, and what they became."""

    image: str
    mask: str
    state: list[int]
    """Size and time (ns) of the picture, size and time of the mask."""
    key: str
    height: int
    width: int

    @property
    def files(self) -> tuple[str, str]:
        """The two."""
        return self.image, self.mask

    @property
    def bytes(self) -> int:
        """Of the packed file."""
        return bytes_of((self.height, self.width))


class Ledger:
    """The ledger of a folder.

    Args:
        folder: of packed files.
        made_by: what they depend on besides the two files; the lines of a ledger of something else do not count.
    """

    def __init__(self, folder: Path, made_by: str) -> None:
        self.folder = folder
        self._path = folder / LEDGER
        self._made_by = made_by

    @property
    def written(self) -> int:
        """When, in nanoseconds; 0 for never."""
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return 0

    def records(self) -> list[Record]:
        """Its lines. Only whole ones count: a kill may have cut the last one short."""
        try:
            lines = self._path.read_text(encoding="utf-8").split("\n")[:-1]
            if not lines or json.loads(lines[0]) != {"made_by": self._made_by}:
                return []
            return [Record(*json.loads(line)) for line in lines[1:]]
        except (OSError, ValueError, TypeError):
            return []

    def is_of_something_else(self) -> bool:
        """Whether there is a ledger of files that are of no use any more."""
        try:
            with self._path.open(encoding="utf-8") as ledger:
                return bool(json.loads(ledger.readline())["made_by"] != self._made_by)
        except (OSError, ValueError, TypeError, KeyError):
            return False

    def write(self, records: Sequence[Record]) -> None:
        """Puts these in the place of what there was."""
        lines = [json.dumps({"made_by": self._made_by}), *map(json.dumps, records)]
        with replacing(self._path) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")

    def entered(self, records: Iterator[Record]) -> Iterator[Record]:
        """The same records, each noted once its file has reached the disk, many at a time."""
        waiting: list[Record] = []
        since = time.monotonic()
        try:
            for record in records:
                waiting.append(record)
                yield record
                if time.monotonic() - since > _FLUSH_SECONDS:
                    self._enter(waiting)
                    waiting, since = [], time.monotonic()
        finally:
            self._enter(waiting)

    def _enter(self, records: Sequence[Record]) -> None:
        if not records:
            return
        flush([self.folder / f"{record.key}{SUFFIX}" for record in records])
        with self._path.open("a", encoding="utf-8", newline="\n") as ledger:
            ledger.writelines(json.dumps(record) + "\n" for record in records)
            ledger.flush()
            os.fsync(ledger.fileno())


def current_records(records: Sequence[Record], pairs: Sequence[Pair]) -> list[Record | None]:
    """Of each pair the record whose sizes and times are still those of its files."""
    by_files = {record.files: record for record in records}
    found = []
    for pair in pairs:
        record = by_files.get(files_of(pair))
        found.append(record if record is not None and record.state == state_of(pair) else None)
    return found


def files_of(pair: Pair) -> tuple[str, str]:
    """As ``Record.files``."""
    return str(pair.image), str(pair.mask)


def state_of(pair: Pair) -> list[int]:
    """As ``Record.state``; of files that are not there, nothing."""
    try:
        image, mask = os.stat(pair.image), os.stat(pair.mask or "")  # noqa: PTH116
    except OSError:
        return []
    return [image.st_size, image.st_mtime_ns, mask.st_size, mask.st_mtime_ns]
