"""check_archive: whether a server will accept an archive of predictions."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from PIL import Image

from imageseg.errors import InputError
from imageseg.images import image_size
from imageseg.labels import IGNORE
from imageseg.parallel import Progress
from imageseg.submission.archive import UNREADABLE, kind_of, read_files
from imageseg.submission.faults import Defect, Fault, by_kind
from imageseg.submission.formats import SubmissionFormat

_COLOR_TYPES = {2: "RGB", 4: "gray with alpha", 6: "RGB with alpha"}


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
        return {"good": not self.faults, **asdict(self)}


def expected_images(paths: Iterable[Path]) -> list[ExpectedImage]:
    """Read the headers of test images.

    Raises:
        InputError: An image cannot be read.
    """
    return [ExpectedImage(path.stem, image_size(path)) for path in paths]


def check_archive(
    path: str | Path,
    rules: SubmissionFormat,
    *,
    images: Sequence[ExpectedImage] | None = None,
    competition: str = "",
    progress: Progress | None = None,
) -> CheckReport:
    """Check an archive against the rules of a server, without unpacking it.

    Args:
        path: Path of the archive.
        rules: Rules of the server.
        images: Images of the split. If not set, names and number are checked against the official ones.
        competition: Competition that the archive is for (default: any).
        progress: Callback with the number of finished files and the number of all files.

    Raises:
        InputError: The file or the competition does not exist.
    """
    rules.require_competition(competition)
    path, notes = Path(path), [rules.caveat] if rules.caveat else []
    defects: list[Defect] = []
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder, not an archive' if path.is_dir() else 'no such file'}")
    kind = kind_of(path)
    if kind is None:
        detail = f"it is neither a zip nor a tar.gz; the server expects a {rules.archive}"
        return CheckReport(0, by_kind([Defect("unreadable", path.name, detail)]), notes)
    if kind != rules.archive:
        defects.append(Defect("archive", path.name, f"it is a {kind}, and the server expects a {rules.archive}"))
    sizes = {rules.key_of(image.name): image.size for image in images or ()}
    files: list[tuple[str, list[int] | Defect]] = []
    try:
        for name, data in read_files(path, kind):
            size = sizes.get(rules.key_of(PurePosixPath(name).stem), rules.size)
            files.append((name, inspect_png(name, data, size)))
            if progress is not None:
                progress(len(files), max(len(files), len(sizes) or rules.count or 0))
    except UNREADABLE as error:
        defects.append(Defect("unreadable", path.name, " ".join(str(error).split()) or type(error).__name__))
        return CheckReport(len(files), by_kind(defects), notes)
    if files:
        pngs = [file for file in files if _is_png(file[0], defects)]
        names = [name for name, _ in pngs]
        _check_folders(names, rules, competition, defects)
        matched = match_names(names, rules, images, defects)
        _check_contents([pngs[index] for same in matched.values() for index in same], rules, defects, notes)
    else:
        defects.append(Defect("empty", path.name))
    return CheckReport(len(files), by_kind(defects), notes)


def match_names(
    names: Sequence[str], rules: SubmissionFormat, images: Sequence[ExpectedImage] | None, defects: list[Defect]
) -> dict[str, list[int]]:
    """Assign files to images as the server does, and add faults of names and number.

    Args:
        names: Paths of PNGs in an archive or folder.
        rules: Rules of the server.
        images: Images of the split. If not set, names and number are compared with the official ones.
        defects: List that defects are appended to.

    Returns:
        Part of the name that the server compares -> indices into ``names``; one index each if there is no fault.
    """
    matched: dict[str, list[int]] = {}
    wanted = {rules.key_of(image.name): image.name for image in images or ()}
    for index, name in enumerate(names):
        stem = PurePosixPath(name).stem
        key = rules.key_of(stem)
        if images is not None and key not in wanted:
            defects.append(Defect("extra", name))
            continue
        if images is None and not rules.is_official(stem):
            defects.append(Defect("names", name))
        matched.setdefault(key, []).append(index)
    for key, same in matched.items():
        if len(same) > 1:
            defects.append(Defect("doubled", key, f"{names[same[0]]} and {names[same[1]]}"))
    for key, name in wanted.items():
        if key not in matched:
            defects.append(Defect("missing", name))
    if images is None and rules.count not in (None, len(matched)):
        defects.append(Defect("count", "", f"{len(matched)} images, and the test split has {rules.count}"))
    return matched


def _is_png(name: str, defects: list[Defect]) -> bool:
    """Whether a file is a PNG by its name, with a fault if it is not."""
    path = PurePosixPath(name)
    if path.suffix != ".png":  # servers accept no other spelling
        defects.append(Defect("suffix", name))
        return False
    if path.name.startswith("._") or "__MACOSX" in path.parts:
        defects.append(
            Defect("extra", name, hint="macOS adds its own files: create the zip with 'imageseg submit' or zip -X")
        )
        return False
    return True


def _check_folders(names: Sequence[str], rules: SubmissionFormat, competition: str, defects: list[Defect]) -> None:
    competitions = [competition] if competition else rules.competitions
    folders = {rules.folder.format(competition=each): each for each in competitions}
    used = set()
    for name in names:
        folder = f"{PurePosixPath(name).parent}/"
        if folder in folders:
            used.add(folders[folder])
        elif folders:
            defects.append(Defect("folder", name, hint=f"the server expects {' or '.join(folders)}"))
    if len(used) > 1:
        defects.append(Defect("competition", names[0], ", ".join(sorted(used))))


def _check_contents(
    files: Iterable[tuple[str, list[int] | Defect]], rules: SubmissionFormat, defects: list[Defect], notes: list[str]
) -> None:
    """Add faults for files and values that a server would refuse or score as something else, and notes about others."""
    unscored: list[set[int]] = []
    for name, found in files:
        if isinstance(found, Defect):
            defects.append(found)
            continue
        if IGNORE in found:
            defects.append(Defect("ignored", name))
        present = set(found) - {IGNORE}
        others = present - rules.values
        if others and present <= rules.lookalike:
            defects.append(Defect("lookalike", name, hint=rules.lookalike_hint))
        elif wrong := sorted(others - rules.unscored):
            defects.append(Defect("values", name, listed(wrong)))
        if present & rules.unscored:
            unscored.append(present & rules.unscored)
    if unscored:
        ids = ", ".join(map(str, sorted(set.union(*unscored))))
        notes.append(f"{len(unscored)} predictions contain ids that are allowed but never score: {ids}")


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


def inspect_png(name: str, data: bytes | None, size: tuple[int, int] | None) -> list[int] | Defect:
    """Return the pixel values that occur in a prediction, ascending, or what is wrong with the file.

    Args:
        name: Name of the file.
        data: Content of the file, or None if the archive is damaged there.
        size: Expected (height, width), or None if unknown.
    """
    if data is None:
        return Defect("damaged", name)
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return Defect("png", name, "" if data else "empty")
    try:
        width, height, depth, color = struct.unpack(">IIBB", data[16:26])
        if color in _COLOR_TYPES:
            return Defect("mode", name, _COLOR_TYPES[color])
        if depth != 8:
            return Defect("depth", name, f"{depth} bit{'s' * (depth > 1)}")
        if size is not None and (height, width) != size:
            return Defect("size", name, compared((height, width), size))
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            image.verify()  # checksums, which decoding ignores
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            return [value for value, count in enumerate(image.histogram()) if count]
    except (*UNREADABLE, SyntaxError, Image.DecompressionBombError) as error:
        return Defect("damaged", name, " ".join(str(error).split()))


def compared(found: tuple[int, ...], wanted: tuple[int, int]) -> str:
    """Describe two different sizes, each (height, width)."""
    return f"{found[1]} x {found[0]} instead of {wanted[1]} x {wanted[0]}"


def listed(values: Sequence[int]) -> str:
    """List up to five values."""
    return ", ".join(map(str, values[:5])) + (" and more" if len(values) > 5 else "")
