"""Weights from elsewhere: files of other libraries, read without running code and renamed by tables of rules."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WeightFiles:
    """Files of weights on this machine that a network may begin with; every network takes them.

    Args:
        weights: of the whole network: a checkpoint of ours or of torchvision, segmentation_models_pytorch, hszhao/semseg,
            VainF, wkentaro, milesial, mmsegmentation or Lightning. The settings it was trained with come along.
        encoder_weights: of the encoder alone: timm's or torchvision's state dict, .safetensors, .pth or .bin.
    """

    weights: str | None = None
    encoder_weights: str | None = None
