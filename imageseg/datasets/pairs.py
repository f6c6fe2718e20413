"""The files of a split: pairs of image and mask, their listing with its faults, and archives to download."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from imageseg.errors import counted


class Pair(NamedTuple):
    """One image file and its mask file; ``mask`` is None where the ground truth is not public."""

    image: Path
    mask: Path | None
    name: str


class Listing(NamedTuple):
    """The files of a split on disk. A file that is missing is listed with its expected path."""

    pairs: list[Pair]
    without_mask: list[Pair]
    without_image: list[Pair]
    by_choice: str = ""
    """Description of what the dataset's own arguments exclude, empty if nothing."""

    def faults(self) -> list[tuple[str, Pair]]:
        """Return a description such as ``2 images without mask`` and the first such pair, for each of the two kinds that occurs."""
        kinds = (
            (self.without_mask, "image without mask", "images without mask"),
            (self.without_image, "mask without image", "masks without image"),
        )
        return [(counted(len(pairs), one, many), pairs[0]) for pairs, one, many in kinds if pairs]


class Archive(NamedTuple):
    """One archive that the owner of a dataset offers for download."""

    url: str
    md5: str
    """MD5 checksum of the file, 32 hexadecimal digits."""
    folder: str = ""
    """Folder below the root into which it is unpacked."""
