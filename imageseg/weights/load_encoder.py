"""Weights of an encoder alone, from a file of an image classifier: all of its tensors, or an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from imageseg.errors import InputError
from imageseg.weight_files import WeightFile
from imageseg.weights.match import BATCH_COUNTER, comparable, renamed, reshaped_like
from imageseg.weights.sources.shared_rules import mit

_VGG_LAYERS = (r"(?:pre_logits\.fc1|classifier\.0)\.", r"(?:pre_logits\.fc2|classifier\.3)\.")
"""Names of the two fully connected layers of a VGG in timm and in torchvision."""
_MOVED = (
    (_VGG_LAYERS[0], "fully_connected.0."),
    (_VGG_LAYERS[1], "fully_connected.3."),
    # A pooling ViT normalizes after pooling; its encoder does not pool and normalizes at the end.
    (r"fc_norm\.", "norm."),
)
"""Renaming rules for layers that our encoders have in another place than timm's or torchvision's classifier."""
_NOT_IN_CLASSIFIERS = r"fully_connected\.[14]\."
"""Batch normalization of DeconvNet, which no VGG has."""


def load_encoder(encoder: nn.Module, file: WeightFile, *, name: str, classifier_names: set[str]) -> None:
    """Load a file's tensors into an encoder.

    Args:
        encoder: Encoder of a network.
        file: Weights of a classifier with this encoder.
        name: timm's name of the encoder.
        classifier_names: Names of all tensors of timm's classifier of that name; the file may hold those that the encoder lacks.

    Raises:
        InputError: A tensor of the encoder is missing or has another shape, or the file has tensors that the classifier lacks.
    """
    ours = encoder.state_dict()
    # The authors of SegFormer publish their encoders alone, with names of their own.
    rules = mit("") if "patch_embed1.proj.weight" in file.tensors else ()
    moved = _moved([_without_prefix(key) for key in file.tensors], ours)
    theirs = {
        comparable(renamed(key, rules) or f"encoder.{moved.get(_without_prefix(key), _without_prefix(key))}"): key
        for key in file.tensors
    }
    wanted = [key for key in ours if not key.endswith(BATCH_COUNTER) and not re.match(_NOT_IN_CLASSIFIERS, key)]
    if missing := [key for key in wanted if comparable(f"encoder.{key}") not in theirs]:
        raise InputError(
            f"{file.path}: lacks {len(missing)} of {len(wanted)} tensors of encoder '{name}' "
            f"({missing[0].removeprefix('network.')}, ...); pass the file of that encoder, or its name with --network.encoder"
        )
    loaded: dict[str, Tensor] = {}
    for key, our_value in ours.items():
        source = theirs.pop(comparable(f"encoder.{key}"), None)
        if source is None:
            continue
        value = reshaped_like(_with_channels_of(our_value, file.tensors[source]), our_value)
        if value is None:
            raise InputError(
                f"{file.path}: {source} is {list(file.tensors[source].shape)}, encoder '{name}' has {list(our_value.shape)}; "
                "pass the file of that encoder"
            )
        loaded[key] = value
    known = {comparable(f"encoder.{key}") for key in classifier_names}
    unknown = [
        key
        for spelling, key in theirs.items()
        if spelling not in known and not re.match(r"(classifier|fc|head)\b", _without_prefix(key))
    ]
    if unknown:
        raise InputError(
            f"{file.path}: has {len(unknown)} tensors that encoder '{name}' lacks ({unknown[0]}, ...); "
            "pass the file of that encoder"
        )
    encoder.load_state_dict({**ours, **loaded})


class FullyConnected(NamedTuple):
    """The fully connected layers of a VGG as convolutions, with timm's names."""

    fc1: nn.Conv2d
    fc2: nn.Conv2d


def fully_connected_of(file: WeightFile) -> FullyConnected | None:
    """Return the fully connected layers of a VGG's file; None if it lacks them."""
    by_name = {_without_prefix(key): value for key, value in file.tensors.items()}
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


def _moved(their_names: list[str], ours: Mapping[str, Tensor]) -> dict[str, str]:
    """Map the names of layers that the encoder has in another place to the encoder's names."""
    wanted = {comparable(f"encoder.{key}") for key in ours}
    moved = {}
    for name in their_names:
        new = renamed(name, _MOVED)
        if new is not None and new not in their_names and comparable(f"encoder.{new}") in wanted:
            moved[name] = new
    return moved


def _without_prefix(key: str) -> str:
    return re.sub(r"^(encoder|backbone)\.(network\.|model\.)?", "", key)


def _with_channels_of(ours: Tensor, theirs: Tensor) -> Tensor:
    """Adapt the first convolution to another number of input channels, as timm does."""
    if theirs.dim() != 4 or ours.dim() != 4 or theirs.shape[1] != 3 or ours.shape[1] == 3:
        return theirs
    if theirs.shape[0] != ours.shape[0] or theirs.shape[2:] != ours.shape[2:]:
        return theirs
    from timm.models import adapt_input_conv

    adapted: Tensor = adapt_input_conv(ours.shape[1], theirs)
    return adapted.to(torch.float32)
