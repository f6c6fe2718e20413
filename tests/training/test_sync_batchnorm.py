"""Normalisations that share their statistics predict what those did that they replace."""

from __future__ import annotations

import copy

import pytest
import torch
from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm
from torch import nn

import imageseg
from imageseg.models.base import Network
from imageseg.training.sync_batchnorm import SyncedNorms

IMAGES = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return imageseg.build_model("LRASPP", 3, encoder="mobilenetv3_small_050", pretrained=False).eval()


def _logits(network: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = network(IMAGES)
    return logits


def test_logits_and_weights_stay(network: Network) -> None:
    synced = SyncedNorms().apply(copy.deepcopy(network))
    assert all(isinstance(layer, nn.SyncBatchNorm) for layer in synced.modules() if "BatchNorm" in type(layer).__name__)
    assert torch.equal(_logits(synced), _logits(network))
    assert synced.state_dict().keys() == network.state_dict().keys()
    assert torch.equal(_logits(SyncedNorms().revert(synced)), _logits(network))


def test_lightnings_own_would_drop_activations(network: Network) -> None:
    changed = TorchSyncBatchNorm().apply(copy.deepcopy(network))
    assert not torch.allclose(_logits(changed), _logits(network))
