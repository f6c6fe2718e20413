"""A finding: one kind of fault, its severity, the files that have it, what it means and how to fix it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple


class Severity(StrEnum):
    """Severity of a finding, worst first."""

    ERROR = "error"
    """Training would be wrong or would stop."""
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
    """One kind of fault, with all files that have it.

    Attributes:
        code: Name of the fault, such as ``missing_mask``.
        severity: Severity of the fault.
        places: Files that have the fault; the dataset's root if it concerns no single file.
        meaning: What was found and why it matters, in one or two sentences.
        fix: What to do, in the imperative.
        fixable: Whether the label table that ``--fix-config`` writes fixes it.
    """

    code: str
    severity: Severity
    places: tuple[Place, ...]
    meaning: str
    fix: str
    fixable: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``--json`` prints them."""
        return {
            "code": self.code,
            "severity": str(self.severity),
            "count": len(self.places),
            "meaning": self.meaning,
            "fix": self.fix,
            "fixable": self.fixable,
            "files": [{"path": str(place.path), "detail": place.detail} for place in self.places],
        }


def error(places: Sequence[Place], *, meaning: str, fix: str, fixable: bool = False) -> Finding | None:
    """Return an error at these places, or None if there are none. The table of faults fills in the code."""
    return Finding("", Severity.ERROR, tuple(places), meaning, fix, fixable) if places else None


def warning(places: Sequence[Place], *, meaning: str, fix: str, fixable: bool = False) -> Finding | None:
    """Return a warning at these places, or None if there are none."""
    return Finding("", Severity.WARNING, tuple(places), meaning, fix, fixable) if places else None


def note(places: Sequence[Place], *, meaning: str, fix: str) -> Finding | None:
    """Return a note at these places, or None if there are none."""
    return Finding("", Severity.NOTE, tuple(places), meaning, fix) if places else None
