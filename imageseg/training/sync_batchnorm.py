"""SyncedNorms: batch normalization with statistics over all devices, for timm's layers too."""

from __future__ import annotations

from pytorch_lightning.plugins import LayerSync
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn


class SyncedNorms(LayerSync):
    """Replace batch normalization layers by synchronized ones.

    Lightning's own plugin converts torch's class only. timm's classes include the following activation, which it would drop.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Return the model with its normalization layers replaced; weights and predictions are unchanged."""
        converted: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted

    def revert(self, model: nn.Module) -> nn.Module:
        """Return the model unchanged: in evaluation mode, the replaced layers compute what the original ones do."""
        return model
