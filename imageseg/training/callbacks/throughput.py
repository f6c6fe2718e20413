"""Throughput: images and optimizer steps per second over the most recent seconds of training."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_RECENT_SECONDS = 30.0


@dataclass(frozen=True)
class _Mark:
    seconds: float
    images: int
    step: int
    waited: float


class Throughput:
    """Count images, optimizer steps and waiting time, and compute rates over the most recent seconds.

    Counting starts after the first step, which includes starting the loader workers and selecting kernels.

    Args:
        step: Number of optimizer steps made so far.
        clock: Function that returns the current time in seconds.
        seconds: Length of the window over which rates are computed.
    """

    def __init__(self, *, step: int, clock: Callable[[], float], seconds: float = _RECENT_SECONDS) -> None:
        self._clock = clock
        self._seconds = seconds
        self._marks: deque[_Mark] = deque()  # one mark at the end of each step
        self._step = step
        self._images = 0
        self._waited = 0.0
        self._counted_at = clock()
        self._paused = False
        self._pauses = 0.0

    def count(self, *, images: int, step: int) -> None:
        """Record a training batch of ``images`` images, after which ``step`` optimizer steps have been made."""
        self._counted_at = self._clock()
        self._images += images
        if step == self._step:  # gradients are being accumulated
            return
        self._step = step
        self._marks.append(_Mark(self._counted_at - self._pauses, self._images, step, self._waited))
        # One mark older than the window is kept, so that steps longer than the window have a rate too.
        while len(self._marks) > 2 and self._marks[-1].seconds - self._marks[1].seconds >= self._seconds:
            self._marks.popleft()

    def wait(self, seconds: float) -> None:
        """Record that training waited for data for so many seconds, outside of a pause."""
        self._waited += seconds

    def pause(self) -> None:
        """Exclude the time from the last counted batch until ``resume``."""
        self._paused = True

    def resume(self) -> None:
        """End the pause."""
        if self._paused:
            self._pauses += self._clock() - self._counted_at
            self._paused = False

    @property
    def images_per_second(self) -> float | None:
        """Images per second; None before the end of the second step."""
        return self._rate(lambda mark: mark.images)

    def seconds_for(self, steps: int) -> float | None:
        """Return the estimated time in seconds for so many optimizer steps; None while unknown."""
        rate = self._rate(lambda mark: mark.step)
        return steps / rate if rate else None

    @property
    def waiting(self) -> float | None:
        """Share of the time spent waiting for data, 0 to 1; None before the end of the second step."""
        rate = self._rate(lambda mark: mark.waited)
        return None if rate is None else min(1.0, rate)

    @property
    def seconds(self) -> float:
        """Training time in seconds over which the rates are computed."""
        return self._marks[-1].seconds - self._marks[0].seconds if self._marks else 0.0

    @property
    def paused(self) -> bool:
        """Whether counting is paused."""
        return self._paused

    def _rate(self, quantity: Callable[[_Mark], float]) -> float | None:
        if len(self._marks) < 2 or self._marks[-1].seconds <= self._marks[0].seconds:
            return None
        first, last = self._marks[0], self._marks[-1]
        return (quantity(last) - quantity(first)) / (last.seconds - first.seconds)
