"""Folder: anyone's own pictures, in the plainest layout there is."""

from __future__ import annotations

from pathlib import Path

from imageseg.datasets.base import (
    Listing,
    SegmentationDataset,
    existing_folder,
    in_usual_order,
    listing_by_stem,
    require_split,
)
from imageseg.errors import InputError
from imageseg.labels import LabelSpace
from imageseg.recipe import read_yaml

_TABLE = "labels: [{name: road, color: [128, 64, 128], values: [0]}, ...]"
_EXPECTED = f"images/{{train,val[,test]}}, masks/{{train,val[,test]}} and labels.yaml ({_TABLE})"


class Folder(SegmentationDataset):
    """Pictures in ``images/<split>``, masks of the same names in ``masks/<split>``, the label table in ``labels.yaml``.

    Masks are class ids (PNG with one channel of 8 or 16 bits, or a palette) or exact RGB colours of the label table.

    Args:
        root: the folder that holds the three.
    """

    def __init__(self, root: str = "data/custom") -> None:
        self.root = Path(root)

    @property
    def labels(self) -> LabelSpace:  # type: ignore[override]
        """The table in ``labels.yaml``."""
        path = self._folder("") / "labels.yaml"
        if not path.is_file():
            raise InputError(f"{path}: no label table; write '{_TABLE}'")
        return LabelSpace.from_dict(read_yaml(path), path)

    @property
    def scored_split(self) -> str:  # type: ignore[override]
        """The test split where there is one."""
        return "test" if "test" in self.splits else "val"

    @property
    def splits(self) -> tuple[str, ...]:
        """The folders in ``images``."""
        return in_usual_order(path.name for path in self._folder("images").iterdir() if path.is_dir())

    def listing(self, split: str) -> Listing:
        """The pictures and masks of one name, sorted."""
        require_split(split, self.splits, str(self.root))
        return listing_by_stem(self._folder("images") / split, self._folder("masks") / split)

    def _folder(self, name: str) -> Path:
        return existing_folder(self.root, [name], dataset="Folder", expected=_EXPECTED, source="your own pictures")
