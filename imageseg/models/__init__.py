"""The networks, by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from imageseg.errors import InputError
from imageseg.models.weights import WeightFiles
from imageseg.names import NameTable, arguments_for, check_arguments, parameters_of

if TYPE_CHECKING:
    from imageseg.models.base import Network

MODELS: NameTable[Network] = NameTable(
    "network",
    {
        "FCN": "imageseg.models.fcn:FCN",
        "DeConvNet": "imageseg.models.deconvnet:DeconvNet",
        "UNet": "imageseg.models.unet:UNet",
        "UNetClassic": "imageseg.models.unet_classic:UNetClassic",
        "SegNet": "imageseg.models.segnet:SegNet",
        "FPN": "imageseg.models.fpn:FPN",
        "PSPNet": "imageseg.models.pspnet:PSPNet",
        "DeepLabV3": "imageseg.models.deeplabv3:DeepLabV3",
        "DeepLabv3_plus": "imageseg.models.deeplabv3_plus:DeepLabV3Plus",
        "UPerNet": "imageseg.models.upernet:UPerNet",
        "LRASPP": "imageseg.models.lraspp:LRASPP",
        "SegFormer": "imageseg.models.segformer:SegFormer",
        "EfficientViT": "imageseg.models.efficientvit:EfficientViTSeg",
        "ViTLinear": "imageseg.models.vit_linear:ViTLinear",
        "EoMT": "imageseg.models.eomt:EoMT",
    },
)

_MAY_BE_ZERO = ("layers",)
"""Whole-number arguments of networks that are not sizes or counts, but indices."""


def tell(line: str) -> None:
    """Prints what became of a file of weights to standard error."""
    print(f"imageseg: {line}", file=sys.stderr)


def build_model(
    name: str,
    num_classes: int,
    *,
    class_names: Sequence[str] | None = None,
    say: Callable[[str], None] = tell,
    **arguments: Any,
) -> Network:
    """The network of that name.

    Args:
        name: a key of ``MODELS``, in any usual spelling.
        num_classes: the number of logits per pixel.
        class_names: of the classes; a classifier that ``weights`` hold for others keeps the rows of those that it knows.
        say: takes a line for the user about ``weights``.
        arguments: of the network's class, and of ``WeightFiles``.

    Raises:
        InputError: an unknown name, an argument that this network lacks, an encoder that does not fit or has no weights, or
            files of weights that cannot be read or do not fit.
    """
    network = MODELS[name]
    check_arguments([network, WeightFiles], arguments, MODELS.resolve(name))
    files = WeightFiles(**arguments_for(WeightFiles, arguments))
    own = arguments_for(network, arguments)
    if files.weights is not None or files.encoder_weights is not None:
        from imageseg.models.weights.building import build_from

        return build_from(files, MODELS.resolve(name), num_classes, own, class_names=class_names, say=say)
    return _built(name, num_classes, own)


def build_untrained(name: str, num_classes: int, arguments: Mapping[str, Any]) -> Network:
    """The network of that name without published weights, for weights of one's own to be loaded into."""
    network = MODELS[name]
    check_arguments([network, WeightFiles], arguments, MODELS.resolve(name))
    own = arguments_for(network, arguments)
    return _built(
        name, num_classes, {**own, **({"pretrained": False} if "pretrained" in parameters_of(network) else {})}
    )


def begins_pretrained(arguments: Mapping[str, Any]) -> bool:
    """Whether a network of these arguments, with every default written out, begins with weights that were trained before."""
    files = [entry.name for entry in fields(WeightFiles)]
    return bool(arguments.get("pretrained", False)) or any(arguments.get(name) is not None for name in files)


def with_settings_of_weights(
    name: str, arguments: Mapping[str, Any], *, say: Callable[[str], None] = tell
) -> dict[str, Any]:
    """The arguments, with those that ``weights`` presume in the place of defaults.

    Args:
        name: of the network.
        arguments: that the user has given, without defaults: one that contradicts the weights is an error.
        say: takes a line for the user about what was set.

    Raises:
        InputError: the file cannot be read, is another network's, or presumes other values than were given.
    """
    if arguments.get("weights") is None:
        return dict(arguments)
    from imageseg.models.weights.building import settings

    return settings(MODELS.resolve(name), arguments, say=say)


def _built(name: str, num_classes: int, arguments: Mapping[str, Any]) -> Network:
    for argument, value in arguments.items():
        numbers = value if isinstance(value, list | tuple) else [value]
        if argument not in _MAY_BE_ZERO and any(type(number) is int and number < 1 for number in numbers):
            raise InputError(f"{MODELS.resolve(name)}: {argument} must be 1 or more, found {value}")
    try:
        return MODELS[name](num_classes, **arguments)
    except InputError:
        raise
    # A dropout of 2, a list where a number belongs, more groups than channels.
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{MODELS.resolve(name)}: {error}") from error
