"""PairSamples: the pairs of a split as a torch dataset of samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from imageseg.batch import Sample, make_sample
from imageseg.datasets.pairs import Pair
from imageseg.datasets.reading import OpenFiles, ReadStored
from imageseg.images import read_mask
from imageseg.labels import LabelSpace


class PairSamples(Dataset[Sample]):
    """Reads a pair of files when it is asked for, and checks that they fit each other and the labels.

    Args:
        pairs: the files.
        labels: turns stored values into class indices.
        read_stored: reads a mask file as ``labels`` takes it.

    Raises:
        InputError: when reading, for an unreadable file, a mask of another size than its picture, or an undeclared value.
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
        """The name of one pair."""
        return self.pairs[index].name

    def read(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """(H, W, 3) uint8 RGB and (H, W) uint8 class indices of one pair."""
        return self.open(index).whole()

    def open(self, index: int) -> OpenFiles:
        """One pair, to read any part of."""
        return OpenFiles(self.pairs[index], self.labels, self.read_stored)
