"""SyncedNorms: batch statistics over all devices, for timm's normalisations too."""

from __future__ import annotations

from pytorch_lightning.plugins import LayerSync
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn


class SyncedNorms(LayerSync):
    """Replaces batch normalisations by ones that share their statistics.

    Lightning's own knows torch's class alone: of timm's, which hold the activation that follows, it would drop the activation.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """The model with its normalisations replaced; weights and predictions stay."""
        converted: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted

    def revert(self, model: nn.Module) -> nn.Module:
        """The model as it is: in prediction the replaced ones do what those before did, also on one device."""
        return model
