"""The stream of training samples: what is drawn when, as a pure function of the seed.

Training is one endless stream of draws. Draw ``d`` belongs to epoch ``d // length`` and is the ``d % length``-th of that
epoch's order; its augmentation is seeded by (seed, epoch, index). Nothing is consumed, so the stream is the same for any
number of workers or processes, and continues anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, overload

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset, Sampler

from imageseg.batch import Sample, make_sample
from imageseg.pipeline.mixing import Mixing, lay_over
from imageseg.pipeline.regions import OpenPair, RegionSamples

Indices = npt.NDArray[np.int64]


class Draw(NamedTuple):
    """One sample of one epoch."""

    epoch: int
    sample: int
    occurrence: int = 0
    """How often the epoch has drawn the sample before."""
    focus: int | None = None
    """The class that the window is to show, where the order asks for one."""


class EpochDraws(Sequence[Draw]):
    """The draws of one epoch, each made when it is asked for: a hundred thousand at once would hold up the training.

    Args:
        epoch: which.
        samples: (L,) what is drawn.
        occurrences: (L,) how often it was drawn before; unset, never.
        focuses: (L,) classes, -1 for none; unset, none.
    """

    def __init__(
        self, epoch: int, samples: Indices, *, occurrences: Indices | None = None, focuses: Indices | None = None
    ) -> None:
        self._epoch = epoch
        # Numbers of a list are read far faster than those of an array.
        self._samples: list[int] = samples.tolist()
        self._occurrences: list[int] | None = None if occurrences is None else occurrences.tolist()
        self._focuses: list[int] | None = None if focuses is None else focuses.tolist()

    def __len__(self) -> int:
        return len(self._samples)

    @overload
    def __getitem__(self, place: int) -> Draw: ...

    @overload
    def __getitem__(self, place: slice) -> list[Draw]: ...

    def __getitem__(self, place: int | slice) -> Draw | list[Draw]:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        occurrence = 0 if self._occurrences is None else self._occurrences[place]
        focus = -1 if self._focuses is None else self._focuses[place]
        return Draw(self._epoch, self._samples[place], occurrence, None if focus < 0 else focus)


class Order(Protocol):
    """Which samples an epoch draws, and in which order: a pure function of the epoch."""

    def __len__(self) -> int:
        """Draws per epoch, the same in all of them: so a position in the stream says its epoch and its place."""

    def draws(self, epoch: int) -> Sequence[Draw]:
        """The draws of one epoch."""


class Permutation:
    """Every sample once per epoch, in an order that (seed, epoch) decides.

    Args:
        length: how many samples there are.
        seed: of the orders.
    """

    def __init__(self, length: int, *, seed: int) -> None:
        self._length = length
        self._seed = seed

    def __len__(self) -> int:
        return self._length

    def draws(self, epoch: int) -> EpochDraws:
        """The permutation of one epoch."""
        return EpochDraws(epoch, self.samples(epoch))

    def samples(self, epoch: int) -> Indices:
        """(L,) the same, without their epoch."""
        return generator(self._seed, epoch).permutation(self._length)


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
    """Samples, each changed by a transform whose seed is (seed, epoch, index) alone, and mixed with others on request.

    A repeat within an epoch adds its number to that, so that it is another augmentation.
    """

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
        # An occurrence of 0 gives the seed of (seed, epoch, index): NumPy fills what is missing of four numbers with 0.
        seed = counted_seed(self.seed, draw.epoch, draw.sample, draw.occurrence)
        crop = self.transform(self.samples.open(draw.sample), seed=seed, focus=draw.focus)
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
        order: what takes the place of one permutation per epoch.
        first_batch: where to start, for a run that goes on.
        rank: this process.
        world_size: of how many.
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


def generator(*counts: int) -> np.random.Generator:
    """A generator of its own for whole numbers such as (seed, epoch)."""
    return np.random.Generator(np.random.Philox(counted_seed(*counts)))


def counted_seed(*counts: int) -> int:
    """One 32-bit seed from whole numbers such as (seed, epoch, index); the same everywhere and for ever."""
    return int(np.random.SeedSequence(counts).generate_state(1)[0])
