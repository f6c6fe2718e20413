"""Fold batch normalization into the convolution before it, for prediction; stride-1 deconvolutions become convolutions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from imageseg.models.base import Network

_SIDE = 256
"""Side of the image with which a network's operations are traced; all networks in this package accept it."""


def fold_batchnorm(network: Network) -> Network:
    """Copy ``network`` into one that predicts the same, up to float32 rounding, with fewer passes over its feature maps.

    One image is traced through the network to find which normalization follows which convolution, independently of the names and
    the nesting of modules. A convolution whose result is also used elsewhere is not changed.

    Args:
        network: Network to copy; it is not changed.

    Returns:
        A network for prediction only: further training would train other weights than those of the original.
    """
    copied = copy.deepcopy(network).eval()
    copied.requires_grad_(requires_grad=False)
    for name, module in list(copied.named_modules()):
        if isinstance(module, nn.ConvTranspose2d) and _equals_a_convolution(module):
            _replace(copied, name, _as_convolution(module))
    for convolution, norm in _foldable_pairs(copied):
        names = {id(module): name for name, module in copied.named_modules()}
        _replace(copied, names[id(convolution)], fuse_conv_bn_eval(convolution, norm))
        _replace(copied, names[id(norm)], _without_normalization(norm))
    return copied


def _foldable_pairs(network: Network) -> list[tuple[Any, Any]]:
    """Pairs of a convolution and the batch normalization that is the only user of its result, each run once."""
    trace = _Trace()
    mean = network.mean
    image = torch.zeros((1, mean.shape[1], _SIDE, _SIDE), dtype=mean.dtype, device=mean.device)
    with torch.no_grad(), trace:
        network.coarse_logits(image)
    by_weight = {id(m.weight): m for m in network.modules() if isinstance(m, nn.Conv2d)}
    by_statistics = {id(m.running_mean): m for m in network.modules() if isinstance(m, nn.BatchNorm2d)}
    return [
        (by_weight[weight], by_statistics[statistics])
        for weight, statistics in trace.followed_by_norm()
        if weight in by_weight and statistics in by_statistics
    ]


class _Trace(TorchFunctionMode):
    """Records which calls use the result of each convolution, and how often each convolution and normalization runs."""

    def __init__(self) -> None:
        super().__init__()
        self._results: dict[int, int] = {}  # id of a convolution's result -> id of its weight
        self._users: dict[int, list[int | None]] = {}  # id of that result -> statistics of each norm that uses it
        self._runs: dict[int, int] = {}  # id of a weight or of statistics -> how often it runs
        self._kept: list[Tensor] = []  # keeps results alive, so that no id is assigned to a second tensor

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        statistics = None
        if func in (F.batch_norm, torch.batch_norm):
            statistics = id(_argument(args, kwargs, 1 if func is F.batch_norm else 3, "running_mean"))
            self._runs[statistics] = self._runs.get(statistics, 0) + 1
        if not _reads_metadata_only(func):
            for value in tree_leaves((args, kwargs)):
                if isinstance(value, Tensor) and id(value) in self._results:
                    self._users.setdefault(id(value), []).append(statistics)
        result = func(*args, **kwargs)
        if func in (torch.conv2d, F.conv2d):
            weight = id(_argument(args, kwargs, 1, "weight"))
            self._runs[weight] = self._runs.get(weight, 0) + 1
            self._results[id(result)] = weight
            self._kept.append(result)
        return result

    def followed_by_norm(self) -> list[tuple[int, int]]:
        """Ids of the weight and the statistics of each convolution whose result only a normalization uses."""
        found = []
        for result, weight in self._results.items():
            users = self._users.get(result, [])
            if len(users) == 1 and users[0] is not None and self._runs[weight] == self._runs[users[0]] == 1:
                found.append((weight, users[0]))
        return found


def _argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], position: int, name: str) -> Any:
    return args[position] if len(args) > position else kwargs.get(name)


def _reads_metadata_only(func: Callable[..., Any]) -> bool:
    """Whether a call reads no values but shapes, strides and the like, which arrive here as property getters."""
    return getattr(func, "__name__", "") in ("__get__", "size", "dim", "numel", "stride", "is_contiguous")


def _without_normalization(norm: nn.BatchNorm2d) -> nn.Module:
    """The activation that timm's normalization layers contain, or the identity."""
    rest = [part for part in norm.children() if not isinstance(part, nn.Identity)]
    return nn.Sequential(*rest) if rest else nn.Identity()


def _equals_a_convolution(layer: nn.ConvTranspose2d) -> bool:
    is_plain = layer.stride == (1, 1) and layer.groups == 1 and layer.output_padding in (0, (0, 0))
    return is_plain and min(_padding_of_convolution(layer)) >= 0


def _padding_of_convolution(layer: nn.ConvTranspose2d) -> list[int]:
    """Padding of the equivalent convolution. If it is negative, there is none."""
    assert isinstance(layer.padding, tuple)
    sizes = zip(layer.kernel_size, layer.padding, layer.dilation, strict=True)
    return [dilation * (kernel - 1) - padding for kernel, padding, dilation in sizes]


def _as_convolution(layer: nn.ConvTranspose2d) -> nn.Conv2d:
    """The convolution with the rotated kernel, which equals a deconvolution of stride 1."""
    kernel, dilation, padding = layer.kernel_size, layer.dilation, _padding_of_convolution(layer)
    convolution = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        (kernel[0], kernel[1]),
        padding=(padding[0], padding[1]),
        dilation=(dilation[0], dilation[1]),
        bias=layer.bias is not None,
    ).to(layer.weight)
    convolution.weight = nn.Parameter(layer.weight.permute(1, 0, 2, 3).flip(2, 3).contiguous(), requires_grad=False)
    convolution.bias = layer.bias
    return convolution.eval()


def _replace(network: nn.Module, name: str, by: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, by)
