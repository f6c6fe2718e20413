"""check_pack: whether a server will take an archive of predictions, whoever made it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, cast

from imageseg.errors import InputError
from imageseg.labels import IGNORE, voc_palette
from imageseg.parallel import Progress, in_processes
from imageseg.submission.archive import ArchiveError, Entry, Kind, contents_of, entries_of, kind_of
from imageseg.submission.faults import Fault, Faults
from imageseg.submission.formats import SubmissionFormat
from imageseg.submission.png import Examined, examined

_SMALLEST_CHUNK = 16
_CHUNKS = 64
_MACOS = "macOS adds files of its own: make the zip by command (zip -X) or by 'imageseg submit'"


class Picture(NamedTuple):
    """A picture that a prediction is wanted of."""

    name: str
    """Its file's name without suffix."""
    size: tuple[int, int]
    """Height and width."""


@dataclass(frozen=True)
class Report:
    """What was found in a pack.

    Attributes:
        files: how many files it holds.
        faults: why the server would refuse it or score it as nonsense; empty for a good one.
        notes: what is not wrong, and worth knowing.
    """

    files: int
    faults: list[Fault]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "good": not self.faults,
            "files": self.files,
            "faults": [fault.to_dict() for fault in self.faults],
            "notes": self.notes,
        }


