"""Folder: custom images and masks in the simplest layout, or named by lists."""

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
from imageseg.errors import InputError, command, counted
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
    """Custom dataset: ``images/<split>``, masks of the same names in ``masks/<split>``, and the label table ``labels.yaml``.

    Alternatively, lists ``train.txt``, ``val.txt`` and ``test.txt`` (next to ``labels.yaml``, or in ``lists`` or ``splits``)
    name an image and its mask per line. If there is any list, only lists define the splits. Images of ``test`` may have no
    masks; they can be predicted, but not scored.

    Masks store class ids (PNG with one channel of 8 or 16 bits, or a palette) or the exact RGB colors of the label table.

    Args:
        root: Root folder of the dataset.
    """

    def __init__(self, root: str = "data/custom") -> None:
        self.root = Path(root)

    @property
    def labels(self) -> LabelSpace:  # type: ignore[override]
        """The label table in ``labels.yaml``."""
        self._require_root()
        self._refuse_other_suffix()
        path = self.root / "labels.yaml"
        if not path.is_file():
            propose = command("check", "Folder", "--root", self.root, "--fix-config", path)
            raise InputError(f"{path}: no label table; {propose} proposes one from the masks, or write '{_TABLE}'")
        return LabelSpace.from_dict(read_yaml(path), path)

    @property
    def scored_split(self) -> str:  # type: ignore[override]
        """The test split if it has masks, else val."""
        lists = find_lists(self.root)
        if lists:
            return "test" if "test" in lists and has_masks(lists["test"]) else "val"
        return "test" if "test" in self.splits and find_folder(self.root, ["masks/test"]) else "val"

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have a list; without any list, the folders in ``images``."""
        self._require_root()
        lists = find_lists(self.root)
        if lists:
            return in_usual_order(lists)
        images = self._images()
        folders = [path.name for path in images.iterdir() if path.is_dir() and not path.name.startswith(".")]
        count = sum(map(is_image, images.iterdir()))
        if not folders and count:
            raise InputError(
                f"{images}: contains {counted(count, 'image', 'images')} but no folders train and val; sort "
                "them, and their masks, into "
                f"images/train, images/val, masks/train, masks/val, or name them in {self.root / 'train.txt'} and val.txt"
            )
        return in_usual_order(folders)

    def listing(self, split: str) -> Listing:
        """Pair images and masks of the same name, sorted by name, or in the order of the split's list."""
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
                f"{self.root / 'masks' / split}: no such folder; put the masks of the images in {images} there, with "
                f"the images' names{self._misnamed(split)}"
            )
        # Each image stands in for its mask: two files of one name, or no image at all, then give the same errors.
        return Listing([pair._replace(mask=None) for pair in listing_by_stem(images, images).pairs], [], [])

    def pairs(self, split: str) -> list[Pair]:
        """Return the pairs of a split; a separate error explains the case that no mask has the name of any image.

        Raises:
            InputError: The split does not exist, or an image or mask has no counterpart.
        """
        listing = self.listing(split)
        if not listing.pairs and listing.without_mask and listing.without_image:
            image, mask = listing.without_mask[0].image, listing.without_image[0].mask
            assert mask is not None
            raise InputError(
                f"{self.root} {split}: no mask has the name of an image: there are images like {image.name} and masks like "
                f"{mask.name}; name the masks like the images, or list both in {self.root / split}.txt, one pair per line"
            )
        return super().pairs(split)

    def _require_root(self) -> None:
        if not self.root.is_dir():
            raise InputError(
                f"{self.root} does not exist; Folder expects {_EXPECTED}, and labels.yaml; pass --data.root for another folder"
            )

    def _misnamed(self, split: str) -> str:
        """A hint for masks in a folder of another common name."""
        if find_folder(self.root, ["masks"]) is not None:
            return ""
        other = find_folder(self.root, [f"{name}/{split}" for name in _MASKS_ELSEWHERE])
        return f"; {other.parent} contains annotations: rename it to masks" if other else ""

    def _refuse_other_suffix(self) -> None:
        other = self.root / "labels.yml"
        if other.is_file() and not other.with_suffix(".yaml").is_file():
            raise InputError(f"{other}: rename it to labels.yaml")

    def _images(self) -> Path:
        images = find_folder(self.root, ["images"])
        if images is None:
            names = sorted(path.name for path in self.root.iterdir())
            found = f"it contains {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}" if names else "it is empty"
            raise InputError(f"{self.root} has no folder images and no lists ({found}); Folder expects {_EXPECTED}")
        return images


def find_lists(root: Path) -> dict[str, Path]:
    """Find the list of each split, in ``root`` or in ``lists`` or ``splits`` below it."""
    paths = {split: [root / place / f"{split}.txt" for place in _PLACES] for split in _SPLITS}
    return {split: found[0] for split, tried in paths.items() if (found := [path for path in tried if path.is_file()])}


def read_list(path: Path, root: Path) -> Listing:
    """Read the pairs of a list, in its order.

    Every line names an image and its mask, separated by a tab, a comma or blanks; or every line names an image without a
    mask, if there is no ground truth. Paths are absolute, or relative to ``root`` or to the list. Lines that start with ``#``
    are ignored.

    Raises:
        InputError: The list is empty, a line has another form, or an image occurs twice; the message names the line.
    """
    lines = _lines(path, root)
    names = _names([line.image for line in lines], root)
    return listing_of(Pair(line.image, line.mask, name) for line, name in zip(lines, names, strict=True))


def has_masks(path: Path) -> bool:
    """Whether a list has two columns; False if it cannot be read."""
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
                f"{path} line {number}: '{columns[0]}' is not a file below {root}; a line is the path of an image and the path of "
                f"its mask, as in {_EXAMPLE}"
            )
        if image in seen:
            raise InputError(f"{path} line {number}: repeats line {seen[image]}, {columns[0]}; delete one of them")
        seen[image] = number
        found.append(_Line(image, masks[0] if masks else None))
    if not found:
        raise InputError(f"{path}: the list is empty; a line is an image and its mask, as in {_EXAMPLE}")
    return found


def _columns(path: Path) -> list[tuple[int, list[str]]]:
    """Line numbers and their one or two columns, without comments and empty lines."""
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
                f"{path} line {number}: has {len(columns)} columns; a line is an image and its mask, as in {_EXAMPLE}{hint}"
            )
        rows.append((number, columns))
    return rows


def _resolved(text: str, path: Path, root: Path) -> Path:
    given = Path(text.replace("\\", "/"))  # a list from Windows
    if given.is_absolute() or (root / given).exists() or not (path.parent / given).exists():
        return root / given
    return path.parent / given


def _names(images: list[Path], root: Path) -> list[str]:
    """Unique sample names: the stem of each file, or its path below ``root`` where several files have the same stem."""
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
    return "an image and a mask" if columns == 2 else "an image without mask"
