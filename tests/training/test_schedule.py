"""The learning-rate factor at hand-computed steps."""

import pytest

from imageseg.training.schedule import SCHEDULES, constant, cosine, factor_at, poly


def test_poly_is_the_power_of_what_is_left() -> None:
    assert factor_at(0, schedule=poly, total_steps=100, warmup_steps=0) == 1
    assert factor_at(75, schedule=poly, total_steps=100, warmup_steps=0) == pytest.approx(0.25**0.9)
    assert factor_at(100, schedule=poly, total_steps=100, warmup_steps=0) == 0


def test_cosine_is_half_way_down_at_half_time() -> None:
    assert cosine(0.5) == pytest.approx(0.5)
    assert factor_at(100, schedule=cosine, total_steps=100, warmup_steps=0) == pytest.approx(0)


def test_warm_up_rises_in_equal_steps_and_never_starts_at_zero() -> None:
    factors = [factor_at(step, schedule=constant, total_steps=100, warmup_steps=4) for step in range(6)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


@pytest.mark.parametrize("name", SCHEDULES)
def test_stays_between_zero_and_one_beyond_its_end_too(name: str) -> None:
    assert all(0 <= factor_at(s, schedule=SCHEDULES[name], total_steps=9, warmup_steps=3) <= 1 for s in range(20))
