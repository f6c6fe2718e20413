"""Throughput: rates over the most recent seconds, under a clock that only the test moves."""

from __future__ import annotations

import pytest

from imageseg.training.callbacks.throughput import Throughput


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_throughput_forgets_old_steps_and_leaves_pauses_out() -> None:
    clock = Clock()
    rate = Throughput(step=10, clock=clock, seconds=10)
    assert rate.images_per_second is None
    assert rate.seconds_for(5) is None

    clock.now += 300  # the first step only starts the count
    rate.count(images=8, step=11)
    assert rate.images_per_second is None

    clock.now += 4
    rate.count(images=8, step=12)
    assert rate.images_per_second == 2
    assert rate.seconds_for(5) == 20

    rate.pause()
    clock.now += 1000
    rate.resume()
    clock.now += 4
    rate.count(images=8, step=13)
    assert rate.images_per_second == 2

    for step in range(14, 34):  # 20 steps of half a second: all that the last ten seconds hold
        clock.now += 0.5
        rate.count(images=8, step=step)
    assert rate.images_per_second == 16
    assert rate.seconds_for(5) == 2.5

    clock.now += 40  # one step slower than the window
    rate.count(images=8, step=34)
    assert rate.images_per_second == pytest.approx(8 / 40)


def test_throughput_measures_the_share_of_waiting() -> None:
    clock = Clock()
    rate = Throughput(step=0, clock=clock, seconds=10)
    rate.wait(300)  # before the first step is done
    clock.now += 400
    rate.count(images=1, step=1)
    assert (rate.waiting, rate.seconds, rate.paused) == (None, 0, False)

    rate.wait(1)
    clock.now += 4
    rate.count(images=1, step=2)
    assert (rate.waiting, rate.seconds) == (0.25, 4)

    rate.pause()
    assert rate.paused
    clock.now += 1000
    rate.resume()
    clock.now += 4
    rate.count(images=1, step=3)
    assert (rate.waiting, rate.seconds, rate.paused) == (0.125, 8, False)

    for step in range(4, 16):  # 12 seconds, of which the window holds ten
        rate.wait(0.75)
        clock.now += 1
        rate.count(images=1, step=step)
    assert rate.waiting == 0.75

    rate.wait(100)  # a device's clock may tell late
    clock.now += 1
    rate.count(images=1, step=16)
    assert rate.waiting == 1
