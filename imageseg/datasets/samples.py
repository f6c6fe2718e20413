"""PairSamples: the image and mask files of a split as a torch dataset of samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from imageseg.batch import Sample, make_sample
from imageseg.datasets.pairs import OpenFiles, Pair, ReadStored
from imageseg.images import read_mask
from imageseg.labels import LabelSpace


class PairSamples(Dataset[Sample]):
    """Images and masks that are read on demand, and checked against each other and the labels.

    Args:
        pairs: Image and mask files.
        labels: Label table that converts stored values to class indices.
        read_stored: Function that reads a mask file as ``labels`` expects it.

    Raises:
        InputError: When reading: a file is unreadable, a mask differs from its image in size, or contains an undeclared value.
    """

    def __init__(self, pairs: Sequence[Pair], labels: LabelSpace, read_stored: ReadStored = read_mask) -> None:
        self.pairs = list(pairs)
        self.labels = labels
        self.read_stored = read_stored

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        image, mask = self.read(index)
        return make_sample(image, mask, self.name(index))

    def name(self, index: int) -> str:
        """Name of a pair."""
        return self.pairs[index].name

    def read(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """(H, W, 3) uint8 RGB image and (H, W) uint8 class indices of a pair."""
        return self.open(index).read()

    def open(self, index: int) -> OpenFiles:
        """A pair, to read any part of."""
        return OpenFiles(self.pairs[index], self.labels, self.read_stored)
