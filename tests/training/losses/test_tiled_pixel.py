"""Losses on coarse logits have the value and the gradient of their plain forms on resized ones, for any size and threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from imageseg.models.base import resize
from imageseg.training.losses import upsampled
from imageseg.training.losses.plain import LOSSES, cross_entropy, hard_pixels
from imageseg.training.losses.tiled_pixel import upsampled_cross_entropy, upsampled_ohem
from imageseg.training.task import PIXEL_LOSSES

Form = Callable[[Tensor], Tensor]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def made(
    coarse: tuple[int, ...], size: tuple[int, int], *, ignored: float = 0.2, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Logits in float64, and a mask whose pixels are ignored with a chance of ``ignored``."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(coarse, generator=generator, dtype=torch.float64)
    mask = torch.randint(0, coarse[1], (coarse[0], *size), generator=generator, dtype=torch.uint8)
    mask[torch.rand(mask.shape, generator=generator) < ignored] = 255
    return logits, mask


def both(form: Form, logits: Tensor) -> tuple[Tensor, Tensor]:
    """The value, and the gradient of three times it."""
    leaf = logits.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    value = form(leaf)
    (gradient,) = torch.autograd.grad(3 * value, leaf)
    return value.detach(), gradient


def assert_alike(ours: Form, plain: Form, logits: Tensor) -> None:
    (value, gradient), (expected, slope) = both(ours, logits), both(plain, logits)
    assert float(value) == pytest.approx(float(expected), rel=1e-12, abs=1e-12)
    torch.testing.assert_close(gradient, slope, rtol=1e-12, atol=1e-12 * max(float(slope.abs().max()), 1e-2))


SIZES = [
    ((2, 5, 8, 12), (32, 48)),  # a whole factor
    ((1, 3, 8, 12), (64, 290)),  # two tiles each way, the last ones beyond the edge
    ((2, 4, 9, 7), (33, 20)),  # none
    ((2, 3, 6, 5), (6, 5)),  # the picture's own size
    ((1, 3, 6, 5), (6, 20)),  # of one axis only
    ((1, 3, 40, 41), (13, 7)),  # coarse logits that are finer
    ((1, 1, 3, 4), (12, 16)),  # one class
    ((1, 2, 1, 1), (5, 9)),  # a single coarse pixel
    ((1, 21, 5, 3), (1, 1)),
]


@pytest.mark.parametrize(("coarse", "size"), SIZES)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("band", [1, 2**19])
@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_losses_are_those_of_resized_logits(
    *,
    name: str,
    coarse: tuple[int, ...],
    size: tuple[int, int],
    align_corners: bool,
    weighted: bool,
    band: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upsampled, "_BAND", band)
    logits, mask = made(coarse, size)
    mask[0, 0, 0] = 0
    weights = torch.linspace(0.5, 2, coarse[1]) if weighted else None
    assert_alike(
        lambda given: PIXEL_LOSSES[name](given, mask, weights, align_corners=align_corners),
        lambda given: LOSSES[name](resize(given, size, align_corners=align_corners), mask, weights),
        logits,
    )


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 20), st.integers(1, 20)),
    st.tuples(st.integers(1, 80), st.integers(1, 300)),
    st.booleans(),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from(sorted(PIXEL_LOSSES)),
)
def test_losses_at_any_size(
    coarse: tuple[int, int, int, int], size: tuple[int, int], align_corners: bool, ignored: float, name: str
) -> None:
    logits, mask = made(coarse, size, ignored=ignored)
    assert_alike(
        lambda given: PIXEL_LOSSES[name](given, mask, align_corners=align_corners),
        lambda given: LOSSES[name](resize(given, size, align_corners=align_corners), mask),
        logits,
    )


@pytest.mark.parametrize("tile", [(1, 1), (8, 24), (256, 256)])
def test_tiles_may_have_any_size(tile: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upsampled, "_TILE", tile)
    logits, mask = made((2, 3, 9, 12), (70, 101))
    assert_alike(
        lambda given: upsampled_cross_entropy(given, mask),
        lambda given: cross_entropy(resize(given, (70, 101)), mask),
        logits,
    )


def test_every_loss_has_its_plain_form() -> None:
    assert list(PIXEL_LOSSES) == list(LOSSES)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("coarse", "size"), SIZES[:4])
def test_smoothed_labels(*, coarse: tuple[int, ...], size: tuple[int, int], weighted: bool) -> None:
    logits, mask = made(coarse, size)
    weights = torch.linspace(0, 2, coarse[1]) if weighted else None
    assert_alike(
        lambda given: upsampled_cross_entropy(given, mask, weights, label_smoothing=0.1),
        lambda given: cross_entropy(resize(given, size), mask, weights, label_smoothing=0.1),
        logits,
    )


@pytest.mark.parametrize("certainty", [0.0, 9.0])
def test_hard_pixels_are_chosen_by_both_rules(certainty: float) -> None:
    logits, mask = made((2, 4, 8, 12), (32, 48))
    logits[:, 0] += certainty
    mask[mask != 255] = 0
    kept = float(hard_pixels(cross_entropy_of_pixels(logits, mask), mask != 255).sum() / (mask != 255).sum())
    assert kept == pytest.approx(1 / 16, abs=1e-3) if certainty else kept > 0.3
    assert_alike(
        lambda given: upsampled_ohem(given, mask),
        lambda given: LOSSES["ohem"](resize(given, (32, 48)), mask, None),
        logits,
    )


def cross_entropy_of_pixels(logits: Tensor, mask: Tensor) -> Tensor:
    resized = resize(logits, mask.shape[1:])
    return torch.nn.functional.cross_entropy(resized, mask.long(), ignore_index=255, reduction="none")


def test_cross_entropy_of_two_pixels_by_hand() -> None:
    # log(1 + e) for the first, of weight 1; log(1 + 1/e) for the second, of weight 3.
    logits = torch.tensor([[[[0.0, 1.0]], [[1.0, 0.0]]]], dtype=torch.float64)
    mask = torch.tensor([[[0, 0]]], dtype=torch.uint8)
    assert float(upsampled_cross_entropy(logits, mask)) == pytest.approx((1.3132616875 + 0.3132616875) / 2)
    mask = torch.tensor([[[0, 1]]], dtype=torch.uint8)
    weighted = upsampled_cross_entropy(logits, mask, torch.tensor([1.0, 3.0]))
    assert float(weighted) == pytest.approx((1.3132616875 + 3 * 1.3132616875) / 4)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(64, 160), (16, 40)])
def test_gradients_keep_the_memory_order_and_the_kind_of_number(
    size: tuple[int, int], layout: torch.memory_format
) -> None:
    logits, mask = made((2, 5, 16, 40), size)
    expected, slope = both(lambda given: upsampled_cross_entropy(given, mask), logits)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 2e-2)):
        given = logits.to(dtype).contiguous(memory_format=layout)
        value, gradient = both(lambda given: upsampled_cross_entropy(given, mask), given)
        assert value.dtype == torch.float32
        assert gradient.dtype == dtype
        assert gradient.is_contiguous(memory_format=layout)
        assert float(value) == pytest.approx(float(expected), rel=tolerance)
        torch.testing.assert_close(gradient.double(), slope, rtol=tolerance, atol=tolerance * float(slope.abs().max()))


@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_a_scaled_loss_keeps_small_gradients_in_float16(name: str) -> None:
    logits, mask = made((2, 5, 64, 64), (512, 512))
    given = (logits * 3).half()
    found, expected = (
        torch.autograd.grad(2.0**16 * PIXEL_LOSSES[name](leaf, mask), leaf)[0]
        for leaf in (given.clone().requires_grad_(), given.double().requires_grad_())
    )
    assert found.dtype == torch.float16
    assert float((found.double() - expected).norm()) < 1e-3 * float(expected.norm())


def test_autocast_leaves_the_loss_in_float32() -> None:
    logits, mask = made((1, 5, 16, 40), (64, 160))
    expected = both(lambda given: upsampled_cross_entropy(given, mask), logits.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = both(lambda given: upsampled_cross_entropy(given, mask), logits.float())
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("size", [(64, 160), (16, 40), (97, 131)])
@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_the_number_of_threads_changes_no_bit(
    name: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upsampled, "_BAND", 700)
    logits, mask = made((2, 5, 16, 40), size)
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        results.append(both(lambda given: PIXEL_LOSSES[name](given, mask), logits.float()))
        assert torch.get_num_threads() == threads
    for value, gradient in results[1:]:
        assert torch.equal(value, results[0][0])
        assert torch.equal(gradient, results[0][1])


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[[[300.0, -300.0]], [[-300.0, 300.0]]]])
    value, gradient = both(lambda given: upsampled_cross_entropy(given, torch.zeros(1, 4, 8).byte()), logits)
    plain, slope = both(lambda given: cross_entropy(resize(given, (4, 8)), torch.zeros(1, 4, 8).byte()), logits)
    assert float(value) == pytest.approx(float(plain))
    torch.testing.assert_close(gradient, slope)


def test_logits_that_need_no_gradient_get_none(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, mask = made((1, 3, 8, 8), (32, 32))
    expected = upsampled_cross_entropy(logits.clone().requires_grad_(), mask)

    def never(self: object, gradient: Tensor) -> None:
        raise AssertionError

    monkeypatch.setattr(upsampled._Tiles, "give_back", never)
    assert torch.equal(upsampled_cross_entropy(logits, mask), expected)
    with torch.no_grad():
        assert torch.equal(upsampled_cross_entropy(logits.requires_grad_(), mask), expected)
    with torch.inference_mode():
        assert torch.equal(upsampled_cross_entropy(logits, mask), expected)


@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_a_class_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises((IndexError, RuntimeError), match=r"out of (bounds|range)"):
        PIXEL_LOSSES[name](torch.zeros(1, 3, 4, 4), torch.full((1, 16, 16), 3, dtype=torch.uint8))


def test_full_size_logits_are_never_held(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    whole = upsampled._Tiles.logits

    def watched(self: upsampled._Tiles) -> Tensor:
        nonlocal largest
        band = whole(self)
        largest = max(largest, band.numel())
        return band

    monkeypatch.setattr(upsampled._Tiles, "logits", watched)
    monkeypatch.setattr(upsampled, "_BAND", 4096)
    upsampled_cross_entropy(torch.zeros(1, 4, 32, 32, requires_grad=True), torch.zeros(1, 512, 512).byte())
    assert 0 < largest <= 4 * 32 * 128, "one tile, out of a million logits"
