"""Folding for prediction: batch normalisation into the convolution before it, stride-1 deconvolutions into convolutions."""

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
"""Of the picture that is sent through a network to see what follows what; all networks here take it."""


def folded(network: Network) -> Network:
    """A copy of ``network`` that predicts the same, to the rounding of float32, with fewer passes over its maps.

    Which normalisation follows which convolution is seen from one picture that is sent through, whatever the modules are
    called and however deep they are nested. A convolution whose result goes anywhere else as well stays as it is.

    Args:
        network: stays as it is.

    Returns:
        For prediction only: training it further would train other weights than those of the original.
    """
    copied = copy.deepcopy(network).eval()
    copied.requires_grad_(requires_grad=False)
    for name, module in list(copied.named_modules()):
        if isinstance(module, nn.ConvTranspose2d) and _turns_into_convolution(module):
            _replace(copied, name, _as_convolution(module))
    for convolution, norm in _pairs(copied):
        names = {id(module): name for name, module in copied.named_modules()}
        _replace(copied, names[id(convolution)], fuse_conv_bn_eval(convolution, norm))
        _replace(copied, names[id(norm)], _what_is_left_of(norm))
    return copied


def _pairs(network: Network) -> list[tuple[Any, Any]]:
    """Convolutions and the batch normalisations that alone take their results, each used once."""
    watch = _Watch()
    mean = network.mean
    picture = torch.zeros((1, mean.shape[1], _SIDE, _SIDE), dtype=mean.dtype, device=mean.device)
    with torch.no_grad(), watch:
        network.coarse_logits(picture)
    by_parameter = {id(m.weight): m for m in network.modules() if isinstance(m, nn.Conv2d)}
    by_statistics = {id(m.running_mean): m for m in network.modules() if isinstance(m, nn.BatchNorm2d)}
    return [
        (by_parameter[weight], by_statistics[statistics])
        for weight, statistics in watch.followed_by_norm()
        if weight in by_parameter and statistics in by_statistics
    ]


class _Watch(TorchFunctionMode):
    """Notes which calls take the result of each convolution, and how often each convolution and normalisation runs."""

    def __init__(self) -> None:
        super().__init__()
        self._results: dict[int, int] = {}  # id of a convolution's result -> id of its weight
        self._takers: dict[int, list[int | None]] = {}  # id of that result -> statistics of the norms that take it
        self._runs: dict[int, int] = {}  # id of a weight or of statistics -> how often it runs
        self._kept: list[Tensor] = []  # so that no id is given to a second tensor

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        statistics = None
        if func in (F.batch_norm, torch.batch_norm):
            statistics = id(_argument(args, kwargs, 1 if func is F.batch_norm else 3, "running_mean"))
            self._runs[statistics] = self._runs.get(statistics, 0) + 1
        if not _only_looks(func):
            for value in tree_leaves((args, kwargs)):
                if isinstance(value, Tensor) and id(value) in self._results:
                    self._takers.setdefault(id(value), []).append(statistics)
        result = func(*args, **kwargs)
        if func in (torch.conv2d, F.conv2d):
            weight = id(_argument(args, kwargs, 1, "weight"))
            self._runs[weight] = self._runs.get(weight, 0) + 1
            self._results[id(result)] = weight
            self._kept.append(result)
        return result

    def followed_by_norm(self) -> list[tuple[int, int]]:
        """Ids of weight and statistics of each convolution that one normalisation alone follows."""
        found = []
        for result, weight in self._results.items():
            takers = self._takers.get(result, [])
            if len(takers) == 1 and takers[0] is not None and self._runs[weight] == self._runs[takers[0]] == 1:
                found.append((weight, takers[0]))
        return found


def _argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], place: int, name: str) -> Any:
    return args[place] if len(args) > place else kwargs.get(name)


def _only_looks(func: Callable[..., Any]) -> bool:
    """Whether a call reads no values: shapes, strides and the like, which arrive here as property getters."""
    return getattr(func, "__name__", "") in ("__get__", "size", "dim", "numel", "stride", "is_contiguous")


def _what_is_left_of(norm: nn.BatchNorm2d) -> nn.Module:
    """timm's normalisations hold the activation that follows."""
    rest = [part for part in norm.children() if not isinstance(part, nn.Identity)]
    return nn.Sequential(*rest) if rest else nn.Identity()


def _turns_into_convolution(layer: nn.ConvTranspose2d) -> bool:
    is_plain = layer.stride == (1, 1) and layer.groups == 1 and layer.output_padding in (0, (0, 0))
    return is_plain and min(_padding_of_convolution(layer)) >= 0


def _padding_of_convolution(layer: nn.ConvTranspose2d) -> list[int]:
    """What a deconvolution adds around, less what it crops; below zero, no convolution is the same."""
    assert isinstance(layer.padding, tuple)
    sizes = zip(layer.kernel_size, layer.padding, layer.dilation, strict=True)
    return [dilation * (kernel - 1) - padding for kernel, padding, dilation in sizes]


def _as_convolution(layer: nn.ConvTranspose2d) -> nn.Conv2d:
    """A deconvolution of stride 1 is the convolution with the turned kernel."""
    kernel, dilation, around = layer.kernel_size, layer.dilation, _padding_of_convolution(layer)
    convolution = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        (kernel[0], kernel[1]),
        padding=(around[0], around[1]),
        dilation=(dilation[0], dilation[1]),
        bias=layer.bias is not None,
    ).to(layer.weight)
    convolution.weight = nn.Parameter(layer.weight.permute(1, 0, 2, 3).flip(2, 3).contiguous(), requires_grad=False)
    convolution.bias = layer.bias
    return convolution.eval()


def _replace(network: nn.Module, name: str, by: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, by)
