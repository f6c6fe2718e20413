"""What a fault says when it is found: how bad it is, where, what it means and what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple


class Severity(StrEnum):
    """Worst first."""

    ERROR = "error"
    """Training would be wrong, or would stop."""
    WARNING = "warning"
    """Probably a mistake."""
    NOTE = "note"
    """Good to know."""


class Place(NamedTuple):
    """One file, and what was found in it."""

    path: Path
    detail: str = ""


@dataclass(frozen=True)
class Finding:
    """One kind of fault over all files that have it.

    Attributes:
        code: the fault's name, such as ``missing_mask``.
        severity: how bad it is.
        places: every file that has it; empty where it concerns no single file.
        meaning: one or two sentences: what was found and what it would do.
        mend: what to do about it.
        mendable: whether a label table that ``--fix-config`` writes mends it.
    """

    code: str
    severity: Severity
    places: tuple[Place, ...]
    meaning: str
    mend: str
    mendable: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as ``--json`` prints them."""
        return {
            "code": self.code,
            "severity": str(self.severity),
            "count": len(self.places),
            "meaning": self.meaning,
            "mend": self.mend,
            "mendable": self.mendable,
            "files": [{"path": str(place.path), "detail": place.detail} for place in self.places],
        }


def error(places: Sequence[Place], *, meaning: str, mend: str, mendable: bool = False) -> Finding | None:
    """A finding at these places; none where there are none. The table of faults gives it its code."""
    return Finding("", Severity.ERROR, tuple(places), meaning, mend, mendable) if places else None


def warning(places: Sequence[Place], *, meaning: str, mend: str, mendable: bool = False) -> Finding | None:
    """As ``error``."""
    return Finding("", Severity.WARNING, tuple(places), meaning, mend, mendable) if places else None


def note(places: Sequence[Place], *, meaning: str, mend: str) -> Finding | None:
    """As ``error``."""
    return Finding("", Severity.NOTE, tuple(places), meaning, mend) if places else None
