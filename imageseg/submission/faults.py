"""Faults of a submission, collected by kind and reported in one line per kind with the first names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from imageseg.errors import InputError

_SHOWN = 3
_KEPT = 20

# Kind -> sentence, in the order of the report. Sentences about single files begin with their number.
SENTENCES = {
    "unreadable": "the archive cannot be read",
    "archive": "the archive is of the wrong kind",
    "empty": "the archive contains no file",
    "folder": "{n} file{s} {are} in the wrong folder",
    "competition": "the archive contains two competitions; submit each in a separate archive",
    "suffix": "{n} file{s} {are} no .png",
    "names": "{n} file{s} {have} a name that no test image has",
    "doubled": "{n} image{s} {have} more than one prediction",
    "missing": "{n} image{s} {have} no prediction",
    "extra": "{n} file{s} belong{v} to no image",
    "count": "the number of predictions is wrong",
    "png": "{n} file{s} {are} no PNG, despite {its} name{s}",
    "damaged": "{n} PNG{s} {are} damaged",
    "mode": "{n} PNG{s} contain{v} colors; one channel of ids is required",
    "depth": "{n} PNG{s} {do} not have 8 bits per pixel",
    "size": "{n} prediction{s} {have} another size than {its} image{s}",
    "ignored": "{n} prediction{s} contain{v} 255, which marks ignored pixels of the ground truth; every pixel needs a class",
    "values": "{n} prediction{s} contain{v} values that are no class",
    "lookalike": "{n} prediction{s} contain{v} ids of another kind",
}
_ONE = {"s": "", "v": "s", "are": "is", "have": "has", "do": "does", "its": "its"}
_SEVERAL = {"s": "s", "v": "", "are": "are", "have": "have", "do": "do", "its": "their"}


class Defect(NamedTuple):
    """What is wrong with one file or image, or with the archive."""

    kind: str
    """Key of ``SENTENCES``."""
    name: str
    detail: str = ""
    """What was found in the file."""
    hint: str = ""
    """What to do; reported once per kind."""


@dataclass(frozen=True)
class Fault:
    """All defects of one kind: how many files have it, the first names, and the line that reports it."""

    kind: str
    count: int
    names: tuple[str, ...]
    message: str


def by_kind(defects: Iterable[Defect]) -> list[Fault]:
    """Collect defects in one fault per kind, in the order of ``SENTENCES``; a file counts once per kind."""
    found: dict[str, dict[str, Defect]] = {kind: {} for kind in SENTENCES}
    for defect in defects:
        found[defect.kind].setdefault(_printable(defect.name), defect)
    return [_fault(kind, by_name) for kind, by_name in found.items() if by_name]


def defects_error(defects: Iterable[Defect], source: Path | str) -> InputError:
    """Return an error that reports all defects of a source in one line."""
    return InputError(f"{source}: {'; '.join(fault.message for fault in by_kind(defects))}")


def _fault(kind: str, by_name: Mapping[str, Defect]) -> Fault:
    count = len(by_name)
    message = SENTENCES[kind].format(n=count, **(_ONE if count == 1 else _SEVERAL))
    details = {name: _printable(defect.detail) for name, defect in by_name.items()}
    if SENTENCES[kind].startswith("{n}"):
        shown = [name + (f" ({detail})" if detail else "") for name, detail in details.items()][:_SHOWN]
        message += f": {', '.join(shown)}" + (f" and {count - _SHOWN} more" if count > _SHOWN else "")
    elif any(details.values()):
        message += f": {'; '.join(filter(None, details.values()))}"
    hint = next((defect.hint for defect in by_name.values() if defect.hint), "")
    return Fault(kind, count, tuple(by_name)[:_KEPT], message + (f"; {hint}" if hint else ""))


def _printable(text: str) -> str:
    """Replace control characters, so that a file name cannot break the line."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
