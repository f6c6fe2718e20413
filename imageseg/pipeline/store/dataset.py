"""PackedSamples: the samples of a split, read from a store of decoded pairs."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from imageseg.batch import Sample, make_sample
from imageseg.datasets.base import SegmentationDataset
from imageseg.datasets.pairs import OpenFiles
from imageseg.datasets.samples import PairSamples
from imageseg.parallel import Progress
from imageseg.pipeline.crop import Box
from imageseg.pipeline.store.build import build_store, path_of, store_folder, stored_pairs
from imageseg.pipeline.store.pair_file import DamagedPairError, PairFile

logger = logging.getLogger(__name__)


class PackedSamples(Dataset[Sample]):
    """The given samples, byte for byte, read from the store; a pair that is not in the store is read from its own files.

    Args:
        folder: Folder of the store.
        samples: Samples to read.
    """

    def __init__(self, folder: Path, samples: PairSamples) -> None:
        self.folder = folder
        self.samples = samples
        self.pairs = samples.pairs
        self.labels = samples.labels
        self._keys = [entry and entry.key for entry in stored_pairs(folder, samples.pairs, samples.labels)]
        self._has_warned = False

    @classmethod
    def build(
        cls,
        dataset: SegmentationDataset,
        split: str,
        samples: PairSamples,
        *,
        pack_folder: str | None = None,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> PackedSamples:
        """Create or update the store of a split, and open it.

        Args:
            dataset: Dataset of the samples.
            split: Split of the samples.
            samples: All samples of the split, with masks.
            pack_folder: Folder of all stores, see ``store_folder``.
            workers: Number of processes (default: number of CPU cores).
            progress: Called with (number of packed pairs, number of all pairs).

        Raises:
            StoreError: The store cannot be written; the samples can still be read from their files.
            InputError: A file cannot be read.
        """
        folder = store_folder(dataset, split, pack_folder)
        build_store(folder, samples.pairs, samples.labels, samples.read_stored, workers=workers, progress=progress)
        return cls(folder, samples)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return make_sample(*self.read(index), self.name(index))

    def name(self, index: int) -> str:
        """Name of a pair."""
        return self.samples.name(index)

    def read(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """(H, W, 3) uint8 RGB image and (H, W) uint8 class indices of a pair, in memory of their own."""
        opened = self.open(index)
        if isinstance(opened, OpenFiles):
            return opened.read()
        complete = Box(0, 0, *opened.size)
        return opened.image(complete).copy(), opened.mask(complete).copy()

    def open(self, index: int) -> PairFile | OpenFiles:
        """A pair, to read any part of."""
        if (key := self._keys[index]) is not None:
            try:
                return PairFile(path_of(self.folder, key))
            except DamagedPairError as error:
                self._warn_once(str(error))
        else:
            self._warn_once(f"{self.pairs[index].image}: is not packed, or was changed since")
        return self.samples.open(index)

    def _warn_once(self, reason: str) -> None:
        if not self._has_warned:
            logger.warning("%s; it is read from its own files until it is packed again", reason)
        self._has_warned = True
