"""Folder: anyone's own pictures, in the plainest layout there is."""

from __future__ import annotations

from pathlib import Path

from imageseg.datasets.base import SegmentationDataset, find_folder, in_usual_order, listing_by_stem, require_split
from imageseg.datasets.folder_lists import find_lists, has_masks, read_list
from imageseg.datasets.pairs import Listing, Pair
from imageseg.errors import InputError, command
from imageseg.images import is_picture
from imageseg.labels import LabelSpace
from imageseg.recipe import read_yaml

_TABLE = "labels: [{name: road, color: [128, 64, 128], values: [0]}, ...]"
_EXPECTED = "images/train and images/val with masks of the same names in masks/train and masks/val, or lists train.txt and val.txt"

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
        pictures = sum(map(is_picture, images.iterdir()))
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
