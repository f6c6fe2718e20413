"""check_archive: whether a server will accept an archive of predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from imageseg.errors import InputError
from imageseg.labels import IGNORE, voc_palette
from imageseg.parallel import Progress, in_processes
from imageseg.submission.archive import UNREADABLE, Kind, kind_of, names_in, read_files
from imageseg.submission.faults import Fault, Faults
from imageseg.submission.formats import SubmissionFormat
from imageseg.submission.png import InspectedPng, inspect_png

# Files per job: every job opens the archive and reads its directory.
_CHUNK = 16
_MACOS = "macOS adds its own files: create the zip with 'imageseg submit' or zip -X"


class ExpectedImage(NamedTuple):
    """Test image that needs a prediction."""

    name: str
    """File name without suffix."""
    size: tuple[int, int]
    """Height and width in pixels."""


@dataclass(frozen=True)
class CheckReport:
    """Result of checking an archive.

    Attributes:
        files: Number of files in the archive.
        faults: Reasons why the server would refuse it or score it wrongly; empty for a good archive.
        notes: Remarks that are no faults.
    """

    files: int
    faults: list[Fault]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "good": not self.faults,
            "files": self.files,
            "faults": [fault.to_dict() for fault in self.faults],
            "notes": self.notes,
        }


def check_archive(
    path: str | Path,
    rules: SubmissionFormat,
    *,
    images: Sequence[ExpectedImage] | None = None,
    competition: str = "",
    workers: int | None = None,
    progress: Progress | None = None,
) -> CheckReport:
    """Check an archive against the rules of a server, without unpacking it.

    Args:
        path: Path of the archive.
        rules: Rules of the server.
        images: Images of the split. If not set, names and number are checked against the official ones.
        competition: Competition that the archive is for (default: any).
        workers: Number of processes for a zip (default: one per CPU core).
        progress: Callback with the number of finished files and the number of all files.

    Raises:
        InputError: The file or the competition does not exist.
    """
    rules.require_competition(competition)
    path, faults, notes = Path(path), Faults(), [rules.caveat] if rules.caveat else []
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder, not an archive' if path.is_dir() else 'no such file'}")
    kind = kind_of(path)
    names: list[str] = []
    if kind is None:
        faults.add("unreadable", path.name, f"it is neither a zip nor a tar.gz; the server expects a {rules.archive}")
        return CheckReport(0, faults.list(), notes)
    if kind != rules.archive:
        faults.add("archive", path.name, f"it is a {kind}, and the server expects a {rules.archive}")
    try:
        names = names_in(path, kind)
        if not names:
            faults.add("empty", path.name)
        stems = _check_places(names, rules, competition, faults)
        stems = _check_names(names, stems, rules, images, faults)
        sizes = {rules.key_of(image.name): image.size for image in images or ()}
        jobs = {index: sizes.get(rules.key_of(stem), rules.size) for index, stem in stems.items()}
        inspected = _inspected(path, kind, jobs, workers, progress)
        _check_contents(((names[index], png) for index, png in inspected), rules, faults, notes)
    except UNREADABLE as error:
        if isinstance(error, InputError):
            raise
        faults.add("unreadable", path.name, " ".join(str(error).split()) or type(error).__name__)
    return CheckReport(len(names), faults.list(), notes)


def _check_places(names: Sequence[str], rules: SubmissionFormat, competition: str, faults: Faults) -> dict[int, str]:
    """Add faults of folder and suffix; return index -> name without suffix of the PNG files."""
    stems, used = {}, set()
    folders = {name: rules.folder_for(name) for name in ([competition] if competition else rules.competitions or [""])}
    for index, name in enumerate(names):
        path = PurePosixPath(name)
        if path.suffix != ".png":  # servers accept no other spelling
            faults.add("suffix", name)
        elif path.name.startswith("._") or "__MACOSX" in path.parts:
            faults.add("extra", name, hint=_MACOS)
        else:
            stems[index] = path.stem
            folder = "" if str(path.parent) == "." else f"{path.parent}/"
            matching = [name for name, wanted in folders.items() if wanted == folder]
            used.update(matching)
            if not matching and not rules.any_folder:
                faults.add("folder", name, hint=f"the server expects {' or '.join(folders.values())}")
    if len(used) > 1:
        faults.add("competition", names[0], ", ".join(sorted(used)))
    return stems


def _check_names(
    names: Sequence[str],
    stems: Mapping[int, str],
    rules: SubmissionFormat,
    images: Sequence[ExpectedImage] | None,
    faults: Faults,
) -> dict[int, str]:
    """Add faults of name and number; return the files whose content is to be checked."""
    by_key: dict[str, list[str]] = {}
    for index, stem in stems.items():
        by_key.setdefault(rules.key_of(stem), []).append(names[index])
    for key, same in by_key.items():
        if len(same) > 1:
            faults.add("doubled", key, f"{same[0]} and {same[1]}")
    if images is None:
        for index, stem in stems.items():
            if not rules.is_official(stem):
                faults.add("names", names[index])
        if rules.count is not None and names and len(by_key) != rules.count:
            faults.add("count", "", f"{len(by_key)} images, and the test split has {rules.count}")
        return dict(stems)
    wanted = {rules.key_of(image.name): image.name for image in images}
    for index, stem in stems.items():
        if rules.key_of(stem) not in wanted:
            faults.add("extra", names[index])
    for key, name in wanted.items():
        if key not in by_key and names:
            faults.add("missing", name)
    return {index: stem for index, stem in stems.items() if rules.key_of(stem) in wanted}


_Sizes = Mapping[int, tuple[int, int] | None]


def _inspected(
    path: Path, kind: Kind, sizes: _Sizes, workers: int | None, progress: Progress | None
) -> Iterator[tuple[int, InspectedPng]]:
    """Inspect the files of a zip in several processes, those of a tar.gz in one stream."""
    items = list(sizes.items())
    inspect = partial(_inspect_files, path, kind)
    if kind == "zip":
        chunks = [dict(items[start : start + _CHUNK]) for start in range(0, len(items), _CHUNK)]
        found = in_processes(inspect, chunks, workers=workers)
    else:
        found = iter([inspect(sizes)])
    done = 0
    for some in found:
        for result in some:
            done += 1
            if progress is not None:
                progress(done, len(items))
            yield result


def _inspect_files(path: Path, kind: Kind, sizes: _Sizes) -> list[tuple[int, InspectedPng]]:
    return [
        (index, InspectedPng("damaged") if data is None else inspect_png(data, sizes[index]))
        for index, data in read_files(path, kind, sizes.keys())
    ]


def _check_contents(
    results: Iterable[tuple[str, InspectedPng]], rules: SubmissionFormat, faults: Faults, notes: list[str]
) -> None:
    unscored: set[int] = set()
    never_scored, other_palettes = 0, 0
    colors = voc_palette()[:21].tobytes()
    for name, found in results:
        if found.fault:
            faults.add(found.fault, name, found.detail)
            continue
        check_values(found.values, name, rules, faults)
        present = set(found.values) & rules.unscored
        unscored |= present
        never_scored += bool(present)
        other_palettes += rules.mode == "P" and bool(found.palette) and found.palette[: len(colors)] != colors
    if never_scored:
        ids = ", ".join(map(str, sorted(unscored)))
        notes.append(f"{never_scored} predictions contain ids that are allowed but never score: {ids}")
    if other_palettes:
        notes.append(
            f"{other_palettes} palettes are not the development kit's. Servers read the indices, which a program that "
            "created its own palette may have renumbered"
        )


def notes_on(images: Sequence[ExpectedImage], rules: SubmissionFormat, *, split: str) -> list[str]:
    """Describe how the given images differ from those that the server scores."""
    if split != "test":
        return [f"the server scores the test split, and this is {split}"]
    notes = []
    if rules.count is not None and len(images) != rules.count:
        notes.append(f"the server scores {rules.count} images, and there are {len(images)} here")
    others = [image for image in images if image.size != rules.size]
    if others and rules.size is not None:
        (height, width), first = rules.size, others[0]
        notes.append(
            f"the server's images have {width} x {height} pixels, but {len(others)} of these have another size "
            f"({first.name}: {first.size[1]} x {first.size[0]})"
        )
    unofficial = [image.name for image in images if not rules.is_official(image.name)]
    if unofficial:
        notes.append(f"{len(unofficial)} images are not named as the server's are ({unofficial[0]})")
    return notes


def check_values(values: Iterable[int], name: str, rules: SubmissionFormat, faults: Faults) -> None:
    """Add faults for values that a server would refuse or score as something else.

    Args:
        values: Values that occur in a prediction.
        name: Name of its file.
        rules: Rules of the server.
        faults: Collector that the faults are added to.
    """
    present = set(values)
    others = present - {IGNORE} - rules.values
    if IGNORE in present:
        faults.add("ignored", name)
    for lookalike in rules.lookalikes:
        if others and present - {IGNORE} <= lookalike.values:
            faults.add("lookalike", name, hint=lookalike.hint)
            return
    if wrong := sorted(others - rules.unscored):
        faults.add("values", name, listed(wrong))


def listed(values: Sequence[int]) -> str:
    """List up to five values."""
    return ", ".join(map(str, values[:5])) + (" and more" if len(values) > 5 else "")
