"""Dilation in timm networks: the policy for the first block of a dilated stage, and multi-grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from imageseg.errors import InputError


def dilate_first_blocks(network: nn.Module, strided: nn.Module) -> None:
    """Give the first block of every dilated stage the dilation of its other blocks.

    A dilated stage gave up a stride of 2, so its blocks need twice the dilation of the stage before. timm keeps the previous
    dilation in the convolution that gave up its stride, because that convolution still reads the grid of the stage before
    ("contract"). This function applies the new dilation there as well ("full"): 2, 2, ... and 4, 4, ... instead of 1, 2, ...
    and 2, 4, ... State dicts stay the same but logits do not: weights trained with one policy are wrong with the other.

    Comparing with the undilated network finds these convolutions independently of how a timm family names its stages and of
    how many stages share a stride.

    Args:
        network: timm network with dilated stages; changed in place.
        strided: The same network with strides instead of dilation. Its values are not used, so it can be on the meta device.
    """
    layers = dict(network.named_modules())
    for name, before in strided.named_modules():
        layer = layers.get(name)
        if isinstance(before, nn.Conv2d) and isinstance(layer, nn.Conv2d):
            _multiply_dilation(layer, before.stride[0] // layer.stride[0])
        elif isinstance(before, nn.AvgPool2d) and layer is None:
            # ResNeSt strides with a pooling layer after the convolution and drops this layer when it dilates.
            for sibling in layers[name.rpartition(".")[0]].modules():
                if isinstance(sibling, nn.Conv2d):
                    _multiply_dilation(sibling, before.stride if isinstance(before.stride, int) else before.stride[0])


def set_multi_grid(network: Any, multi_grid: Sequence[int], *, encoder: str) -> None:
    """Multiply the dilation of each block of the last stage (Chen et al. 2017, arXiv:1706.05587, section 3.2.1).

    Args:
        network: timm network of feature maps, dilated for its output stride; changed in place. The paper's dilations 2, 4, 8
            at output stride 16 need ``first_block="full"``.
        multi_grid: One factor per block; (1, 2, 4) in the paper's ResNets.
        encoder: Name of the encoder, for errors.

    Raises:
        InputError: The last stage has a different number of blocks, or no separate blocks at all.
    """
    blocks = _last_blocks(network)
    if not blocks:
        raise InputError(
            f"encoder '{encoder}' has no blocks for multi_grid in its last stage; leave it out, or use resnet50"
        )
    if len(blocks) != len(multi_grid) or min(multi_grid) < 1:
        raise InputError(
            f"multi_grid needs one factor of 1 or more for each of the {len(blocks)} blocks in the last stage of encoder "
            f"'{encoder}', found {tuple(multi_grid)}"
        )
    for block, factor in zip(blocks, multi_grid, strict=True):
        for layer in block.modules():
            if isinstance(layer, nn.Conv2d):
                _multiply_dilation(layer, factor)


def _multiply_dilation(conv: nn.Conv2d, factor: int) -> None:
    """Multiply the dilation and keep the output size, also for ConvNeXt's even kernels, whose dilation is even by then."""
    if factor == 1 or not _is_spatial(conv):
        return
    height, width = (factor * dilation for dilation in conv.dilation)
    conv.dilation = (height, width)
    conv.padding = (height * (conv.kernel_size[0] - 1) // 2, width * (conv.kernel_size[1] - 1) // 2)


def _is_spatial(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and max(layer.kernel_size) > 1


def _last_blocks(network: Any) -> list[nn.Module]:
    """The blocks of the last stage, which is several timm stages in EfficientNets (``blocks.5`` and ``blocks.6``)."""
    *_, before, last = network.feature_info.module_name()
    parent, _, index = last.rpartition(".")
    names = [last]
    if index.isdecimal() and before.rpartition(".")[0] == parent:
        names = [f"{parent}.{i}" for i in range(int(before.rpartition(".")[2]) + 1, int(index) + 1)]
    modules = dict(network.named_modules())
    # Feature wrappers of timm replace the dots in the names of stages by underscores.
    stages = [modules.get(name) or modules[name.replace(".", "_")] for name in names]
    blocks = [block for stage in stages for block in dict(stage.named_children()).get("blocks", stage).children()]
    return [block for block in blocks if any(map(_is_spatial, block.modules()))]
