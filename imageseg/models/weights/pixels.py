"""Weights whose pictures were normalised otherwise: the difference goes into the first convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from imageseg.models.base import Network


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
        state: the encoder's first convolution first, by our names.
        network: that the weights are for.
        pixels: that the weights were trained on.
    """
    first = next(name for name, value in state.items() if value.dim() == 4)
    order = [0, 1, 2] if pixels.order == "rgb" else [2, 1, 0]
    mean, std = (torch.tensor(values)[order].double() for values in (pixels.mean, pixels.std))  # in our order, rgb
    scale = network.std.flatten().cpu().double() / std
    shift = (network.mean.flatten().cpu().double() - mean) / std
    weight = state[first][:, order].double()
    offset = (weight * shift.view(1, -1, 1, 1)).sum(dim=(1, 2, 3))
    changed = {first: (weight * scale.view(1, -1, 1, 1)).to(state[first].dtype)}
    bias = first.removesuffix("weight") + "bias"
    if bias in state:
        changed[bias] = (state[bias].double() + offset).to(state[bias].dtype)
    else:
        running = next(name for name in state if name.endswith("running_mean"))
        changed[running] = (state[running].double() - offset).to(state[running].dtype)
    return {**state, **changed}
