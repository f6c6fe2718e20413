"""The networks by name: each is one file, written from its paper.

Read ``base`` first (the contract ``Network``), then any network, then ``encoders`` and ``layers``. ``mask_classifier`` extends the
contract for networks that predict masks, ``row_bands`` predicts in bands of rows, ``catalog`` lists networks and encoders.
"""

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
    """Local weights files that any network can be initialized from.

    Args:
        weights: Weights file of a complete network: a checkpoint of imageseg, torchvision, segmentation_models_pytorch,
            hszhao/semseg, VainF, wkentaro, milesial, mmsegmentation or Lightning. It also sets the network arguments that it was
            trained with.
        encoder_weights: Weights file of the encoder only: a state dict of timm or torchvision (.safetensors, .pth or .bin).
    """

    weights: str | None = None
    encoder_weights: str | None = None


_MAY_BE_ZERO = ("layers",)
"""Integer arguments of networks that are indices instead of sizes or counts."""


def build_untrained(name: str, num_classes: int, arguments: Mapping[str, Any]) -> Network:
    """Build a network without published weights, into which other weights can be loaded."""
    network = MODELS[name]
    check_arguments([network, WeightFiles], arguments, MODELS.resolve(name))
    own = arguments_for(network, arguments)
    if "pretrained" in parameters_of(network):
        own["pretrained"] = False
    return build_network(name, num_classes, own)


def build_network(name: str, num_classes: int, arguments: Mapping[str, Any]) -> Network:
    """Build a network from the arguments of its class.

    Raises:
        InputError: An argument has an invalid value.
    """
    for argument, value in arguments.items():
        numbers = value if isinstance(value, list | tuple) else [value]
        if argument not in _MAY_BE_ZERO and any(type(number) is int and number < 1 for number in numbers):
            raise InputError(f"{MODELS.resolve(name)}: {argument} must be 1 or more, found {value}")
    try:
        return MODELS[name](num_classes, **arguments)
    except InputError:
        raise
    # For example a dropout rate of 2, a list instead of a number, or more groups than channels.
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{MODELS.resolve(name)}: {error}") from error
