"""The files of a split: pairs of image and mask, their listing with its faults, and archives to download."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from imageseg.errors import counted


class Pair(NamedTuple):
    """One picture and the file of its mask; ``mask`` is None where the truth is not public."""

    image: Path
    mask: Path | None
    name: str


class Listing(NamedTuple):
    """What lies on disk for a split. In the two lists of faults, one file of each pair is only where it should be."""

    pairs: list[Pair]
    without_mask: list[Pair]
    without_image: list[Pair]
    by_choice: str = ""
    """What the dataset's own arguments leave out, in words."""

    def faults(self) -> list[tuple[str, Pair]]:
        """What lacks its partner, as ``2 pictures without mask``, and the first such pair; at most one of each kind."""
        kinds = (
            (self.without_mask, "picture without mask", "pictures without mask"),
            (self.without_image, "mask without picture", "masks without picture"),
        )
        return [(counted(len(pairs), one, many), pairs[0]) for pairs, one, many in kinds if pairs]


class Archive(NamedTuple):
    """One file that a dataset's owner offers for download."""

    url: str
    md5: str
    """Of the whole file, 32 hexadecimal digits."""
    folder: str = ""
    """Where it is unpacked, below the root."""
