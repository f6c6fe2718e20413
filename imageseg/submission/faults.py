"""Faults of a submission: gathered by kind, told in one line each with the first names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_SHOWN = 3
_KEPT = 20
_LONGEST_NAME = 120

# Kind -> what is said of one, and of several.
_SENTENCES = {
    "unreadable": ("archive cannot be read",) * 2,
    "archive": ("archive is of the wrong kind",) * 2,
    "empty": ("archive holds no file",) * 2,
    "entries": ("archive holds too many files to be a submission",) * 2,
    "total": ("archive holds too much to be a submission",) * 2,
    "encrypted": ("file is encrypted", "files are encrypted"),
    "link": ("entry is a link or another special file", "entries are links or other special files"),
    "method": ("file is compressed in a way that few tools know", "files are compressed in a way that few tools know"),
    "outside": ("name leads out of the archive", "names lead out of the archive"),
    "backslash": ("name has a backslash where servers look for /", "names have a backslash where servers look for /"),
    "folder": ("file lies in the wrong folder", "files lie in the wrong folder"),
    "competition": ("archive holds two competitions; send each in its own",) * 2,
    "suffix": ("file is no .png", "files are no .png"),
    "names": ("file has a name that no test picture has", "files have names that no test picture has"),
    "doubled": ("picture has more than one prediction", "pictures have more than one prediction"),
    "missing": ("picture has no prediction", "pictures have no prediction"),
    "extra": ("file belongs to no picture", "files belong to no picture"),
    "count": ("number of predictions is wrong",) * 2,
    "large": ("file is too large to be a prediction", "files are too large to be predictions"),
    "png": ("file is no PNG, whatever its name says", "files are no PNG, whatever their names say"),
    "damaged": ("PNG is damaged", "PNGs are damaged"),
    "pixels": ("PNG has too many pixels to be a prediction", "PNGs have too many pixels to be predictions"),
    "mode": (
        "PNG holds colours; one channel of ids is wanted",
        "PNGs hold colours; one channel of ids is wanted",
    ),
    "depth": ("PNG does not have 8 bits per pixel", "PNGs do not have 8 bits per pixel"),
    "size": ("prediction has another size than its picture", "predictions have another size than their pictures"),
    "ignored": (
        "prediction holds 255, which is for ignored pixels of the truth; every pixel needs a class",
        "predictions hold 255, which is for ignored pixels of the truth; every pixel needs a class",
    ),
    "values": ("prediction holds values that are no class", "predictions hold values that are no class"),
    "lookalike": ("prediction holds ids of another kind", "predictions hold ids of another kind"),
}
_OF_THE_ARCHIVE = ("unreadable", "archive", "empty", "entries", "total", "competition", "count")


@dataclass(frozen=True)
class Fault:
    """One kind of fault: how often, where first, and the line that says so."""

    kind: str
    count: int
    names: tuple[str, ...]
    line: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"kind": self.kind, "count": self.count, "names": list(self.names), "message": self.line}


@dataclass
class Faults:
    """Collects faults, and tells them in the order in which their kinds stand in the table."""

    _found: dict[str, list[str]] = field(default_factory=dict)
    _details: dict[str, dict[str, str]] = field(default_factory=dict)
    _hints: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, kind: str, name: str, detail: str = "", *, hint: str = "") -> None:
        """One more.

        Args:
            kind: a key of the table of sentences.
            name: the file or picture.
            detail: what was found in it.
            hint: what to do; one per kind.
        """
        if kind not in _SENTENCES:
            raise KeyError(kind)
        self._found.setdefault(kind, []).append(name)
        if detail:
            self._details.setdefault(kind, {}).setdefault(name, detail)
        if hint:
            self._hints[kind] = hint

    def list(self) -> list[Fault]:
        """Every kind that was found."""
        return [self._fault(kind) for kind in _SENTENCES if kind in self._found]

    def _fault(self, kind: str) -> Fault:
        names, details, hint = self._found[kind], self._details.get(kind, {}), self._hints.get(kind, "")
        shown = ", ".join(
            printable(name) + (f" ({printable(details[name])})" if name in details else "") for name in names[:_SHOWN]
        )
        rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        one, several = _SENTENCES[kind]
        if kind in _OF_THE_ARCHIVE:
            said = f"the {one}" + (f": {'; '.join(map(printable, details.values()))}" if details else "")
        else:
            said = f"{len(names)} {one if len(names) == 1 else several}: {shown}{rest}"
        line = said + (f"; {hint}" if hint else "")
        return Fault(kind, len(names), tuple(printable(name) for name in names[:_KEPT]), line)


def printable(name: str) -> str:
    """A name from a stranger's archive, safe for a terminal: no control characters, no endless line."""
    clean = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
    return clean if len(clean) <= _LONGEST_NAME else f"{clean[: _LONGEST_NAME - 3]}..."
