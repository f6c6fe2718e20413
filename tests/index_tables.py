"""A network as the authors' layer list has it, run with torch's functions only, straight from a state dict.

A row is (operation, the layer's name in the list, channels before, channels after). The operations: "conv" and "deconv",
3x3, padded, with batch normalization and ReLU; "fc" and "unfc", the same, of 7x7 and unpadded; "score", a convolution alone;
"pool" and "unpool", 2x2, the latter with the indices and the size of the pool of the same number.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

Row = tuple[str, str, int, int]

VGG16 = [
    ("conv", "conv1_1", 3, 64),
    ("conv", "conv1_2", 64, 64),
    ("pool", "pool1", 64, 64),
    ("conv", "conv2_1", 64, 128),
    ("conv", "conv2_2", 128, 128),
    ("pool", "pool2", 128, 128),
    ("conv", "conv3_1", 128, 256),
    ("conv", "conv3_2", 256, 256),
    ("conv", "conv3_3", 256, 256),
    ("pool", "pool3", 256, 256),
    ("conv", "conv4_1", 256, 512),
    ("conv", "conv4_2", 512, 512),
    ("conv", "conv4_3", 512, 512),
    ("pool", "pool4", 512, 512),
    ("conv", "conv5_1", 512, 512),
    ("conv", "conv5_2", 512, 512),
    ("conv", "conv5_3", 512, 512),
    ("pool", "pool5", 512, 512),
]

# Where torchvision keeps each convolution of vgg16_bn; its normalization is the next layer.
VGG16_KEYS = {
    name: (f"encoder.features.{index}", f"encoder.features.{index + 1}")
    for name, index in {
        "conv1_1": 0,
        "conv1_2": 3,
        "conv2_1": 7,
        "conv2_2": 10,
        "conv3_1": 14,
        "conv3_2": 17,
        "conv3_3": 20,
        "conv4_1": 24,
        "conv4_2": 27,
        "conv4_3": 30,
        "conv5_1": 34,
        "conv5_2": 37,
        "conv5_3": 40,
    }.items()
}


def run_table(
    table: list[Row],
    state: Mapping[str, Tensor],
    keys: Mapping[str, tuple[str, str]],
    images: Tensor,
    *,
    forget_indices: bool = False,
) -> Tensor:
    """The logits of (N, 3, H, W) normalized images.

    Args:
        table: the rows in order.
        state: every parameter and buffer by key.
        keys: of each layer, by its name in the table: that of its convolution, and that of its normalization.
        images: to run on.
        forget_indices: unpool every value to the corner of its window, as if nobody knew where it came from.
    """
    maps = images
    pools: dict[str, tuple[Tensor, torch.Size]] = {}
    for operation, name, before, after in table:
        assert maps.shape[1] == before, name
        if operation == "pool":
            size = maps.shape[-2:]
            maps, indices = F.max_pool2d(maps, 2, 2, return_indices=True)
            pools[name.removeprefix("pool")] = (indices, size)
        elif operation == "unpool":
            indices, size = pools.pop(name.removeprefix("unpool"))
            if forget_indices:
                rows, columns = (2 * torch.arange(side) for side in indices.shape[-2:])
                indices = (rows[:, None] * size[1] + columns).expand_as(indices).contiguous()
            maps = F.max_unpool2d(maps, indices, 2, 2, output_size=list(size))
        else:
            conv, norm = keys[name]
            weight, bias = state[f"{conv}.weight"], state[f"{conv}.bias"]
            padding = 0 if operation in ("fc", "unfc") else weight.shape[-1] // 2
            if operation in ("deconv", "unfc"):
                maps = F.conv_transpose2d(maps, weight, bias, padding=padding)
            else:
                maps = F.conv2d(maps, weight, bias, padding=padding)
            if operation != "score":
                maps = F.batch_norm(
                    maps,
                    state[f"{norm}.running_mean"],
                    state[f"{norm}.running_var"],
                    state[f"{norm}.weight"],
                    state[f"{norm}.bias"],
                ).relu()
        assert maps.shape[1] == after, name
    assert pools == {}, "a pool that nobody undid"
    return maps
