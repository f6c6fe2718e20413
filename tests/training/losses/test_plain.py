"""Plain losses against numpy loops, other implementations and values by hand, and the cases that break others."""

import math

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional as F

from imageseg.training.losses.plain import LOSSES, cross_entropy, dice, focal, hard_pixels, jaccard_steps, lovasz, ohem


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
    logits = torch.linspace(-0.1, 0.1, 12).reshape(1, 3, 1, 4).requires_grad_()  # all pixels are hard, for OHEM
    LOSSES[name](logits, torch.tensor([[[0, 255, 2, 255]]], dtype=torch.uint8), None).backward()
    touched = logits.grad.abs().sum(dim=(0, 1, 2)) > 0
    assert touched.tolist() == [True, False, True, False]


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits = torch.randn(1, 3, 256, 256)
    mask = torch.zeros(1, 256, 256, dtype=torch.uint8)
    low = cross_entropy(logits.bfloat16(), mask, None)
    assert low.dtype == torch.float32
    assert float(low) == pytest.approx(float(cross_entropy(logits, mask, None)), rel=1e-3)


def made(*, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of 4 classes, and a mask in which 3 of them occur."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 4, 7, 9, generator=generator, dtype=torch.float64)
    mask = torch.randint(0, 3, (2, 7, 9), generator=generator, dtype=torch.uint8)
    mask[torch.rand(mask.shape, generator=generator) < 0.2] = 255
    return logits, mask


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)])
def test_smoothed_cross_entropy_is_torchs_mean(weights: torch.Tensor | None) -> None:
    logits, mask = made()
    expected = F.cross_entropy(logits, mask.long(), weights, ignore_index=255, label_smoothing=0.1)
    assert float(cross_entropy(logits, mask, weights, label_smoothing=0.1)) == pytest.approx(float(expected), rel=1e-12)


def test_focal_loss_by_hand() -> None:
    # Probabilities of 0.8 and 0.5 for the true classes.
    logits = torch.log(torch.tensor([[[[0.8, 0.5]], [[0.2, 0.5]]]], dtype=torch.float64))
    mask = torch.tensor([[[0, 1]]], dtype=torch.uint8)
    expected = [0.2**2 * -math.log(0.8), 0.5**2 * -math.log(0.5)]
    assert float(focal(logits, mask)) == pytest.approx(sum(expected) / 2)
    weighted = focal(logits, mask, torch.tensor([1.0, 3.0]))
    assert float(weighted) == pytest.approx((expected[0] + 3 * expected[1]) / 4)


def test_hard_pixels_by_hand() -> None:
    probabilities = torch.tensor([0.71, 0.69, 0.99, 0.2, 0.1, 0.9])
    valid = torch.tensor([True, True, True, True, False, True])
    losses = -probabilities.log()
    assert hard_pixels(losses, valid).tolist() == [False, True, False, True, False, False]
    # All easy: the hardest of 32 valid ones are 2, the sixteenth part.
    easy = torch.linspace(0.8, 0.9, 40)
    valid = torch.arange(40) >= 8
    assert hard_pixels(-easy.log(), valid).nonzero().flatten().tolist() == [8, 9]


def test_ohem_is_the_mean_of_the_hard_pixels() -> None:
    logits, mask = made()
    losses = F.cross_entropy(logits, mask.long(), ignore_index=255, reduction="none")
    kept = losses[(mask != 255) & (losses > -math.log(0.7))]
    assert 10 < len(kept) < 126
    assert float(ohem(logits, mask)) == pytest.approx(float(kept.mean()), rel=1e-12)


def test_dice_by_hand() -> None:
    # Class 0: 2 * 0.8 / (0.8 + 0.4 + 1); class 1: 2 * 0.6 / (0.2 + 0.6 + 1); class 2 is in no label.
    logits = torch.log(torch.tensor([[[[0.8, 0.4]], [[0.2, 0.6]], [[1e-9, 1e-9]]]], dtype=torch.float64))
    mask = torch.tensor([[[0, 1]]], dtype=torch.uint8)
    assert float(dice(logits, mask)) == pytest.approx(1 - (1.6 / 2.2 + 1.2 / 1.8) / 2, rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_dice_and_lovasz_are_smps(seed: int) -> None:
    logits, mask = made(seed=seed)
    logits[:, 3] = -50  # SMP divides by all classes, also by those that no label has
    present = logits[:, :3]
    theirs = smp.losses.DiceLoss("multiclass", ignore_index=255)(present, mask.long())
    assert float(dice(logits, mask)) == pytest.approx(float(theirs), rel=1e-9)
    theirs = smp.losses.LovaszLoss("multiclass", ignore_index=255)(logits.float(), mask.long())
    assert float(lovasz(logits, mask)) == pytest.approx(float(theirs), rel=1e-5)


def test_lovasz_of_certain_predictions_is_one_minus_the_mean_iou() -> None:
    # The surrogate touches the loss where predictions are certain: IoU 2/3, 1/3 and 0 of classes 0, 1 and 2.
    predicted, mask = torch.tensor([[[0, 0, 0, 1, 0, 1]]]), torch.tensor([[[0, 0, 255, 1, 1, 2]]], dtype=torch.uint8)
    logits = 100.0 * F.one_hot(predicted, 4).movedim(3, 1)
    assert float(lovasz(logits, mask)) == pytest.approx(1 - (2 / 3 + 1 / 3 + 0) / 3)


def test_jaccard_steps_are_differences_of_the_jaccard_loss() -> None:
    truth = torch.tensor([False, True, True, False, True, False])
    losses = [0.0]
    for count in range(1, 7):  # so many pixels are wrong
        wrong = truth[:count]
        losses.append(1 - (3 - int(wrong.sum())) / (3 + int((~wrong).sum())))
    assert jaccard_steps(truth, torch.float64).tolist() == pytest.approx(np.diff(losses).tolist())
