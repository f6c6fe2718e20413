"""fetch: a dataset's archives from their owner, whole, checked and safely unpacked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imageseg.datasets.base import Archive
from imageseg.workers import Progress


def fetch(
    archives: Sequence[Archive], root: Path, *, mirror: str | None = None, progress: Progress | None = None
) -> None:
    """Fetches and unpacks every archive below ``root``."""
    raise NotImplementedError
