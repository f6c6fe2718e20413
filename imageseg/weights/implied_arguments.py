"""Arguments that a network needs for the weights of a file to mean what they meant in the project they come from."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from imageseg.errors import InputError
from imageseg.models import MODELS
from imageseg.weight_files import WeightFile
from imageseg.weights.match import renamed
from imageseg.weights.sources.source import Source


def with_implied_arguments(
    arguments: Mapping[str, Any], file: WeightFile, source: Source
) -> tuple[dict[str, Any], list[str]]:
    """Complete the arguments by those that the weights imply and that differ from the network's defaults.

    Args:
        arguments: Given arguments, without defaults.
        file: Weights file.
        source: Source of the file.

    Returns:
        All arguments, and the flags of those that were added, such as ``--network.output_stride 8``.

    Raises:
        InputError: A given argument has another value than the weights require, even if it is the default.
    """
    parameters = inspect.signature(MODELS[source.model]).parameters
    required = source.required_for(file)
    implied = dict(source.training_arguments)
    if "encoder" in parameters and "encoder" not in required:
        encoder = file.arguments.get("encoder") or encoder_of(file.tensors, source)
        implied |= {"encoder": encoder} if encoder else {}
    result, added, conflicts = dict(arguments), [], []
    for name, value in {**implied, **required}.items():
        given = arguments.get(name)
        if given is None:  # null in a recipe means that it is not given
            if not _equal(value, parameters[name].default):
                result[name] = list(value) if isinstance(value, tuple) else value  # as YAML returns it
                added.append(_flag(name, value))
        elif name in required and value is not None and not _equal(given, value):
            conflicts.append(f"{_flag(name, value)} (found {_shown(given)})")
    if conflicts:
        raise InputError(
            f"{file.path}: {source.name}, whose weights require {', '.join(conflicts)}; leave out these arguments"
        )
    return result, added


def _equal(one: Any, other: Any) -> bool:
    """Compare values; a list equals a tuple, because YAML has no tuples."""
    return (list(one) if isinstance(one, tuple) else one) == (list(other) if isinstance(other, tuple) else other)


def _flag(name: str, value: Any) -> str:
    return f"--network.{name} {_shown(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "null"
    return "'" + str(list(value)) + "'" if isinstance(value, list | tuple) else str(value)


def encoder_of(tensors: Mapping[str, Tensor], source: Source) -> str | None:
    """Find timm's name of the encoder by the shapes of its tensors; None outside of the ResNet family, VGG and MiT."""
    shapes = {}
    for name, value in tensors.items():
        new = renamed(name, source.rules)
        if new is not None and new.startswith("encoder."):
            shapes[new.removeprefix("encoder.").removeprefix("network.")] = tuple(value.shape)
    return _resnet(shapes) or _vgg(shapes) or _mit(shapes)


_RESNETS: dict[tuple[object, ...], str] = {
    ("basic", 2, 2, 2, 2): "resnet18",
    ("basic", 3, 4, 6, 3): "resnet34",
    ("bottleneck", 3, 4, 6, 3): "resnet50",
    ("bottleneck", 3, 4, 23, 3): "resnet101",
    ("bottleneck", 3, 8, 36, 3): "resnet152",
}
_WIDER = {
    ("resnet50", 128, 128): "wide_resnet50_2",
    ("resnet101", 128, 128): "wide_resnet101_2",
    ("resnet50", 128, 4): "resnext50_32x4d",
    ("resnet101", 256, 8): "resnext101_32x8d",
}
_STEMS = {(64, 128, False): "s", (32, 64, False): "c", (32, 64, True): "d"}
"""Channels of the first and last of a stem's three convolutions, and whether average pooling downsamples -> timm's letter."""


def _resnet(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    blocks = [
        len({name.split(".")[1] for name in shapes if name.startswith(f"layer{stage}.")}) for stage in (1, 2, 3, 4)
    ]
    kind = "bottleneck" if "layer1.0.conv3.weight" in shapes else "basic"
    name = _RESNETS.get((kind, *blocks))
    if name is None or any(".se." in key for key in shapes):
        return None
    if kind == "bottleneck":
        width, inside, *_ = shapes.get("layer1.0.conv2.weight", (64, 64))
        name = name if (width, inside) == (64, 64) else _WIDER.get((name, width, inside))
    if name is not None and "conv1.0.weight" in shapes:
        averages = len(shapes.get("layer2.0.downsample.1.weight", ())) == 4
        stem = _STEMS.get((shapes["conv1.0.weight"][0], shapes["conv1.6.weight"][0], averages))
        name = f"{name}{stem}" if stem else None
    return name


_MITS: dict[tuple[int, ...], str] = {
    (32, 2, 2, 2, 2): "mit_b0",
    (64, 2, 2, 2, 2): "mit_b1",
    (64, 3, 4, 6, 3): "mit_b2",
    (64, 3, 4, 18, 3): "mit_b3",
    (64, 3, 8, 27, 3): "mit_b4",
    (64, 3, 6, 40, 3): "mit_b5",
}


def _mit(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    first = shapes.get("patch_embed.proj.weight")
    blocks = [
        len({name.split(".")[3] for name in shapes if name.startswith(f"stages.{stage}.blocks.")}) for stage in range(4)
    ]
    return _MITS.get((first[0], *blocks)) if first else None


_VGGS = {8: "vgg11", 10: "vgg13", 13: "vgg16", 16: "vgg19"}


def _vgg(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    convs = sum(name.startswith("features") and len(shape) == 4 for name, shape in shapes.items())
    normed = any(name.startswith("features") and name.endswith("running_mean") for name in shapes)
    return f"{_VGGS[convs]}{'_bn' if normed else ''}" if convs in _VGGS else None
