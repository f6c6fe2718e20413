"""train.txt, val.txt, test.txt: a user's own lists of pictures and masks, a pair a line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from imageseg.datasets.base import listing_of
from imageseg.datasets.pairs import Listing, Pair
from imageseg.errors import InputError

_SPLITS = ("train", "val", "test")
_PLACES = ("", "lists", "splits")
_EXAMPLE = "'images/a.jpg masks/a.png'"


def find_lists(root: Path) -> dict[str, Path]:
    """Split -> its list, in ``root`` or in ``lists`` or ``splits`` below it."""
    paths = {split: [root / place / f"{split}.txt" for place in _PLACES] for split in _SPLITS}
    return {split: found[0] for split, tried in paths.items() if (found := [path for path in tried if path.is_file()])}


def read_list(path: Path, root: Path) -> Listing:
    """The pairs in a list, in its order.

    A line is a picture and its mask, separated by a tab, a comma or blanks, or a picture alone, in every line alike: then
    nobody knows the truth. Paths are relative to ``root`` or to the list, or absolute. Lines that start with ``#`` do not
    count.

    Raises:
        InputError: no line, a line of another form, or a picture twice; names the line.
    """
    lines = _lines(path, root)
    names = _names([line.image for line in lines], root)
    return listing_of(Pair(line.image, line.mask, name) for line, name in zip(lines, names, strict=True))


def has_masks(path: Path) -> bool:
    """Whether a list has two columns; False where it cannot be read."""
    try:
        return any(len(columns) == 2 for _, columns in _columns(path))
    except InputError:
        return False


class _Line(NamedTuple):
    image: Path
    mask: Path | None


def _lines(path: Path, root: Path) -> list[_Line]:
    found: list[_Line] = []
    seen: dict[Path, int] = {}
    first: tuple[int, int] | None = None
    for number, columns in _columns(path):
        first = first or (number, len(columns))
        if len(columns) != first[1]:
            raise InputError(
                f"{path} line {number}: {_what(len(columns))}, line {first[0]} has {_what(first[1])}; give all lines a mask, "
                f"as in {_EXAMPLE}, or none"
            )
        image, *masks = (_resolved(column, path, root) for column in columns)
        if not image.suffix and not image.exists():
            raise InputError(
                f"{path} line {number}: '{columns[0]}' is no file below {root}; a line is the path of a picture and that of its "
                f"mask, as in {_EXAMPLE}"
            )
        if image in seen:
            raise InputError(f"{path} line {number}: repeats line {seen[image]}, {columns[0]}; delete one of them")
        seen[image] = number
        found.append(_Line(image, masks[0] if masks else None))
    if not found:
        raise InputError(f"{path}: the list is empty; a line is a picture and its mask, as in {_EXAMPLE}")
    return found


def _columns(path: Path) -> list[tuple[int, list[str]]]:
    """Line number -> its one or two columns, for the lines that count."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text; save the list as UTF-8") from error
    rows: list[tuple[int, list[str]]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        separator = "\t" if "\t" in line else "," if "," in line else None
        columns = [column.strip() for column in line.strip().split(separator)]
        if len(columns) > 2 or not all(columns):
            hint = "; put a tab or a comma between the two where names have blanks" if separator is None else ""
            raise InputError(
                f"{path} line {number}: has {len(columns)} columns; a line is a picture and its mask, as in {_EXAMPLE}{hint}"
            )
        rows.append((number, columns))
    return rows


def _resolved(text: str, path: Path, root: Path) -> Path:
    given = Path(text.replace("\\", "/"))  # a list from Windows
    if given.is_absolute() or (root / given).exists() or not (path.parent / given).exists():
        return root / given
    return path.parent / given


def _names(images: list[Path], root: Path) -> list[str]:
    """The files' stems; where two are the same, the paths below ``root``, for a prediction's file can bear but one."""
    stems = Counter(image.stem for image in images)
    names, taken = [], set[str]()
    for image in images:
        below = (image.relative_to(root) if image.is_relative_to(root) else image).with_suffix("")
        name = image.stem if stems[image.stem] == 1 else "_".join(below.parts).lstrip("/_")
        while name in taken:
            name += "_"
        taken.add(name)
        names.append(name)
    return names


def _what(columns: int) -> str:
    return "a picture and a mask" if columns == 2 else "a picture alone"