def check_pack(
    path: str | Path,
    rules: SubmissionFormat,
    *,
    pictures: Sequence[Picture] | None = None,
    competition: str = "",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Checks an archive against a server's rules, without unpacking it.

    Args:
        path: the archive.
        rules: of the server.
        pictures: of the split; unset, names are held against the official pattern and number instead.
        competition: the one that it should be for; unset, any.
        workers: processes for a zip; unset, one per processor.
        progress: called with (files done, files in all).

    Raises:
        InputError: no such file, or no such competition.
    """
    rules.require_competition(competition)
    path, faults, notes = Path(path), Faults(), [rules.caveat] if rules.caveat else []
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder, not an archive' if path.is_dir() else 'no such file'}")
    kind = kind_of(path)
    if kind not in ("zip", "tar.gz"):
        faults.add("unreadable", path.name, f"it is {kind}; the server wants a {rules.archive}")
        return Report(0, faults.list(), notes)
    if kind != rules.archive:
        faults.add("archive", path.name, f"it is a {kind}, and the server wants a {rules.archive}")
    try:
        entries = entries_of(path, cast("Kind", kind))
        if not entries:
            faults.add("empty", path.name)
            return Report(0, faults.list(), notes)
        placed = _placed(entries, rules, competition, faults)
        chosen = _chosen(placed, rules, pictures, faults)
        sizes = {rules.key_of(picture.name): picture.size for picture in pictures or ()}
        _check_contents(
            _examined(path, cast("Kind", kind), chosen, rules, sizes, workers, progress), rules, faults, notes
        )
    except ArchiveError as error:
        faults.add(error.fault, path.name, str(error))
        return Report(0, faults.list(), notes)
    return Report(len(entries), faults.list(), notes)


def _placed(entries: list[Entry], rules: SubmissionFormat, competition: str, faults: Faults) -> list[Entry]:
    """The entries that are plain PNG files, faults of place and kind noted; a wrong folder does not stop the rest."""
    kept, used = [], set()
    folders = {name: rules.folder_for(name) for name in ([competition] if competition else rules.competitions or [""])}
    for entry in entries:
        path = PurePosixPath(entry.name)
        if entry.fault:
            # It still stands for its picture, which is not missing as well.
            faults.add(entry.fault, entry.name, f"{entry.size / 1e6:.0f} MB" if entry.fault == "large" else "")
        if path.is_absolute() or ".." in path.parts:
            faults.add("outside", entry.name)
        elif "\\" in entry.name:
            faults.add("backslash", entry.name)
        elif path.suffix != ".png":  # servers know one spelling
            faults.add("suffix", entry.name)
        elif path.name.startswith("._") or "__MACOSX" in path.parts:
            faults.add("extra", entry.name, hint=_MACOS)
        else:
            kept.append(entry)
            folder = "" if str(path.parent) == "." else f"{path.parent}/"
            matching = [name for name, wanted in folders.items() if wanted == folder]
            used.update(matching)
            if not matching and not rules.any_folder:
                wanted = " or ".join(folders.values())
                faults.add("folder", entry.name, hint=f"the server looks in {wanted}")
    if len(used) > 1:
        faults.add("competition", entries[0].name, ", ".join(sorted(used)))
    return kept


def _chosen(
    entries: list[Entry], rules: SubmissionFormat, pictures: Sequence[Picture] | None, faults: Faults
) -> list[Entry]:
    """The entries that stand for pictures, faults of name and number noted."""
    keys = {entry.place: rules.key_of(PurePosixPath(entry.name).stem) for entry in entries}
    names: dict[str, list[str]] = {}
    for entry in entries:
        names.setdefault(keys[entry.place], []).append(entry.name)
    for key, of_one in names.items():
        if len(of_one) > 1:
            faults.add("doubled", key, f"{of_one[0]} and {of_one[1]}")
    if pictures is not None:
        wanted = {rules.key_of(picture.name): picture.name for picture in pictures}
        for entry in entries:
            if keys[entry.place] not in wanted:
                faults.add("extra", entry.name)
        for key, name in wanted.items():
            if key not in names:
                faults.add("missing", name)
        return [entry for entry in entries if keys[entry.place] in wanted]
    for entry in entries:
        if not rules.is_official(PurePosixPath(entry.name).stem):
            faults.add("names", entry.name)
    if rules.count is not None and len(names) != rules.count:
        faults.add("count", str(len(names)), f"{len(names)} pictures, and the test split has {rules.count}")
    return entries


def _examined(
    path: Path,
    kind: Kind,
    entries: list[Entry],
    rules: SubmissionFormat,
    sizes: Mapping[str, tuple[int, int]],
    workers: int | None,
    progress: Progress | None,
) -> Iterator[tuple[str, Examined]]:
    """Every readable entry's name and what its pixels say, a zip by several processes, a tar in one stream."""
    jobs = {
        entry.place: (entry.name, sizes.get(rules.key_of(PurePosixPath(entry.name).stem), rules.size))
        for entry in entries
        if not entry.fault
    }
    items = list(jobs.items())
    found: Iterable[tuple[int, Examined]]
    if kind == "zip":
        size = max(_SMALLEST_CHUNK, len(items) // _CHUNKS)  # each opens the archive and reads its directory
        chunks = [dict(items[start : start + size]) for start in range(0, len(items), size)]
        found = (
            pair for some in in_processes(partial(_examine_some, path, kind), chunks, workers=workers) for pair in some
        )
    else:
        found = _examine_each(path, kind, jobs)
    for done, (index, result) in enumerate(found, start=1):
        if progress is not None:
            progress(done, len(jobs))
        yield jobs[index][0], result


def _examine_some(
    path: Path, kind: Kind, jobs: Mapping[int, tuple[str, tuple[int, int] | None]]
) -> list[tuple[int, Examined]]:
    return list(_examine_each(path, kind, jobs))


def _examine_each(
    path: Path, kind: Kind, jobs: Mapping[int, tuple[str, tuple[int, int] | None]]
) -> Iterator[tuple[int, Examined]]:
    for index, data in contents_of(path, kind, list(jobs)):
        yield index, Examined("damaged", "the archive's checksum") if data is None else examined(data, jobs[index][1])


def _check_contents(
    results: Iterable[tuple[str, Examined]], rules: SubmissionFormat, faults: Faults, notes: list[str]
) -> None:
    unscored: set[int] = set()
    never_scored, foreign = [], []
    colors = voc_palette()[:21].tobytes()
    for name, found in results:
        if found.fault:
            faults.add(found.fault, name, found.detail)
            continue
        check_values(found.values, name, rules, faults)
        if set(found.values) & rules.unscored:
            unscored |= set(found.values) & rules.unscored
            never_scored.append(name)
        if rules.mode == "P" and found.palette and found.palette[: len(colors)] != colors:
            foreign.append(name)
    if never_scored:
        ids = ", ".join(map(str, sorted(unscored)))
        notes.append(f"{len(never_scored)} predictions hold ids that are allowed and never score: {ids}")
    if foreign:
        notes.append(
            f"{len(foreign)} palettes are not the development kit's; servers read the indices, which a program that made "
            "the palette itself may have numbered anew"
        )


def notes_on(pictures: Sequence[Picture], rules: SubmissionFormat, *, split: str) -> list[str]:
    """How the pictures at hand differ from those that the server scores, in lines for the user."""
    if split != "test":
        return [f"the server scores the test split, and this is {split}"]
    notes = []
    if rules.count is not None and len(pictures) != rules.count:
        notes.append(f"the server scores {rules.count} pictures, and there are {len(pictures)} here")
    others = [picture for picture in pictures if picture.size != rules.size]
    if others and rules.size is not None:
        (height, width), first = rules.size, others[0]
        notes.append(
            f"the server's pictures have {width} x {height} pixels, and {len(others)} here have not "
            f"({first.name}: {first.size[1]} x {first.size[0]})"
        )
    strangers = [picture.name for picture in pictures if not rules.is_official(picture.name)]
    if strangers:
        notes.append(f"{len(strangers)} pictures are not named as the server's are ({strangers[0]})")
    return notes


def check_values(values: Iterable[int], name: str, rules: SubmissionFormat, faults: Faults) -> None:
    """Notes what a server would not take, or would score as something else.

    Args:
        values: that occur in a prediction.
        name: of its file.
        rules: of the server.
        faults: where to note it.
    """
    present = set(values)
    others = present - {IGNORE} - rules.values
    if IGNORE in present:
        faults.add("ignored", name)
    for lookalike in rules.lookalikes:
        if others and present - {IGNORE} <= lookalike.values:
            faults.add("lookalike", name, hint=lookalike.hint)
            return
    wrong = sorted(others - rules.unscored)
    if wrong:
        shown = ", ".join(map(str, wrong[:5])) + (" and more" if len(wrong) > 5 else "")
        faults.add("values", name, shown)
