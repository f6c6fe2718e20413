"""The loss on masks: matching and loss against plain loops over pixels, and the cases that break other implementations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import imageseg
from imageseg.models.eomt import EoMT
from imageseg.models.mask_classifier import MaskPrediction
from imageseg.training.losses.mask_matching import mask_classification, match

CLASSES = 3


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def pair_losses(logits: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> tuple[float, float]:
    """Binary cross-entropy and Dice loss of one predicted and one true mask."""
    binary = common = predicted = true = 0.0
    for y, x in np.ndindex(truth.shape):
        if valid[y, x]:
            p = sigmoid(logits[y, x])
            binary -= math.log(p) if truth[y, x] else math.log(1 - p)
            common += p * truth[y, x]
            predicted += p
            true += truth[y, x]
    return binary / valid.sum(), 1 - (2 * common + 1) / (predicted + true + 1)


def by_hand(classes: np.ndarray, masks: np.ndarray, mask: np.ndarray, weights: list[float]) -> float:
    """The loss of one prediction: the best of all assignments, tried one after the other."""
    total_class = share = binary = dice = 0.0
    found = 0
    for n in range(len(mask)):
        present = [c for c in range(CLASSES) if (mask[n] == c).any()]
        if not present:
            continue
        probabilities = np.exp(classes[n]) / np.exp(classes[n]).sum(axis=1, keepdims=True)
        valid = mask[n] != 255
        best, chosen = math.inf, ()
        for queries in itertools.permutations(range(len(masks[n])), len(present)):
            cost = 0.0
            for q, c in zip(queries, present, strict=True):
                pair = pair_losses(masks[n, q], mask[n] == c, valid)
                cost += 5 * pair[0] + 5 * pair[1] - 2 * probabilities[q, c]
            if cost < best:
                best, chosen = cost, queries
        wanted = dict(zip(chosen, present, strict=True))
        for q in range(len(masks[n])):
            c = wanted.get(q, CLASSES)
            weight = [*weights, 0.1][c]
            total_class -= weight * math.log(probabilities[q, c])
            share += weight
            if q in wanted:
                pair = pair_losses(masks[n, q], mask[n] == c, valid)
                binary, dice, found = binary + pair[0], dice + pair[1], found + 1
    return 2 * total_class / share + (5 * binary + 5 * dice) / found


def example(seed: int, *, queries: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    classes = generator.normal(size=(2, queries, CLASSES + 1))
    masks = generator.normal(size=(2, queries, 3, 4)) * 2
    mask = generator.choice([0, 1, 2, 255], size=(2, 3, 4)).astype(np.uint8)
    return classes, masks, mask


def prediction(classes: np.ndarray, masks: np.ndarray, size: tuple[int, int] = (3, 4)) -> MaskPrediction:
    return MaskPrediction(torch.from_numpy(classes).float(), torch.from_numpy(masks).float(), size)


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0]])
@pytest.mark.parametrize("seed", range(4))
def test_equals_plain_loops_over_pixels_and_assignments(seed: int, weights: list[float] | None) -> None:
    classes, masks, mask = example(seed)
    given = None if weights is None else torch.tensor(weights)
    found = mask_classification([prediction(classes, masks)], torch.from_numpy(mask), given)
    assert float(found) == pytest.approx(by_hand(classes, masks, mask, weights or [1, 1, 1]), rel=1e-5)


def test_predictions_on_the_way_count_as_the_last_one_does() -> None:
    one, other = (prediction(*example(seed)[:2]) for seed in (0, 1))
    mask = torch.from_numpy(example(0)[2])
    both = mask_classification([one, other], mask)
    assert float(both) == pytest.approx(float(mask_classification([one], mask) + mask_classification([other], mask)))


def test_a_matching_that_can_be_read() -> None:
    """Left half is class 2, right half class 0; query 1 has the left half, query 2 the right one, query 0 nothing."""
    mask = torch.tensor([[2, 2, 0, 0], [2, 2, 0, 0]])
    masks = torch.full((3, 2, 4), -4.0)
    masks[1, :, :2] = masks[2, :, 2:] = 4.0
    present = torch.tensor([0, 2])
    truth = (mask == present.view(-1, 1, 1)).float()
    valid = torch.ones(2, 4)

    def matched(classes: Tensor) -> dict[int, int]:
        query, which = match(classes, masks, classes_present=present, truth=truth, valid=valid)
        return dict(zip(query.tolist(), present[which].tolist(), strict=True))

    assert matched(torch.zeros(3, 4)) == {1: 2, 2: 0}
    sure = torch.zeros(3, 4)
    sure[0, 0] = 20.0  # its class alone does not outweigh a mask that is wrong
    assert matched(sure) == {1: 2, 2: 0}
    masks[0] = masks[2]  # of equal masks, the class decides
    assert matched(sure) == {1: 2, 0: 0}


def test_masks_are_matched_at_their_own_size_by_the_share_of_each_pixel() -> None:
    """At a quarter of the size, by blocks of labels that are alike, the assignment is that of the whole size."""
    classes, masks, mask = (torch.from_numpy(values) for values in example(2))
    large = mask[0].repeat_interleave(4, dim=0).repeat_interleave(2, dim=1)
    assignments = []
    for labels in (mask[0], large):
        present = torch.tensor([0, 1, 2])
        truth, valid = (labels == present.view(-1, 1, 1)).double(), (labels != 255).double()
        assignments.append(match(classes[0], masks[0], classes_present=present, truth=truth, valid=valid))
    assert all(torch.equal(a, b) for a, b in zip(*assignments, strict=True))


def test_masks_of_padded_pictures_lie_on_the_pixels_of_the_labels() -> None:
    """Masks of 2 x 3 over 4 x 6 padded pixels, of a picture of 3 x 5: as if the padding bore the label "ignore"."""
    generator = np.random.default_rng(5)
    classes, masks = generator.normal(size=(1, 4, CLASSES + 1)), generator.normal(size=(1, 4, 2, 3))
    mask = torch.from_numpy(generator.choice([0, 1, 2], size=(1, 3, 5)).astype(np.uint8))
    padded = F.pad(mask, (0, 1, 0, 1), value=255)
    found = mask_classification([prediction(classes, masks, (4, 6))], mask)
    assert float(found) == pytest.approx(float(mask_classification([prediction(classes, masks, (4, 6))], padded)))
    whole = F.interpolate(torch.from_numpy(masks), size=(4, 6), mode="bilinear").numpy()
    query, which = match(
        torch.from_numpy(classes[0]),
        torch.from_numpy(masks[0]),
        classes_present=torch.arange(3),
        truth=(padded == torch.arange(3).view(-1, 1, 1)).double(),
        valid=(padded[0] != 255).double(),
    )
    pairs = [
        pair_losses(whole[0, q], (padded[0] == c).numpy(), (padded[0] != 255).numpy())
        for q, c in zip(query.tolist(), which.tolist(), strict=True)
    ]
    wanted = torch.full((4,), CLASSES)
    wanted[query] = which
    weights = torch.tensor([1.0, 1.0, 1.0, 0.1], dtype=torch.float64)
    expected = 2 * F.cross_entropy(torch.from_numpy(classes[0]), wanted, weights)
    expected = expected + 5 * sum(binary + dice for binary, dice in pairs) / len(pairs)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_more_classes_than_queries_leave_some_unmatched() -> None:
    classes, masks, mask = example(0, queries=2)
    assert math.isfinite(mask_classification([prediction(classes, masks)], torch.from_numpy(mask)))


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0]])
def test_a_batch_without_a_valid_pixel_costs_nothing_and_teaches_nothing(weights: list[float] | None) -> None:
    given = None if weights is None else torch.tensor(weights)
    classes = torch.randn(2, 4, CLASSES + 1, requires_grad=True)
    masks = torch.randn(2, 4, 3, 4, requires_grad=True)
    ignored = torch.full((2, 3, 4), 255, dtype=torch.uint8)
    loss = mask_classification([MaskPrediction(classes, masks, (3, 4))], ignored, given)
    loss.backward()
    assert loss.item() == 0
    assert not classes.grad.any()
    assert not masks.grad.any()


def test_ignored_pixels_have_no_gradient_and_others_have() -> None:
    masks = torch.randn(1, 2, 1, 4, requires_grad=True)
    mask = torch.tensor([[[0, 255, 2, 255]]], dtype=torch.uint8)
    mask_classification([MaskPrediction(torch.zeros(1, 2, CLASSES + 1), masks, (1, 4))], mask).backward()
    assert (masks.grad.abs().sum(dim=(0, 1, 2)) > 0).tolist() == [True, False, True, False]


def test_numbers_that_are_none_are_a_loss_that_is_none() -> None:
    classes, masks, mask = example(0)
    masks[0, 1] = math.nan
    masks[0, 0] = math.inf
    assert not math.isfinite(mask_classification([prediction(classes, masks)], torch.from_numpy(mask)))


def test_half_precision_predictions_are_summed_in_float32() -> None:
    classes, masks = torch.randn(1, 8, CLASSES + 1), torch.randn(1, 8, 64, 64)
    mask = torch.randint(0, CLASSES, (1, 256, 256), dtype=torch.uint8)
    whole = mask_classification([MaskPrediction(classes, masks, (256, 256))], mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = mask_classification([MaskPrediction(classes.bfloat16(), masks.bfloat16(), (256, 256))], mask)
    assert low.dtype == torch.float32
    assert float(low) == pytest.approx(float(whole), rel=1e-2)


def test_two_pictures_are_learnt_by_heart() -> None:
    size = (61, 55)
    torch.manual_seed(0)
    network = EoMT(5, encoder="test_vit", pretrained=False, num_queries=8, num_blocks=2)
    mask = torch.randint(0, 5, (2, 4, 4), generator=torch.Generator().manual_seed(4))
    mask = mask.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2)[:, : size[0], : size[1]]
    colors = torch.tensor([[220, 30, 30], [30, 220, 30], [30, 30, 220], [220, 220, 30], [128, 128, 128]])
    noise = torch.randint(-25, 26, (2, 3, *size), generator=torch.Generator().manual_seed(6))
    images, mask = (colors[mask].permute(0, 3, 1, 2) + noise).to(torch.uint8), mask.to(torch.uint8)

    def miou() -> float:
        confusion = imageseg.ConfusionMatrix(5)
        confusion.update(network.eval().predict_classes(images), mask)
        return confusion.scores().miou

    assert miou() < 0.5
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    steps, losses = 60, []
    for step in range(steps):
        network.train().anneal(step / steps)
        loss = mask_classification(network.mask_predictions(images), mask)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in network.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert miou() > 0.95
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("num_classes", [254, 255])
def test_queries_without_a_mask_learn_to_say_so_whatever_the_number_of_classes(num_classes: int) -> None:
    """With 255 classes "no object" has the index that stands for ignored pixels elsewhere."""
    classes = torch.zeros(1, 5, num_classes + 1, requires_grad=True)
    mask = torch.zeros(1, 8, 8, dtype=torch.uint8)
    mask_classification([MaskPrediction(classes, torch.zeros(1, 5, 4, 4), (8, 8))], mask).backward()
    assert classes.grad is not None
    assert (classes.grad.abs().sum(dim=2) > 0).all()
