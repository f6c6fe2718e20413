"""What was counted or measured once, kept in the user's cache folder until what it depends on changes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from imageseg.atomic_files import replacing

_FORMAT = 1


def kept(
    key: Any, seen: str, make: Callable[[], dict[str, Any]], check: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """The values that were kept under ``key`` for the same fingerprint, else what ``make`` gives, which is kept then.

    A folder that cannot be written, and a file that somebody damaged, are as if nothing were kept.

    Args:
        key: plain values; one set of values is kept under each.
        seen: the fingerprint of all that the values depend on.
        make: gives the values, as JSON can hold them.
        check: raises KeyError, TypeError or ValueError for values of another form.
    """
    folder = cache_folder()
    if folder is None:
        return make()
    path = folder / "statistics" / f"{_hash(key)}.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["seen"] == seen:
            check(record["values"])
            values: dict[str, Any] = record["values"]
            return values
    except (OSError, ValueError, KeyError, TypeError):
        pass
    values = make()
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"key": key, "seen": seen, "values": values}), encoding="utf-8")
    except OSError:
        pass
    return values


def fingerprint(*parts: Any) -> str:
    """A hash of plain values."""
    return _hash([_FORMAT, *parts])


def state_of(paths: Iterable[Path]) -> list[Any]:
    """Names, sizes and times of files: a file that was written since has another."""
    state = []
    for path in paths:
        found = path.stat()
        state.append([str(path.absolute()), found.st_size, found.st_mtime_ns])
    return state


def cache_folder() -> Path | None:
    """``imageseg`` in XDG_CACHE_HOME or ~/.cache; None where the user has no home."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "imageseg"
    except RuntimeError:
        return None


def _hash(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
