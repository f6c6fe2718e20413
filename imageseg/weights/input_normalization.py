"""Weights whose pictures were normalised otherwise: the difference goes into the first convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from imageseg.models.base import Network
from imageseg.models.encoders.timm_encoder import spread_over_channels


@dataclass(frozen=True)
class Pixels:
    """How another project normalises its pictures.

    Args:
        order: of the channels, "rgb" or "bgr".
        mean: in that order, on a scale of 0 to 255.
        std: likewise.
    """

    order: str
    mean: Sequence[float]
    std: Sequence[float]


def renormalized(state: dict[str, Tensor], network: Network, pixels: Pixels) -> dict[str, Tensor]:
    """The weights with a first convolution that takes our normalised pictures for theirs.

    A convolution is linear: scales and the order of channels go into its weight, the difference of the means into its bias,
    or without one into the running mean of the normalisation after it. What is left are the outermost pixels, where a
    convolution pads with zeros: their zero is another colour than ours.

    Args:
        state: by our names, in any order.
        network: that the weights are for.
        pixels: that the weights were trained on.

    Returns:
        The weights; as they are where the first convolution is missing or takes another number of channels.
    """
    ours = network.state_dict()  # in the network's own order, which a file need not keep
    first = next(name for name, value in ours.items() if name.startswith("encoder.") and value.dim() == 4)
    channels = network.mean.numel()
    if first not in state or state[first].shape[1] != channels:
        return state
    mean, std = (_for_channels(values, channels, order=pixels.order) for values in (pixels.mean, pixels.std))
    scale = network.std.flatten().cpu().double() / std
    shift = (network.mean.flatten().cpu().double() - mean) / std
    weight = state[first].double()
    if pixels.order == "bgr" and channels == 3:
        weight = weight.flip(1)
    offset = (weight * shift.view(1, -1, 1, 1)).sum(dim=(1, 2, 3))
    changed = {first: (weight * scale.view(1, -1, 1, 1)).to(state[first].dtype)}
    bias = first.removesuffix("weight") + "bias"
    after = bias if bias in ours else next(name for name in ours if name.endswith("running_mean"))
    if after in state:
        value = state[after].double() + (offset if after == bias else -offset)
        changed[after] = value.to(state[after].dtype)
    return {**state, **changed}


def _for_channels(values: Sequence[float], channels: int, *, order: str) -> Tensor:
    """The values in the order of our channels, red first; for other numbers of channels than 3 their mean."""
    ours = values if order == "rgb" else tuple(reversed(values))
    return torch.tensor(spread_over_channels(ours, channels)).double()
