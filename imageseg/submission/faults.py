"""Faults of a submission, collected by kind and reported in one line per kind with the first names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_SHOWN = 3
_KEPT = 20

# Kind -> sentence for one and for several; the order is that of the report.
SENTENCES = {
    "unreadable": ("archive cannot be read",) * 2,
    "archive": ("archive is of the wrong kind",) * 2,
    "empty": ("archive contains no file",) * 2,
    "folder": ("file is in the wrong folder", "files are in the wrong folder"),
    "competition": ("archive contains two competitions; submit each in a separate archive",) * 2,
    "suffix": ("file is no .png", "files are no .png"),
    "names": ("file has a name that no test image has", "files have names that no test image has"),
    "doubled": ("image has more than one prediction", "images have more than one prediction"),
    "missing": ("image has no prediction", "images have no prediction"),
    "extra": ("file belongs to no image", "files belong to no image"),
    "count": ("number of predictions is wrong",) * 2,
    "png": ("file is no PNG, despite its name", "files are no PNG, despite their names"),
    "damaged": ("PNG is damaged", "PNGs are damaged"),
    "mode": (
        "PNG contains colors; one channel of ids is required",
        "PNGs contain colors; one channel of ids is required",
    ),
    "depth": ("PNG does not have 8 bits per pixel", "PNGs do not have 8 bits per pixel"),
    "size": ("prediction has another size than its image", "predictions have another size than their images"),
    "ignored": (
        "prediction contains 255, which marks ignored pixels of the ground truth; every pixel needs a class",
        "predictions contain 255, which marks ignored pixels of the ground truth; every pixel needs a class",
    ),
    "values": ("prediction contains values that are no class", "predictions contain values that are no class"),
    "lookalike": ("prediction contains ids of another kind", "predictions contain ids of another kind"),
}
_WHOLE_ARCHIVE = ("unreadable", "archive", "empty", "competition", "count")


@dataclass(frozen=True)
class Fault:
    """One kind of fault: how often it occurs, the first names, and the line that reports it."""

    kind: str
    count: int
    names: tuple[str, ...]
    line: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fault for JSON."""
        return {"kind": self.kind, "count": self.count, "names": list(self.names), "message": self.line}


@dataclass
class Faults:
    """Collector of faults; reports them in the order of ``SENTENCES``."""

    _found: dict[str, dict[str, str]] = field(default_factory=dict)
    _hints: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, kind: str, name: str, detail: str = "", *, hint: str = "") -> None:
        """Add one fault.

        Args:
            kind: Kind of the fault, a key of ``SENTENCES``.
            name: Name of the file or image.
            detail: What was found in it.
            hint: What to do; one per kind.
        """
        if kind not in SENTENCES:
            raise KeyError(kind)
        self._found.setdefault(kind, {}).setdefault(name, detail)
        if hint:
            self._hints[kind] = hint

    def list(self) -> list[Fault]:
        """Return one fault per kind that was found."""
        return [self._fault(kind) for kind in SENTENCES if kind in self._found]

    def _fault(self, kind: str) -> Fault:
        found = {printable(name): printable(detail) for name, detail in self._found[kind].items()}
        one, several = SENTENCES[kind]
        if kind in _WHOLE_ARCHIVE:
            details = "; ".join(filter(None, found.values()))
            line = f"the {one}" + (f": {details}" if details else "")
        else:
            shown = ", ".join(name + (f" ({detail})" if detail else "") for name, detail in [*found.items()][:_SHOWN])
            rest = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            line = f"{len(found)} {one if len(found) == 1 else several}: {shown}{rest}"
        hint = self._hints.get(kind, "")
        return Fault(kind, len(found), tuple(found)[:_KEPT], line + (f"; {hint}" if hint else ""))


def printable(text: str) -> str:
    """Replace control characters, so that a file name cannot break the line."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
