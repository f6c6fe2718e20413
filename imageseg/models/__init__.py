"""The networks, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imageseg.errors import InputError
from imageseg.registry import NameTable, arguments_for, check_arguments, parameters_of

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


@dataclass(frozen=True)
class WeightFiles:
    """Files of weights on this machine that a network may begin with; every network takes them.

    Args:
        weights: of the whole network: a checkpoint of ours or of torchvision, segmentation_models_pytorch, hszhao/semseg,
            VainF, wkentaro, milesial, mmsegmentation or Lightning. The settings it was trained with come along.
        encoder_weights: of the encoder alone: timm's or torchvision's state dict, .safetensors, .pth or .bin.
    """

    weights: str | None = None
    encoder_weights: str | None = None


_MAY_BE_ZERO = ("layers",)
"""Whole-number arguments of networks that are not sizes or counts, but indices."""


def build_untrained(name: str, num_classes: int, arguments: Mapping[str, Any]) -> Network:
    """The network of that name without published weights, for weights of one's own to be loaded into."""
    network = MODELS[name]
    check_arguments([network, WeightFiles], arguments, MODELS.resolve(name))
    own = arguments_for(network, arguments)
    return build_network(
        name, num_classes, {**own, **({"pretrained": False} if "pretrained" in parameters_of(network) else {})}
    )


def build_network(name: str, num_classes: int, arguments: Mapping[str, Any]) -> Network:
    """The network of that name, from the arguments of its class alone.

    Raises:
        InputError: an argument that the class refuses.
    """
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
