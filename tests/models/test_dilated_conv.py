"""Shifted 1x1 convolutions are the dilated convolution, and are taken only where they may be."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from imageseg.models import dilated_conv
from imageseg.models.dilated_conv import DilatedConv2d, shifted_conv


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
    """The dilations of the convolutions that were taken apart."""
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
def test_unset_the_processor_and_the_size_decide(
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
