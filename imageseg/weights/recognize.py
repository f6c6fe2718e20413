"""Recognition of a weights file: the project and the network that it comes from, by the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from imageseg.errors import InputError
from imageseg.models import MODELS, build_untrained
from imageseg.registry import arguments_for, parameters_of
from imageseg.weight_files import WeightFile
from imageseg.weights.sources import SOURCES
from imageseg.weights.sources.source import Rules, Source

_NEVER_KEPT = ("pretrained", "weights", "encoder_weights")
_MAY_CHANGE = ("output_stride", "dropout", "aux", "frozen")
"""Arguments of an imageseg checkpoint whose values may change without changing the meaning of the weights."""
_OWN_NAMES: Rules = (("", ""),)


def recognize(file: WeightFile, model: str | None = None, arguments: Mapping[str, Any] | None = None) -> Source:
    """Find where a weights file comes from.

    Args:
        file: File as ``read_weights`` returns it.
        model: Canonical name of the network that the weights are for. If None, any network that the file can hold.
        arguments: Arguments of that network, by which a plain state dict of imageseg is recognized.

    Raises:
        InputError: The file comes from an unknown project or belongs to another network or to one that imageseg lacks.
    """
    source = _own_checkpoint(file, file.model) if file.model is not None else _published(file)
    if source is None and model is not None:
        with torch.device("meta"):
            own_names = build_untrained(model, 2, arguments_for(MODELS[model], arguments or {})).state_dict()
        if 2 * len(own_names.keys() & file.tensors.keys()) > len(file.tensors):
            source = Source("a state dict of imageseg", model, (), _OWN_NAMES)
    if source is None:
        raise _unknown(file)
    if model is not None and source.model != model:
        raise InputError(
            f"{file.path}: {source.name}, which is {source.model} here and not {model}; pass --model {source.model}"
        )
    return source


def _own_checkpoint(file: WeightFile, model: str) -> Source:
    """Describe a checkpoint of imageseg.

    Raises:
        InputError: This version of imageseg lacks its network or one of its arguments.
    """
    if model not in MODELS:
        raise InputError(
            f"{file.path}: holds network '{model}', which this version of imageseg lacks; it has {', '.join(MODELS)}"
        )
    kept = {name: value for name, value in file.arguments.items() if name not in _NEVER_KEPT}
    known = parameters_of(MODELS[model])
    if unknown := [name for name in kept if name not in known]:
        raise InputError(
            f"{file.path}: holds a {MODELS.resolve(model)} with the argument '{unknown[0]}', which this version of imageseg "
            "lacks; use the version that wrote the file"
        )
    # Without an auxiliary head its width has no effect.
    may_change = (*_MAY_CHANGE, *(() if kept.get("aux") else ("aux_channels",)))
    return Source(
        "a checkpoint of imageseg",
        MODELS.resolve(model),
        (),
        _OWN_NAMES,
        required_arguments={name: value for name, value in kept.items() if name not in may_change},
        training_arguments={name: value for name, value in kept.items() if name in may_change},
    )


def _published(file: WeightFile) -> Source | None:
    """Find the first of ``SOURCES`` whose patterns all occur in the file; None if there is none.

    Raises:
        InputError: No network of imageseg can hold these weights.
    """
    for source in SOURCES:
        if source.fits(file):
            if source.refusal:
                raise InputError(f"{file.path}: {source.name}: {source.refusal}")
            return source
    return None


def _unknown(file: WeightFile) -> InputError:
    first = next(iter(file.tensors))
    if any(
        re.match(r"(conv1|conv_stem|_conv_stem|features|stages|blocks|patch_embed)\b", name) for name in file.tensors
    ):
        return InputError(
            f"{file.path}: holds a network without a decode head (its first tensor is {first}); pass it with "
            "--network.encoder_weights"
        )
    known = sorted({source.name for source in SOURCES if not source.refusal})
    return InputError(f"{file.path}: tensor names ({first}, ...) match no known source: {', '.join(known)}")
