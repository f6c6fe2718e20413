"""Packing: the splits of a run, packed if that is asked for, and what the user sees of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from imageseg import parallel as workers
from imageseg.datasets.base import SegmentationDataset
from imageseg.datasets.samples import PairSamples
from imageseg.pipeline.loader import Loading
from imageseg.pipeline.store.build import StoreError
from imageseg.pipeline.store.dataset import PackedSamples, packed

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Packing:
    """How a store is made, and what is said of it.

    Args:
        progress: gives a function to call with (pairs packed, in all) for the length of a block.
        say: takes a line for the user.
    """

    progress: Callable[[], AbstractContextManager[workers.Progress | None]] = nullcontext
    say: Callable[[str], None] = _log.warning

    def samples(
        self, dataset: SegmentationDataset, split: str, samples: PairSamples | PackedSamples, loading: Loading
    ) -> PairSamples | PackedSamples:
        """The samples as they are, or packed, if that is asked for and there is room."""
        if not loading.pack or isinstance(samples, PackedSamples):
            return samples
        try:
            with self.progress() as progress:
                return packed(dataset, split, samples, pack_folder=loading.pack_folder, progress=progress)
        except StoreError as error:
            self.say(f"{error}; training goes on without: it decodes the files of '{split}' each time")
            return samples
