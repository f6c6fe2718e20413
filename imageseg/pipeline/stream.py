"""The infinite stream of training samples: augmented samples, and the batches in which they are drawn.

Draw ``d`` of a run belongs to epoch ``d // length`` and is number ``d % length`` of that epoch's order; its augmentation is
seeded by (seed, epoch, index). The stream therefore does not depend on the number of workers or processes, and can be
continued from any batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset, Sampler

from imageseg.batch import Sample, make_sample
from imageseg.pipeline.crop import OpenPair
from imageseg.pipeline.epoch_order import Draw, Order, Permutation, counted_seed
from imageseg.pipeline.mixing import Mixing, paste


class OpenableSamples(Protocol):
    """Samples of which parts can be read, such as ``PairSamples`` and ``PackedSamples``."""

    def __len__(self) -> int:
        """Number of samples."""

    def name(self, index: int) -> str:
        """Name of a sample."""

    def open(self, index: int) -> OpenPair:
        """An image and its mask, to read any part of."""


class PairTransform(Protocol):
    """A random crop of an image and its mask, determined by a seed."""

    def __call__(
        self, pair: OpenPair, *, seed: int, focus: int | None = None
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """An (h, w, 3) RGB crop and its (h, w) mask, both writable and of one size for all samples.

        Args:
            pair: Image and mask to read from.
            seed: Random seed of the transform.
            focus: Index of a class that the crop should show.
        """


class AugmentedSamples(Dataset[Sample]):
    """Samples that are augmented by a seed of (seed, epoch, index) alone, and mixed with other samples on request.

    Within an epoch, further draws of the same sample add their number to the seed, so that each is augmented differently.
    """

    def __init__(
        self, samples: OpenableSamples, transform: PairTransform, *, seed: int, mixing: Mixing | None = None
    ) -> None:
        self.samples = samples
        self.transform = transform
        self.seed = seed
        self.mixing = mixing or Mixing()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> Sample:
        # An occurrence of 0 gives the seed of (seed, epoch, index): NumPy pads to four numbers with zeros.
        seed = counted_seed(self.seed, draw.epoch, draw.sample, draw.occurrence)
        crop = self.transform(self.samples.open(draw.sample), seed=seed, focus=draw.focus)
        if self.mixing != Mixing():
            self._mix(crop, seed)
        return make_sample(*crop, self.samples.name(draw.sample))

    def _mix(self, crop: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]], seed: int) -> None:
        rng = np.random.default_rng(counted_seed(seed, 1))
        for select in self.mixing.selections(rng):
            partner, partner_seed = int(rng.integers(len(self.samples))), int(rng.integers(1 << 32))
            other = self.transform(self.samples.open(partner), seed=partner_seed)
            paste(crop, other, select(other[1], rng))


class StreamBatches(Sampler[list[Draw]]):
    """An infinite batch sampler. Batches continue across the ends of epochs and are always full.

    With several processes, a batch of the stream has ``batch_size * world_size`` draws, of which each process takes its slice.

    Args:
        length: Number of samples.
        batch_size: Number of draws per batch and process.
        seed: Random seed of the permutations.
        order: Order of the samples (default: one permutation per epoch).
        first_batch: Number of the batch to start from, for a resumed run.
        rank: Rank of this process.
        world_size: Number of processes.

    Raises:
        ValueError: ``length`` or ``batch_size`` is less than 1.
    """

    def __init__(
        self,
        length: int,
        *,
        batch_size: int,
        seed: int,
        order: Order | None = None,
        first_batch: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if length < 1 or batch_size < 1:
            raise ValueError(f"a stream needs samples and a batch size, found {length} and {batch_size}")
        self.order: Order = Permutation(length, seed=seed) if order is None else order
        self.batch_size = batch_size
        self.first_batch = first_batch
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[list[Draw]]:
        batch, epoch, length = self.first_batch, -1, len(self.order)
        order: Sequence[Draw] = ()
        while True:
            start = (batch * self.world_size + self.rank) * self.batch_size
            draws = []
            for position in range(start, start + self.batch_size):
                if position // length != epoch:
                    epoch = position // length
                    order = self.order.draws(epoch)
                draws.append(order[position % length])
            yield draws
            batch += 1
