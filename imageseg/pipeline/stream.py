"""The stream of training samples: what is drawn when, as a pure function of the seed.

Training is one endless stream of draws. Draw ``d`` belongs to epoch ``d // length`` and takes the ``d % length``-th
index of that epoch's permutation; its augmentation is seeded by (seed, epoch, index). Nothing is consumed, so the stream
is the same for any number of workers or processes, and continues anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset, Sampler

from imageseg.sample import Sample, make_sample


class Draw(NamedTuple):
    """One sample of one epoch."""

    epoch: int
    sample: int


class ReadableSamples(Protocol):
    """Decoded pairs that can be read as arrays, as ``datasets.samples.PairSamples`` is."""

    def __len__(self) -> int:
        """How many there are."""

    def read(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """(H, W, 3) picture and (H, W) mask."""

    def name(self, index: int) -> str:
        """The sample's name."""


class ArrayTransform(Protocol):
    """Changes a picture and its mask by chance that ``seed`` decides."""

    def __call__(
        self, image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], *, seed: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """(H, W, 3) picture and (H, W) mask to the same, of one size for all samples."""


class AugmentedSamples(Dataset[Sample]):
    """Samples, each changed by a transform whose seed is (seed, epoch, index) alone."""

    def __init__(self, samples: ReadableSamples, transform: ArrayTransform, *, seed: int) -> None:
        self.samples = samples
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> Sample:
        image, mask = self.transform(*self.samples.read(draw.sample), seed=counted_seed(self.seed, *draw))
        return make_sample(image, mask, self.samples.name(draw.sample))


class StreamBatches(Sampler[list[Draw]]):
    """The draws of each batch, without end; batches run across the ends of epochs and are always full.

    Under several processes a batch of the stream is ``batch_size * world_size`` draws, of which each takes its slice.

    Args:
        length: how many samples there are.
        batch_size: draws per batch and process.
        seed: of the permutations.
        first_batch: where to start, for a run that goes on.
        rank: this process.
        world_size: of how many.
    """

    def __init__(
        self, length: int, *, batch_size: int, seed: int, first_batch: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        if length < 1 or batch_size < 1:
            raise ValueError(f"a stream needs samples and a batch size, found {length} and {batch_size}")
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.first_batch = first_batch
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[list[Draw]]:
        batch, epoch = self.first_batch, -1
        permutation = np.empty(0, np.int64)
        while True:
            start = (batch * self.world_size + self.rank) * self.batch_size
            draws = []
            for position in range(start, start + self.batch_size):
                if position // self.length != epoch:
                    epoch = position // self.length
                    permutation = self._permutation(epoch)
                draws.append(Draw(epoch, int(permutation[position % self.length])))
            yield draws
            batch += 1

    def _permutation(self, epoch: int) -> npt.NDArray[np.int64]:
        return np.random.Generator(np.random.Philox(counted_seed(self.seed, epoch))).permutation(self.length)


def counted_seed(*counts: int) -> int:
    """One 32-bit seed from whole numbers such as (seed, epoch, index); the same everywhere and for ever."""
    return int(np.random.SeedSequence(counts).generate_state(1)[0])
