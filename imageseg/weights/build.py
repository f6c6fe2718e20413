"""A network that begins with a file of weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch

from imageseg.errors import InputError
from imageseg.models import MODELS, WeightFiles, build_untrained
from imageseg.models.base import Network
from imageseg.models.fcn import FCN, FCNSkipHead
from imageseg.registry import arguments_for, parameters_of
from imageseg.weight_files import WeightFile, read_weights
from imageseg.weights.classifier_rows import classes_of, rows_besides
from imageseg.weights.implied_arguments import recognised, settled
from imageseg.weights.load_encoder import fully_connected_of, load_encoder
from imageseg.weights.match import LoadedWeights, load, rename, renamed
from imageseg.weights.sources.source import Source

Say = Callable[[str], None]
logger = logging.getLogger(__name__)


# Stand-in for the interface of branch h-weights (weights_api.txt); the merge replaces this module.
@dataclass(frozen=True)
class InitialWeights:
    """Weights that a network starts from."""

    model: str
    arguments: dict[str, Any]

    def build(self, num_classes: int, *, class_names: Sequence[str] | None = None) -> Network:
        """Build the network."""
        return build_model(self.model, num_classes, class_names=class_names, **self.arguments)


def read_initial_weights(model: str, arguments: Mapping[str, Any]) -> InitialWeights | None:
    """Read the file that the argument ``weights`` names, if there is one."""
    from imageseg.weights import with_settings_of_weights

    if arguments.get("weights") is None:
        return None
    return InitialWeights(model, with_settings_of_weights(model, arguments, say=logger.info))


def build_model(name: str, num_classes: int, *, say: Say = logger.info, **arguments: Any) -> Network:
    """Build a network."""
    from imageseg import weights

    return weights.build_model(name, num_classes, say=say, **arguments)


def is_pretrained(arguments: Mapping[str, Any]) -> bool:
    """Return whether a network of these arguments starts from trained weights."""
    from imageseg.weights import begins_pretrained

    return begins_pretrained(arguments)


def build_from(
    files: WeightFiles,
    model: str,
    num_classes: int,
    arguments: Mapping[str, Any],
    *,
    class_names: Sequence[str] | None,
    say: Say,
) -> Network:
    """The network, with the weights of one of the two files.

    Raises:
        InputError: both files are named, or one that cannot be read or does not fit.
    """
    if files.weights is not None and files.encoder_weights is not None:
        raise InputError("--network.weights holds an encoder too; pass it or --network.encoder_weights, not both")
    if files.encoder_weights is not None:
        return _with_encoder_of(files.encoder_weights, model, num_classes, arguments, say=say)
    assert files.weights is not None
    file, source, arguments = settled_for(files.weights, model, arguments, say=say)
    network, loaded = build_loaded(file, source, num_classes, arguments, class_names=class_names)
    say(loaded.line())
    return network


def build_loaded(
    file: WeightFile,
    source: Source,
    num_classes: int,
    arguments: Mapping[str, Any],
    *,
    class_names: Sequence[str] | None = None,
) -> tuple[Network, LoadedWeights]:
    """The network that the source names, with the file's tensors, and what became of them.

    Raises:
        InputError: fewer than 95 % of the encoder's tensors fit.
    """
    network = build_untrained(source.model, num_classes, arguments)
    besides = rows_besides(source.model, arguments)
    loaded = load(network, file, source, besides=besides, class_names=class_names)
    network.pretrained = True
    return network, loaded


def settings(model: str, arguments: Mapping[str, Any], *, say: Say) -> dict[str, Any]:
    """The given arguments with those that the file of ``weights`` presumes, ``weights`` among them."""
    own = arguments_for(MODELS[model], arguments)
    return {**arguments, **settled_for(arguments["weights"], model, own, say=say)[2]}


def settled_for(
    path: str, model: str, arguments: Mapping[str, Any], *, say: Say
) -> tuple[WeightFile, Source, dict[str, Any]]:
    """The file, where it comes from, and the arguments with those that it presumes, which ``say`` is told of."""
    file, source = recognised(path, model, own_names=lambda: _names(model, arguments))
    settled_arguments, notes = settled(MODELS[model], arguments, file, source)
    if notes:
        say(f"{path}: {source.name}; sets {', '.join(f'--network.{note}' for note in notes)}")
    return file, source, settled_arguments


def classes_in(file: WeightFile, source: Source, arguments: Mapping[str, Any]) -> int | None:
    """How many classes a file's classifier tells apart; None where it has none."""
    with torch.device("meta"):
        ours = build_untrained(source.model, 2, arguments).state_dict()
    return classes_of(renamed(file, source, ours)[0], rows_besides(source.model, arguments))


def has_auxiliary(file: WeightFile, source: Source) -> bool:
    """Whether the file holds an auxiliary head that ours can take."""
    return any((rename(name, source.rules) or "").startswith("auxiliary.") for name in file.tensors)


def _names(model: str, arguments: Mapping[str, Any]) -> set[str]:
    with torch.device("meta"):
        return set(build_untrained(model, 2, arguments).state_dict())


def _with_encoder_of(path: str, model: str, num_classes: int, arguments: Mapping[str, Any], *, say: Say) -> Network:
    if "encoder" not in parameters_of(MODELS[model]):
        raise InputError(
            f"{model} has an encoder of its own, for which nobody publishes weights; leave out encoder_weights"
        )
    file = read_weights(path)
    network = build_untrained(model, num_classes, arguments)
    name = str(getattr(network.encoder, "name", arguments.get("encoder", "")))
    with torch.device("meta"):
        full = set(timm.create_model(name, pretrained=False).state_dict()) if timm.is_model(name) else set()
    load_encoder(network.encoder, file, name=name, full=full)
    if isinstance(network, FCN) and isinstance(network.head, FCNSkipHead) and network.head.fc6 is not None:
        _fill_fully_connected(network.head, file, say=say)
    network.pretrained = True
    return network


def _fill_fully_connected(head: FCNSkipHead, file: WeightFile, *, say: Say) -> None:
    """FCN has VGG's fully connected layers in its head."""
    layers = fully_connected_of(file)
    if layers is None:
        say(f"{file.path}: has no fully connected layers, so that FCN's (head.fc6, head.fc7) begin at random")
        return
    theirs = [tuple(layer.weight.shape) for layer in layers]
    ours = [tuple(head.state_dict()[f"{name}.weight"].shape) for name in ("fc6", "fc7")]
    if ours != theirs:
        say(f"{file.path}: its fully connected layers are {theirs} and FCN's {ours}, which begin at random")
        return
    head.take_fully_connected(layers)
