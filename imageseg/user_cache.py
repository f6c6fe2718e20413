"""Results of counting and measuring, cached in the user's cache folder until their inputs change."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from imageseg.atomic_files import replacing
from imageseg.ledger import size_and_time

_FORMAT = 1


def cached(
    key: Any, inputs: str, make: Callable[[], dict[str, Any]], check: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """The values that are cached under ``key`` for the same inputs, otherwise those of ``make``, which are then cached.

    A folder that is not writable and a damaged file are treated like an empty cache.

    Args:
        key: Plain values; one set of values is cached under each key.
        inputs: ``content_key`` of all that the values depend on.
        make: Function that computes the values, in the types of JSON.
        check: Function that raises KeyError, TypeError or ValueError for values of another form.
    """
    folder = cache_folder()
    if folder is None:
        return make()
    path = folder / "statistics" / f"{_hash(key)}.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["seen"] == inputs:
            check(record["values"])
            values: dict[str, Any] = record["values"]
            return values
    except (OSError, ValueError, KeyError, TypeError):
        pass
    values = make()
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"key": key, "seen": inputs, "values": values}), encoding="utf-8")
    except OSError:
        pass
    return values


def content_key(*parts: Any) -> str:
    """A hash of plain values."""
    return _hash([_FORMAT, *parts])


def file_states(paths: Iterable[Path]) -> list[list[Any]]:
    """Path, size and modification time of each file, which differ for a file that was written since."""
    return [[str(path.absolute()), *size_and_time(path)] for path in paths]


def cache_folder() -> Path | None:
    """``imageseg`` in XDG_CACHE_HOME or ~/.cache; None if the user has no home folder."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "imageseg"
    except RuntimeError:
        return None


def _hash(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
