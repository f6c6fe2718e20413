"""The encoder alone out of a file: a classifier's weights, whole or not at all."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from imageseg.errors import InputError
from imageseg.models.weights.files import WeightFile
from imageseg.models.weights.matching import COUNTER, bare, fitted_to, rename
from imageseg.models.weights.tables_shared import mit


def load_encoder(encoder: nn.Module, file: WeightFile, *, name: str, full: set[str]) -> None:
    """Puts a file's tensors into an encoder; every tensor of the encoder must be there, in its shape.

    Args:
        encoder: a network's.
        file: of a classifier, whose encoder it is.
        name: timm's name of the encoder.
        full: the names of all tensors of timm's classifier of that name: what of them the encoder lacks may be in the file.

    Raises:
        InputError: a tensor is missing or of another shape, or the file has some that no such classifier has.
    """
    ours = encoder.state_dict()
    # SegFormer's authors publish their encoders alone, under names of their own.
    rules = mit("") if "patch_embed1.proj.weight" in file.tensors else ()
    by_bare = {bare(rename(key, rules) or f"encoder.{_of_classifier(key)}"): key for key in file.tensors}
    state: dict[str, Tensor] = {}
    wanted = [key for key in ours if not key.endswith(COUNTER)]
    missing = [key for key in wanted if bare(f"encoder.{key}") not in by_bare]
    if missing:
        raise InputError(
            f"{file.path}: lacks {len(missing)} of {len(wanted)} tensors of encoder '{name}' "
            f"({missing[0].removeprefix('network.')}, ...); pass the file of that encoder, or its name with --network.encoder"
        )
    for key, there in ours.items():
        source = by_bare.pop(bare(f"encoder.{key}"), None)
        if source is None:
            continue
        value = _with_channels(file.tensors[source], there)
        fitted = fitted_to(value, there)
        if fitted is None:
            raise InputError(
                f"{file.path}: {source} is {list(file.tensors[source].shape)}, encoder '{name}' has {list(there.shape)}; pass the "
                "file of that encoder"
            )
        state[key] = fitted
    known = {bare(f"encoder.{key}") for key in full}
    strange = [
        key
        for bare, key in by_bare.items()
        if bare not in known and not re.match(r"(classifier|fc|head)\b", _of_classifier(key))
    ]
    if strange:
        raise InputError(
            f"{file.path}: has {len(strange)} tensors that encoder '{name}' lacks ({strange[0]}, ...); "
            "pass the file of that encoder"
        )
    encoder.load_state_dict({**ours, **state})


def _of_classifier(key: str) -> str:
    return re.sub(r"^(encoder|backbone)\.(network\.|model\.)?", "", key)


def _with_channels(value: Tensor, there: Tensor) -> Tensor:
    """The first convolution spread over another number of channels, as timm does it."""
    if value.dim() != 4 or there.dim() != 4 or value.shape[1] != 3 or there.shape[1] == 3:
        return value
    if value.shape[0] != there.shape[0] or value.shape[2:] != there.shape[2:]:
        return value
    from timm.models import adapt_input_conv

    spread: Tensor = adapt_input_conv(there.shape[1], value)
    return spread.to(torch.float32)
