"""Cross-entropy against a plain numpy loop, and the cases that break other implementations."""

import numpy as np
import pytest
import torch

from imageseg.training.losses import LOSSES, cross_entropy


def by_hand(logits: np.ndarray, mask: np.ndarray, weights: np.ndarray) -> float:
    total = share = 0.0
    for n, y, x in np.ndindex(mask.shape):
        true = mask[n, y, x]
        if true == 255:
            continue
        exponentials = np.exp(logits[n, :, y, x])
        total -= weights[true] * np.log(exponentials[true] / exponentials.sum())
        share += weights[true]
    return total / share


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0]])
def test_equals_the_plain_loop(weights: list[float] | None) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(2, 3, 4, 5))
    mask = generator.choice([0, 1, 2, 255], size=(2, 4, 5)).astype(np.uint8)
    given = None if weights is None else torch.tensor(weights)
    loss = cross_entropy(torch.from_numpy(logits), torch.from_numpy(mask), given)
    assert float(loss) == pytest.approx(by_hand(logits, mask, np.array(weights or [1, 1, 1])), rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0]])
def test_a_batch_without_a_valid_pixel_costs_nothing_and_teaches_nothing(
    name: str, weights: list[float] | None
) -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    given = None if weights is None else torch.tensor(weights)
    loss = LOSSES[name](logits, torch.full((2, 4, 4), 255, dtype=torch.uint8), given)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_have_no_gradient_and_others_have(name: str) -> None:
    logits = torch.randn(1, 3, 1, 4, requires_grad=True)
    LOSSES[name](logits, torch.tensor([[[0, 255, 2, 255]]], dtype=torch.uint8), None).backward()
    touched = logits.grad.abs().sum(dim=(0, 1, 2)) > 0
    assert touched.tolist() == [True, False, True, False]


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits = torch.randn(1, 3, 256, 256)
    mask = torch.zeros(1, 256, 256, dtype=torch.uint8)
    low = cross_entropy(logits.bfloat16(), mask, None)
    assert low.dtype == torch.float32
    assert float(low) == pytest.approx(float(cross_entropy(logits, mask, None)), rel=1e-3)
