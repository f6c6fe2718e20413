"""PackedSamples: the samples of a split out of a store of decoded pairs."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from imageseg.datasets.reading import OpenFiles
from imageseg.datasets.samples import PairSamples
from imageseg.pipeline.packing import SUFFIX, packed_records
from imageseg.pipeline.pair_files import DamagedPairError, PairFile
from imageseg.pipeline.regions import Box
from imageseg.sample import Sample, make_sample

_log = logging.getLogger(__name__)


class PackedSamples(Dataset[Sample]):
    """The same samples as those given, to the byte, where they are packed; a pair that is not is read from its own files.

    Args:
        folder: where ``packing.pack`` put them.
        samples: the pairs.
    """

    def __init__(self, folder: Path, samples: PairSamples) -> None:
        self.folder = folder
        self.samples = samples
        self.pairs = samples.pairs
        self.labels = samples.labels
        self._keys = [record and record.key for record in packed_records(folder, samples.pairs, samples.labels)]
        self._has_warned = False

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return make_sample(*self.read(index), self.name(index))

    def name(self, index: int) -> str:
        """The name of one pair."""
        return self.samples.name(index)

    def read(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """(H, W, 3) uint8 RGB and (H, W) uint8 class indices of one pair, as memory of the caller's own."""
        opened = self.open(index)
        if isinstance(opened, OpenFiles):
            return opened.whole()
        whole = Box(0, 0, *opened.size)
        return opened.image(whole).copy(), opened.mask(whole).copy()

    def open(self, index: int) -> PairFile | OpenFiles:
        """One pair, to read any part of."""
        if (key := self._keys[index]) is not None:
            try:
                return PairFile(f"{self.folder}/{key}{SUFFIX}")
            except DamagedPairError as error:
                self._warn(str(error))
        else:
            self._warn(f"{self.pairs[index].image}: is not packed, or changed since")
        return self.samples.open(index)

    def _warn(self, reason: str) -> None:
        """Once: everything works, only slower."""
        if not self._has_warned:
            _log.warning("%s; it is read from its own files until it is packed again", reason)
            self._has_warned = True
