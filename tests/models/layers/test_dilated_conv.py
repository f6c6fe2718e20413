"""Shifted 1x1 convolutions equal the dilated convolution, and are used only where they are faster."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from imageseg.models.layers import dilated_conv
from imageseg.models.layers.dilated_conv import DilatedConv2d, share_inside, shifted_conv, trimmed_conv


@pytest.mark.parametrize("size", [(9, 13), (8, 8), (1, 1), (5, 2)])
@pytest.mark.parametrize("dilation", [2, 5, 12])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_taps_add_up_to_the_convolution(size: tuple[int, int], dilation: int, layout: torch.memory_format) -> None:
    features = torch.randn(2, 6, *size, dtype=torch.float64).contiguous(memory_format=layout)
    weight = torch.randn(4, 6, 3, 3, dtype=torch.float64)
    bias = torch.randn(4, dtype=torch.float64)
    expected = F.conv2d(features, weight, bias, padding=dilation, dilation=dilation)
    torch.testing.assert_close(shifted_conv(features, weight, dilation, bias), expected, rtol=1e-12, atol=1e-12)


@pytest.fixture
def shifts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Records the dilations of the convolutions that ran shifted."""
    taken: list[int] = []

    def noted(features: torch.Tensor, weight: torch.Tensor, dilation: int, bias: torch.Tensor | None) -> torch.Tensor:
        taken.append(dilation)
        return shifted_conv(features, weight, dilation, bias)

    monkeypatch.setattr(dilated_conv, "shifted_conv", noted)
    return taken


def test_the_switch_decides_in_prediction_and_training_stays_torchs(
    shifts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, features = DilatedConv2d(3, 4, dilation=3), torch.randn(1, 3, 8, 8)
    monkeypatch.setattr(DilatedConv2d, "shifted", True)
    expected = layer(features)
    assert shifts == []
    with torch.no_grad():
        torch.testing.assert_close(layer(features), expected, rtol=1e-5, atol=1e-5)
        assert shifts == [3]
        monkeypatch.setattr(DilatedConv2d, "shifted", False)
        assert torch.equal(layer(features), expected)
    assert shifts == [3]


@pytest.mark.parametrize(
    ("amx", "channels", "dilation", "dtype", "chosen"),
    [
        (True, 1024, 12, torch.bfloat16, True),
        (True, 1024, 12, torch.float32, False),
        (True, 1024, 24, torch.float32, True),
        (True, 512, 24, torch.bfloat16, False),
        (False, 1024, 24, torch.bfloat16, False),
    ],
)
def test_cpu_and_size_decide_by_default(
    *,
    amx: bool,
    channels: int,
    dilation: int,
    dtype: torch.dtype,
    chosen: bool,
    shifts: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    layer = DilatedConv2d(channels, 2, dilation=dilation).to(dtype)
    with torch.no_grad():
        layer(torch.zeros(1, channels, 3, 3, dtype=dtype))
    assert bool(shifts) is chosen


def test_autocast_counts_as_bfloat16(shifts: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        DilatedConv2d(1024, 2, dilation=6)(torch.zeros(1, 1024, 3, 3))
    assert shifts == [6]


@pytest.mark.parametrize("size", [(9, 13), (8, 8), (1, 1), (5, 2)])
@pytest.mark.parametrize("dilation", [2, 5, 12])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_trimmed_backward_pass_equals_the_convolutions(
    size: tuple[int, int], dilation: int, layout: torch.memory_format
) -> None:
    features = torch.randn(2, 6, *size, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(4, 6, 3, 3, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    expected = F.conv2d(features, weight, padding=dilation, dilation=dilation)
    found = trimmed_conv(features, weight, dilation)
    assert torch.equal(found, expected)
    slope = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(found, (features, weight), slope),
        torch.autograd.grad(expected, (features, weight), slope),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_the_trimmed_backward_pass_passes_gradcheck() -> None:
    features, weight = (
        torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in ((2, 3, 4, 5), (2, 3, 3, 3))
    )
    assert torch.autograd.gradcheck(lambda *given: trimmed_conv(*given, 3), (features, weight))
    assert torch.autograd.gradcheck(lambda given: trimmed_conv(given, weight.detach(), 2), (features,))
    assert torch.autograd.gradcheck(lambda given: trimmed_conv(features.detach(), given, 2), (weight,))


def test_the_share_inside_counts_the_products_that_meet_the_map() -> None:
    for height, width, dilation in ((5, 7, 2), (5, 7, 6), (8, 8, 8), (1, 1, 1)):
        ones = torch.ones(1, 1, height, width), torch.ones(1, 1, 3, 3)
        inside = F.conv2d(*ones, padding=dilation, dilation=dilation).sum() / (9 * height * width)
        assert share_inside(height, width, dilation) == pytest.approx(float(inside))


@pytest.mark.parametrize(("dilation", "trimmed"), [(7, False), (8, True)])
@pytest.mark.parametrize("half", [False, True])
def test_training_is_trimmed_where_half_of_it_is_padding(
    *, dilation: int, trimmed: bool, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[torch.dtype] = []

    def noted(features: torch.Tensor, weight: torch.Tensor, dilation: int) -> torch.Tensor:
        taken.append(features.dtype)
        return trimmed_conv(features, weight, dilation)

    monkeypatch.setattr(dilated_conv, "trimmed_conv", noted)
    layer, features = DilatedConv2d(16, 8, dilation=dilation), torch.randn(2, 16, 16, 16)

    def learned() -> tuple[torch.Tensor, torch.Tensor | None]:
        layer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            result = layer(features)
        result.float().square().sum().backward()
        return result.detach(), layer.weight.grad

    with torch.no_grad():
        layer(features)
    assert taken == []
    ours = learned()
    assert taken == ([torch.bfloat16 if half else torch.float32] if trimmed else [])
    monkeypatch.setattr(DilatedConv2d, "trimmed", False)
    theirs = learned()
    assert ours[0].dtype == theirs[0].dtype
    for one, other in zip(ours, theirs, strict=True):
        assert one is not None
        assert other is not None
        torch.testing.assert_close(one, other, rtol=1e-4, atol=(0.02 if half else 1e-4) * float(other.abs().max()))
