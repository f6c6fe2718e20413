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

from imageseg.pipeline.mixing import Mixing, lay_over
from imageseg.pipeline.regions import OpenPair, RegionSamples
from imageseg.sample import Sample, make_sample


class Draw(NamedTuple):
    """One sample of one epoch."""

    epoch: int
    sample: int


class PairTransform(Protocol):
    """Makes a crop out of a pair by chance that ``seed`` decides."""

    def __call__(
        self, pair: OpenPair, *, seed: int, focus: int | None = None
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """An open pair to an (h, w, 3) picture and its (h, w) mask, of one size for all samples and free to be written to.

        Args:
            pair: what to read from.
            seed: of all that is drawn.
            focus: a class that the crop should show.
        """


class AugmentedSamples(Dataset[Sample]):
    """Samples, each changed by a transform whose seed is (seed, epoch, index) alone, and mixed with others on request."""

    def __init__(
        self, samples: RegionSamples, transform: PairTransform, *, seed: int, mixing: Mixing | None = None
    ) -> None:
        self.samples = samples
        self.transform = transform
        self.seed = seed
        self.mixing = mixing or Mixing()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> Sample:
        seed = counted_seed(self.seed, *draw)
        crop = self.transform(self.samples.open(draw.sample), seed=seed)
        if self.mixing != Mixing():
            self._mix(crop, seed)
        return make_sample(*crop, self.samples.name(draw.sample))

    def _mix(self, crop: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]], seed: int) -> None:
        rng = np.random.default_rng(counted_seed(seed, 1))
        for choose in self.mixing.drawn(rng):
            partner, partner_seed = int(rng.integers(len(self.samples))), int(rng.integers(1 << 32))
            other = self.transform(self.samples.open(partner), seed=partner_seed)
            lay_over(crop, other, choose(other[1], rng))


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
