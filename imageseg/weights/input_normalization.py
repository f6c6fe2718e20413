"""Weights that were trained with another input normalization: the difference is folded into the first convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from imageseg.models.base import Network
from imageseg.models.encoders.timm_encoder import spread_over_channels


@dataclass(frozen=True)
class InputNormalization:
    """Input normalization of another project.

    Args:
        channel_order: "rgb" or "bgr".
        mean: Mean of each channel in that order, on a scale of 0 to 255.
        std: Standard deviation of each channel in that order, on the same scale.
    """

    channel_order: str
    mean: Sequence[float]
    std: Sequence[float]


def adapt_first_convolution(
    state: dict[str, Tensor], network: Network, normalization: InputNormalization
) -> dict[str, Tensor]:
    """Adapt the first convolution so that it accepts our normalized images in place of theirs.

    A convolution is linear: scales and channel order go into its weight, the difference of the means into its bias or, if
    it has none, into the running mean of the batch normalization after it. Only the outermost pixels differ, where the
    convolution pads with zeros: their zero is another color than ours.

    Args:
        state: Tensors by our names, in any order.
        network: Network that the tensors are for.
        normalization: Normalization that the weights were trained with.

    Returns:
        The adapted tensors, or ``state`` itself if it has no first convolution for the network's number of channels.
    """
    ours = network.state_dict()  # in the order of the layers, which a file need not keep
    first = next(name for name, value in ours.items() if name.startswith("encoder.") and value.dim() == 4)
    channels = network.mean.numel()
    if first not in state or state[first].shape[1] != channels:
        return state
    is_bgr = normalization.channel_order == "bgr"
    mean, std = (_for_channels(values, channels, is_bgr=is_bgr) for values in (normalization.mean, normalization.std))
    scale = network.std.flatten().cpu().double() / std
    shift = (network.mean.flatten().cpu().double() - mean) / std
    weight = state[first].double()
    if is_bgr and channels == 3:
        weight = weight.flip(1)
    offset = (weight * shift.view(1, -1, 1, 1)).sum(dim=(1, 2, 3))
    changed = {first: (weight * scale.view(1, -1, 1, 1)).to(state[first].dtype)}
    bias = first.removesuffix("weight") + "bias"
    after = bias if bias in ours else next(name for name in ours if name.endswith("running_mean"))
    if after in state:
        value = state[after].double() + (offset if after == bias else -offset)
        changed[after] = value.to(state[after].dtype)
    return {**state, **changed}


def _for_channels(values: Sequence[float], channels: int, *, is_bgr: bool) -> Tensor:
    """Order the values as our channels, red first; a number of channels other than 3 gets their mean."""
    return torch.tensor(spread_over_channels(tuple(reversed(values)) if is_bgr else values, channels)).double()
