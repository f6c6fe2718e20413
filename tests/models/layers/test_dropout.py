"""Dropout: its rate, its mean, its gradient, and its seed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from imageseg.models.layers.dropout import Dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("chance", [0.1, 0.5])
def test_values_are_dropped_or_scaled(dtype: torch.dtype, layout: torch.memory_format, chance: float) -> None:
    torch.manual_seed(0)
    given = torch.full((3, 33, 51, 20), 2.0, dtype=dtype).contiguous(memory_format=layout).requires_grad_()
    found = Dropout(chance)(given)
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=layout)
    scaled = (2 * torch.tensor(1 / (1 - chance), dtype=dtype)).item()
    assert sorted(found.detach().unique().tolist()) == [0.0, scaled]
    dropped = found == 0
    assert float(dropped.float().mean()) == pytest.approx(chance, abs=0.006)  # four standard deviations
    for axis in ((1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2)):
        assert float((dropped.float().mean(dim=axis) - chance).abs().max()) < 0.06
    found.sum().backward()
    assert isinstance(given.grad, Tensor)
    assert torch.equal(given.grad == 0, dropped)


def test_torchs_seed_determines_the_noise() -> None:
    layer, given = Dropout(0.3), torch.ones(7, 5, 3)
    torch.manual_seed(1)
    first, second = layer(given), layer(given)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(layer(given), first)
    torch.set_num_threads(2)
    torch.manual_seed(1)
    assert torch.equal(layer(given), first)
    torch.set_num_threads(1)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3)])
def test_dropout_accepts_any_shape(shape: tuple[int, ...]) -> None:
    assert Dropout(0.5)(torch.ones(shape)).shape == shape


def test_everything_else_runs_torchs_dropout() -> None:
    given = torch.ones(4, 5, dtype=torch.float64)
    for layer, values in ((Dropout(0.5), given), (Dropout(0.0), given.float()), (Dropout(1.0), given.float())):
        torch.manual_seed(2)
        expected = nn.Dropout(layer.p)(values)
        torch.manual_seed(2)
        assert torch.equal(layer(values), expected)
    assert torch.equal(Dropout(0.5).eval()(given.float()), given.float())
