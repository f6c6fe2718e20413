"""Fixtures and a fake encoder for tests of the networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from imageseg.models.base import IMAGENET_MEAN, IMAGENET_STD
from imageseg.models.layers.blocks import PooledBatchNorm

Randomize = Callable[[nn.Module], nn.Module]


class PlainEncoder(nn.Sequential):
    """Any layers as an encoder of images that are normalized with the statistics of ImageNet."""

    mean, std, pretrained = IMAGENET_MEAN, IMAGENET_STD, False


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Run torch in one thread, because test workers share the CPU; seed it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def any_algorithm() -> None:
    """Reset the deterministic mode that a training run in an earlier test of this process may have set."""
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def forgotten_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the warning that is issued once per process be issued once per test."""
    monkeypatch.setattr(PooledBatchNorm, "_warned", False)


@pytest.fixture
def randomize() -> Randomize:
    """Gives every batch normalization statistics and weights of its own, and every layer normalization weights.

    As initialized, it is the identity, and timm starts the last one of each residual branch at zero: a network whose
    normalizations are swapped or missing, or whose branches are dead, would go unnoticed.
    """

    def apply(module: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(1)
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                layer.running_mean.normal_(0, 0.1, generator=generator)
                layer.running_var.uniform_(0.5, 1.5, generator=generator)
                nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
                nn.init.normal_(layer.bias, 0, 0.1, generator=generator)
            elif isinstance(layer, nn.LayerNorm) and layer.elementwise_affine:
                nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
                nn.init.normal_(layer.bias, 0, 0.1, generator=generator)
        return module

    return apply
