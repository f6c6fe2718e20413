"""The dilation of an encoder's stages: the policy of their first block, and multi-grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import timm
import torch
from torch import nn

from imageseg.errors import InputError

if TYPE_CHECKING:
    from imageseg.models.encoders.timm_encoder import Encoder


def dilate_first_blocks(encoder: Encoder) -> None:
    """Gives the first block of every stage that dilates the dilation of its other blocks.

    A stage that dilates lost a stride of 2, so its blocks see twice the dilation of the stage before. timm leaves the old one
    to the convolution that gave up its stride, since that one still reads the grid of the stage before ("contract"). Here it
    takes the new one at once ("full"): 2, 2, ... and 4, 4, ... instead of 1, 2, ... and 2, 4, ... State dicts stay the same,
    logits do not: weights trained with the one policy are wrong with the other.

    Which convolutions these are is told by the same network without dilation, so that it does not matter how a family of
    timm's names its stages, nor how many of them share a stride.
    """
    if encoder.strides[-1] == 32:
        return
    # On the meta device a network has no values: only its structure is asked for.
    with torch.device("meta"):
        strided = timm.create_model(encoder.name, features_only=True, in_chans=encoder.in_channels)
    layers = dict(encoder.network.named_modules())
    for name, before in strided.named_modules():
        layer = layers.get(name)
        if isinstance(before, nn.Conv2d) and isinstance(layer, nn.Conv2d):
            _multiply_dilation(layer, before.stride[0] // layer.stride[0])
        elif isinstance(before, nn.AvgPool2d) and layer is None:
            # ResNeSt strides by a pooling after the convolution, and drops it where it dilates.
            for sibling in layers[name.rpartition(".")[0]].modules():
                if isinstance(sibling, nn.Conv2d):
                    _multiply_dilation(sibling, _side(before.stride))


def set_multi_grid(encoder: Encoder, multi_grid: Sequence[int]) -> None:
    """Multiplies the dilation of each block of the last stage (Chen et al. 2017, arXiv:1706.05587, section 3.2.1).

    Args:
        encoder: with the dilation of its output stride; the paper's 2, 4, 8 at output stride 16 need ``first_block="full"``.
        multi_grid: one factor per block: (1, 2, 4) in the paper's ResNets.

    Raises:
        InputError: the last stage has another number of blocks, or none that can be told apart.
    """
    blocks = _last_blocks(encoder)
    if not blocks:
        raise InputError(
            f"encoder '{encoder.name}' has no blocks for multi_grid in its last stage; leave it out, or take resnet50"
        )
    if len(blocks) != len(multi_grid) or min(multi_grid) < 1:
        raise InputError(
            f"multi_grid takes one factor of 1 or more for each of the {len(blocks)} blocks in the last stage of encoder "
            f"'{encoder.name}', found {tuple(multi_grid)}"
        )
    for block, factor in zip(blocks, multi_grid, strict=True):
        for layer in block.modules():
            if isinstance(layer, nn.Conv2d):
                _multiply_dilation(layer, factor)


def _multiply_dilation(conv: nn.Conv2d, factor: int) -> None:
    """Keeps the size of the result, also for the even kernels of ConvNeXt, whose dilation is even by then."""
    if factor == 1 or not _is_spatial(conv):
        return
    height, width = (factor * dilation for dilation in conv.dilation)
    conv.dilation = (height, width)
    conv.padding = (height * (conv.kernel_size[0] - 1) // 2, width * (conv.kernel_size[1] - 1) // 2)


def _is_spatial(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and max(layer.kernel_size) > 1


def _side(stride: int | tuple[int, int]) -> int:
    return stride if isinstance(stride, int) else stride[0]


def _last_blocks(encoder: Encoder) -> list[nn.Module]:
    """The blocks of the last stage, which in EfficientNets and their kin is several of timm's: ``blocks.5`` and ``blocks.6``."""
    *_, before, last = encoder.network.feature_info.module_name()
    parent, _, index = last.rpartition(".")
    names = [last]
    if index.isdecimal() and before.rpartition(".")[0] == parent:
        names = [f"{parent}.{i}" for i in range(int(before.rpartition(".")[2]) + 1, int(index) + 1)]
    modules = dict(encoder.network.named_modules())
    # A wrapped network bears its stages by names without dots.
    stages = [modules.get(name) or modules[name.replace(".", "_")] for name in names]
    blocks = [block for stage in stages for block in dict(stage.named_children()).get("blocks", stage).children()]
    return [block for block in blocks if any(map(_is_spatial, block.modules()))]
