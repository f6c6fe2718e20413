"""PackedSamples: the samples of a split out of a store of decoded pairs."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from imageseg.batch import Sample, make_sample
from imageseg.datasets.base import SegmentationDataset
from imageseg.datasets.reading import OpenFiles
from imageseg.datasets.samples import PairSamples
from imageseg.parallel import Progress
from imageseg.pipeline.regions import Box
from imageseg.pipeline.store.build import pack, packed_records, path_of, store_folder
from imageseg.pipeline.store.pair_file import DamagedPairError, PairFile

_log = logging.getLogger(__name__)


def packed(
    dataset: SegmentationDataset,
    split: str,
    samples: PairSamples,
    *,
    pack_folder: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> PackedSamples:
    """The samples of a split, packed now if they are not yet.

    Args:
        dataset: whose they are.
        split: theirs.
        samples: all of the split, with masks.
        pack_folder: as ``packing.store_folder`` takes it.
        workers: as ``packing.pack``.
        progress: as ``packing.pack``.

    Raises:
        StoreError: the store cannot be made; the samples themselves can be read all the same.
        InputError: a file that cannot be read.
    """
    folder = store_folder(dataset, split, pack_folder)
    pack(folder, samples.pairs, samples.labels, samples.read_stored, workers=workers, progress=progress)
    return PackedSamples(folder, samples)


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
                return PairFile(path_of(self.folder, key))
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
