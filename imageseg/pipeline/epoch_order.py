"""The order of training samples: which sample is drawn when, as a pure function of the seed and the epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, overload

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


class Draw(NamedTuple):
    """One sample of one epoch."""

    epoch: int
    sample: int
    """Index of the sample in the training split."""
    occurrence: int = 0
    """Number of times that the epoch has drawn this sample before."""
    focus: int | None = None
    """Class index that the crop should show, if the order asks for one."""


class EpochDraws(Sequence[Draw]):
    """The draws of one epoch, created on access: creating a hundred thousand at once would stall training.

    Args:
        epoch: Number of the epoch.
        samples: (L,) sample indices in the order of the draws.
        occurrences: (L,) number of earlier draws of the same sample in this epoch (default: 0 everywhere).
        focuses: (L,) class indices that the crops should show, -1 for no class (default: no class anywhere).
    """

    def __init__(
        self, epoch: int, samples: Indices, *, occurrences: Indices | None = None, focuses: Indices | None = None
    ) -> None:
        self._epoch = epoch
        # Reading single elements of a list is much faster than of an array.
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
    """The samples that each epoch draws, and their order: a pure function of the epoch."""

    def __len__(self) -> int:
        """Number of draws per epoch. It is constant, so that a position in the stream determines its epoch."""

    def draws(self, epoch: int) -> Sequence[Draw]:
        """The draws of one epoch."""


class Permutation:
    """Every sample once per epoch, in an order that depends on (seed, epoch) only.

    Args:
        length: Number of samples.
        seed: Random seed of the orders.
    """

    def __init__(self, length: int, *, seed: int) -> None:
        self._length = length
        self._seed = seed

    def __len__(self) -> int:
        return self._length

    def draws(self, epoch: int) -> EpochDraws:
        """The permutation of one epoch."""
        return EpochDraws(epoch, counted_generator(self._seed, epoch).permutation(self._length))


def counted_generator(*counts: int) -> np.random.Generator:
    """A random generator that depends on whole numbers such as (seed, epoch) only."""
    return np.random.Generator(np.random.Philox(counted_seed(*counts)))


def counted_seed(*counts: int) -> int:
    """A 32-bit seed derived from whole numbers such as (seed, epoch, index), the same on every machine and version."""
    return int(np.random.SeedSequence(counts).generate_state(1)[0])
