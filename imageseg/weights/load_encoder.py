"""The encoder alone out of a file: a classifier's weights, whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from imageseg.errors import InputError
from imageseg.weight_files import WeightFile
from imageseg.weights.match import COUNTER, bare, fitted_to, rename
from imageseg.weights.sources.shared_rules import mit

_VGG_LAYERS = (r"(?:pre_logits\.fc1|classifier\.0)\.", r"(?:pre_logits\.fc2|classifier\.3)\.")
"""The two fully connected layers of a VGG, as timm and as torchvision name them."""
_MOVED = (
    (_VGG_LAYERS[0], "fully_connected.0."),
    (_VGG_LAYERS[1], "fully_connected.3."),
    # A ViT that was made to be pooled has its last normalisation after that, its encoder before.
    (r"fc_norm\.", "norm."),
)
"""What encoders of ours have in another place than the classifier."""
_ADDED = r"fully_connected\.[14]\."
"""DeconvNet's normalisations, which no VGG has."""


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
    moved = _moved([_of_classifier(key) for key in file.tensors], ours)
    by_bare = {
        bare(rename(key, rules) or f"encoder.{moved.get(_of_classifier(key), _of_classifier(key))}"): key
        for key in file.tensors
    }
    state: dict[str, Tensor] = {}
    wanted = [key for key in ours if not key.endswith(COUNTER) and not re.match(_ADDED, key)]
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


class FullyConnected(NamedTuple):
    """A VGG's fully connected layers as convolutions, by timm's names."""

    fc1: nn.Conv2d
    fc2: nn.Conv2d


def fully_connected_of(file: WeightFile) -> FullyConnected | None:
    """Those of the file; None where it lacks them."""
    by_name = {_of_classifier(key): value for key, value in file.tensors.items()}
    layers = []
    for pattern, kernel in zip(_VGG_LAYERS, (7, 1), strict=True):
        state = {re.sub(pattern, "", name): value for name, value in by_name.items() if re.match(pattern, name)}
        if state.keys() != {"weight", "bias"}:
            return None
        state["weight"] = state["weight"].reshape(len(state["bias"]), -1, kernel, kernel)
        layer = nn.Conv2d(state["weight"].shape[1], len(state["bias"]), kernel, device="meta")
        layer.load_state_dict(state, assign=True)
        layers.append(layer)
    return FullyConnected(*layers)


def _moved(theirs: list[str], ours: Mapping[str, Tensor]) -> dict[str, str]:
    """Of the file's names, those that the encoder has in another place, and which."""
    wanted = {bare(f"encoder.{key}") for key in ours}
    moved = {}
    for name in theirs:
        new = rename(name, _MOVED)
        if new is not None and new not in theirs and bare(f"encoder.{new}") in wanted:
            moved[name] = new
    return moved


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
