"""Which arguments a network must have for a file's weights to mean what they meant where they come from."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from imageseg.errors import InputError
from imageseg.weight_files import WeightFile
from imageseg.weights.match import rename
from imageseg.weights.sources.source import Source


def settled(
    network: Callable[..., Any], arguments: Mapping[str, Any], file: WeightFile, source: Source
) -> tuple[dict[str, Any], list[str]]:
    """The arguments with those that the weights presume, in the place of defaults.

    Args:
        network: the class.
        arguments: that the user has given, without defaults.
        file: of the weights.
        source: where they come from.

    Returns:
        All arguments, and ``name value`` of those that were set here.

    Raises:
        InputError: the user has given another value than the weights presume, if only the default's.
    """
    takes = inspect.signature(network).parameters
    names = list(file.tensors)
    must = source.arguments(names)
    may = dict(source.habits)
    if "encoder" in takes and "encoder" not in must:
        found = file.arguments.get("encoder") or encoder_of(file.tensors, source)
        may |= {"encoder": found} if found else {}
    result, notes, conflicts = dict(arguments), [], []
    for name, value in {**may, **must}.items():
        given = arguments.get(name)
        if given is None:  # unset, or set to be unset
            if not _same(value, takes[name].default):
                result[name] = list(value) if isinstance(value, tuple) else value  # as YAML gives it back
                notes.append(f"{name} {_shown(value)}")
        elif name in must and value is not None and not _same(given, value):
            conflicts.append((name, value, given))
    if conflicts:
        flags = ", ".join(
            f"--network.{name} {_shown(value)} (found {_shown(given)})" for name, value, given in conflicts
        )
        raise InputError(f"{file.path}: {source.name}, whose weights presume {flags}; leave these out")
    return result, notes


def _same(one: Any, other: Any) -> bool:
    """Equal, a list as good as a tuple: YAML has no tuples."""
    return (list(one) if isinstance(one, tuple) else one) == (list(other) if isinstance(other, tuple) else other)


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "null"
    return "'" + str(list(value)) + "'" if isinstance(value, list | tuple) else str(value)


def encoder_of(tensors: Mapping[str, Tensor], source: Source) -> str | None:
    """timm's name of the encoder that a file's tensors are of, for the ResNet family, VGG and MiT."""
    shapes = {}
    for name, value in tensors.items():
        new = rename(name, source.rules)
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
"""timm's letter for a stem of three convolutions: channels of the first and last, and whether strides are means."""


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
