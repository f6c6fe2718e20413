"""Pyramid pooling: its means equal those of torch's adaptive pooling at any size."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from imageseg.models.layers.pyramid_pooling import PyramidPooling, grid_means


@pytest.mark.parametrize("size", [(1, 1), (4, 5), (6, 6), (13, 17), (12, 32)])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_means_and_their_gradients_equal_those_of_adaptive_pooling(size: tuple[int, int], count: int) -> None:
    maps = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 3, count, count, dtype=torch.float64)
    found, expected = grid_means(maps, count), F.adaptive_avg_pool2d(maps, count)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad((means * weights).sum(), maps)[0] for means in (found, expected)]
    assert torch.allclose(*gradients, rtol=1e-12, atol=1e-12)


def test_the_comparison_notices_cells_that_do_not_overlap() -> None:
    maps = torch.randn(1, 1, 13, 13)
    assert not torch.allclose(grid_means(maps, 6), F.avg_pool2d(maps, 2, 2), atol=0.1)


def test_means_of_bfloat16_are_as_exact_as_adaptive_pooling() -> None:
    maps = torch.randn(1, 4, 21, 30).bfloat16()
    exact = F.adaptive_avg_pool2d(maps.double(), 3)
    ours, torchs = (
        float((means - exact).abs().max()) for means in (grid_means(maps, 3), F.adaptive_avg_pool2d(maps, 3))
    )
    assert ours < max(2 * torchs, 2**-9)


def test_the_map_itself_comes_first_and_the_grids_follow_in_order() -> None:
    pyramid = PyramidPooling(4, 3, bins=(1, 2)).double().eval()
    maps = torch.randn(2, 4, 5, 7, dtype=torch.float64)
    with torch.no_grad():
        found = pyramid(maps)
        grids = [F.adaptive_avg_pool2d(maps, count) for count in (1, 2)]
        branches = [branch(grid) for branch, grid in zip(pyramid.branches, grids, strict=True)]
    resized = [F.interpolate(branch, size=(5, 7), mode="bilinear", align_corners=False) for branch in branches]
    assert found.shape[1] == pyramid.out_channels == 10
    assert torch.allclose(found, torch.cat([maps, *resized], dim=1))


def test_an_exported_pyramid_accepts_other_sizes() -> None:
    pyramid = PyramidPooling(4, 3).eval()
    shapes = ({2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(pyramid, (torch.randn(2, 4, 12, 14),), dynamic_shapes=shapes).module()
    maps = torch.randn(2, 4, 9, 23)
    with torch.no_grad():
        assert torch.allclose(program(maps), pyramid(maps), atol=1e-5)
