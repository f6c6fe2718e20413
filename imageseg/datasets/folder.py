"""Folder: anyone's own pictures, in the plainest layout there is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from imageseg.datasets.base import (
    SegmentationDataset,
    find_folder,
    in_usual_order,
    listing_by_stem,
    listing_of,
    require_split,
)
from imageseg.datasets.pairs import Listing, Pair
from imageseg.errors import InputError, command
from imageseg.images import is_image
from imageseg.labels import LabelSpace
from imageseg.recipe import read_yaml

_TABLE = "labels: [{name: road, color: [128, 64, 128], values: [0]}, ...]"
_EXPECTED = "images/train and images/val with masks of the same names in masks/train and masks/val, or lists train.txt and val.txt"

_SPLITS = ("train", "val", "test")
_PLACES = ("", "lists", "splits")
_EXAMPLE = "'images/a.jpg masks/a.png'"

_MASKS_ELSEWHERE = ("annotations", "annotation", "annot", "labels", "label", "mask")


class Folder(SegmentationDataset):
    """Pictures in ``images/<split>``, masks of the same names in ``masks/<split>``, the label table in ``labels.yaml``.

    Or lists: ``train.txt``, ``val.txt``, ``test.txt`` (beside ``labels.yaml``, or in ``lists`` or ``splits``) with the path of a
    picture and that of its mask in each line. Where a list is there, lists alone say what the splits are. Pictures of
    ``test`` may do without masks; they can be predicted, not scored.

    Masks are class ids (PNG with one channel of 8 or 16 bits, or a palette) or exact RGB colours of the label table.

    Args:
        root: the folder that holds all of it.
    """

    def __init__(self, root: str = "data/custom") -> None:
        self.root = Path(root)

    @property
    def labels(self) -> LabelSpace:  # type: ignore[override]
        """The table in ``labels.yaml``."""
        self._require_root()
        self._refuse_other_suffix()
        path = self.root / "labels.yaml"
        if not path.is_file():
            propose = command("check", "Folder", "--root", self.root, "--fix-config", path)
            raise InputError(f"{path}: no label table; {propose} proposes one from the masks, or write '{_TABLE}'")
        return LabelSpace.from_dict(read_yaml(path), path)

    @property
    def scored_split(self) -> str:  # type: ignore[override]
        """The test split where there is one with masks."""
        lists = find_lists(self.root)
        if lists:
            return "test" if "test" in lists and has_masks(lists["test"]) else "val"
        return "test" if "test" in self.splits and find_folder(self.root, ["masks/test"]) else "val"

    @property
    def splits(self) -> tuple[str, ...]:
        """The lists that are there, else the folders in ``images``."""
        self._require_root()
        lists = find_lists(self.root)
        if lists:
            return in_usual_order(lists)
        images = self._images()
        folders = [path.name for path in images.iterdir() if path.is_dir() and not path.name.startswith(".")]
        pictures = sum(map(is_image, images.iterdir()))
        if not folders and pictures:
            raise InputError(
                f"{images}: holds {pictures} picture{'' if pictures == 1 else 's'} but no folders train and val; sort "
                "them, and their masks, into "
                f"images/train, images/val, masks/train, masks/val, or name them in {self.root / 'train.txt'} and val.txt"
            )
        return in_usual_order(folders)

    def listing(self, split: str) -> Listing:
        """The pictures and masks of one name, sorted, or in the order of the split's list."""
        require_split(split, self.splits, str(self.root))
        lists = find_lists(self.root)
        if lists:
            return read_list(lists[split], self.root)
        images = self._images() / split
        masks = find_folder(self.root, [f"masks/{split}"])
        if masks is not None:
            return listing_by_stem(images, masks)
        if split != "test":
            raise InputError(
                f"{self.root / 'masks' / split}: no such folder; the masks of the pictures in {images} belong there, under "
                f"the pictures' names{self._misnamed(split)}"
            )
        # Each picture as its own mask for a moment: two of one name, or none at all, are the same errors.
        return Listing([pair._replace(mask=None) for pair in listing_by_stem(images, images).pairs], [], [])

    def pairs(self, split: str) -> list[Pair]:
        """As the base class; says so where no mask at all has the name of a picture.

        Raises:
            InputError: no such split, or a file without its partner.
        """
        listing = self.listing(split)
        if not listing.pairs and listing.without_mask and listing.without_image:
            image, mask = listing.without_mask[0].image, listing.without_image[0].mask
            assert mask is not None
            raise InputError(
                f"{self.root} {split}: no mask has the name of a picture: there are pictures like {image.name} and masks like "
                f"{mask.name}; name the masks as the pictures, or write both into {self.root / split}.txt, a pair a line"
            )
        return super().pairs(split)

    def _require_root(self) -> None:
        if not self.root.is_dir():
            raise InputError(
                f"{self.root} does not exist; Folder wants {_EXPECTED}, and labels.yaml; pass --data.root for another place"
            )

    def _misnamed(self, split: str) -> str:
        """The folder of the masks, where it has another usual name."""
        if find_folder(self.root, ["masks"]) is not None:
            return ""
        other = find_folder(self.root, [f"{name}/{split}" for name in _MASKS_ELSEWHERE])
        return f"; {other.parent} has annotations: rename it to masks" if other else ""

    def _refuse_other_suffix(self) -> None:
        other = self.root / "labels.yml"
        if other.is_file() and not other.with_suffix(".yaml").is_file():
            raise InputError(f"{other}: is there; name it labels.yaml")

    def _images(self) -> Path:
        images = find_folder(self.root, ["images"])
        if images is None:
            names = sorted(path.name for path in self.root.iterdir())
            found = f"it holds {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}" if names else "it is empty"
            raise InputError(f"{self.root} has no folder images and no lists ({found}); Folder wants {_EXPECTED}")
        return images


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
