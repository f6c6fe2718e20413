"""What there is: facts of the networks and of timm's encoders, counted on the meta device without any weights."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from dataclasses import dataclass
from fnmatch import fnmatch

import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from imageseg.errors import InputError, did_you_mean
from imageseg.models import MODELS, build_untrained
from imageseg.models.encoders.families import MIT
from imageseg.models.encoders.timm_encoder import Encoder, file_in_cache
from imageseg.models.encoders.wheels import path_in_wheel, wheel_of

_CLASSES = 19
_SIDE = 224
_PAPER = re.compile(r"\(([^()]*?arXiv:[\d.]+)[^()]*\)")


@dataclass(frozen=True)
class NetworkFacts:
    """One network of ``MODELS``, with its default arguments."""

    name: str
    paper: str
    encoder: str | None
    """timm's name; None where it brings its own."""
    output_stride: int | None
    """None where it never dilates."""
    parameters: int
    """With 19 classes."""


@dataclass(frozen=True)
class EncoderFacts:
    """One of timm's networks as an encoder."""

    name: str
    parameters: int
    gmacs: float
    """10^9 multiplications and additions for a picture of 224 x 224."""
    strides: tuple[int, ...]
    output_strides: tuple[int, ...]
    """The coarsest strides that it can have: 32, and those that it dilates to."""
    licence: str | None
    """Of its pretrained weights; None where timm does not say, or there are none."""
    weights: str
    """Where its pretrained weights are: "here", "package" (installed, or to be), "hub" or "none"."""


@functools.cache
def network_facts(name: str) -> NetworkFacts:
    """Facts of the network of that name."""
    network = MODELS[name]
    defaults = {key: parameter.default for key, parameter in inspect.signature(network).parameters.items()}
    with torch.device("meta"):
        built = build_untrained(name, _CLASSES, {})
    paper = _PAPER.search(f"{sys.modules[network.__module__].__doc__} {network.__doc__}")
    encoder = defaults.get("encoder") or getattr(built.encoder, "name", None)
    return NetworkFacts(
        MODELS.resolve(name),
        paper[1] if paper else "",
        encoder,
        defaults.get("output_stride"),
        sum(parameter.numel() for parameter in built.parameters()),
    )


def encoders_like(pattern: str) -> list[str]:
    """timm's names, and SegFormer's, that fit a pattern as ``resnet*``.

    Raises:
        InputError: none does.
    """
    known = [*MIT, *timm.list_models()]
    names = [name for name in known if fnmatch(name, pattern)]
    if not names:
        raise InputError(
            f"timm has no encoder like '{pattern}'{did_you_mean(pattern, known)}; a pattern has stars, as 'convnext*'"
        )
    return names


@functools.cache
def encoder_facts(name: str) -> EncoderFacts:
    """Facts of an encoder; about a second for each.

    Raises:
        InputError: it cannot be an encoder here, and why.
    """
    with torch.device("meta"), torch.no_grad():
        encoder = Encoder(name, pretrained=False).eval()
        with FlopCounterMode(display=False) as flops:
            encoder(torch.zeros(1, 3, _SIDE, _SIDE))
    config = timm.get_pretrained_cfg(name)
    return EncoderFacts(
        name,
        sum(parameter.numel() for parameter in encoder.parameters()),
        flops.get_total_flops() / 2e9,
        tuple(encoder.strides),
        tuple(stride for stride in (32, 16, 8) if _dilates_to(name, stride)),
        config.license if config is not None else None,
        _whereabouts(name),
    )


def _dilates_to(name: str, stride: int) -> bool:
    try:
        with torch.device("meta"):
            Encoder(name, pretrained=False, output_stride=stride)
    except InputError:
        return False
    return True


def _whereabouts(name: str) -> str:
    config = timm.get_pretrained_cfg(name)
    if path_in_wheel(name) is not None:
        return "here"
    if config is None or not config.has_weights:
        return "none"
    if file_in_cache(config) is not None:
        return "here"
    return "package" if wheel_of(name) else "hub"
