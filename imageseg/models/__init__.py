"""The networks, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from imageseg.errors import InputError
from imageseg.names import NameTable, check_arguments, parameters_of

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


def build_model(name: str, num_classes: int, **arguments: Any) -> Network:
    """The network of that name.

    Args:
        name: a key of ``MODELS``, in any usual spelling.
        num_classes: the number of logits per pixel.
        arguments: of the network's class.

    Raises:
        InputError: an unknown name, an argument that this network lacks, an encoder that does not fit or has no weights.
    """
    network = MODELS[name]
    check_arguments([network], arguments, MODELS.resolve(name))
    try:
        return network(num_classes, **arguments)
    except InputError:
        raise
    except (ValueError, TypeError) as error:  # a dropout of 2, a list where a number belongs
        raise InputError(f"{MODELS.resolve(name)}: {error}") from error


def build_untrained(name: str, num_classes: int, arguments: Mapping[str, Any]) -> Network:
    """The network of that name without published weights, for weights of one's own to be loaded into."""
    takes_weights = "pretrained" in parameters_of(MODELS[name])
    return build_model(name, num_classes, **{**arguments, **({"pretrained": False} if takes_weights else {})})
