"""Networks that start from weights: ``build_model`` for all of them, ``InitialWeights`` for a file that is read once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import timm
import torch

from imageseg.errors import InputError
from imageseg.models import MODELS, WeightFiles, build_network, build_untrained
from imageseg.models.base import Network
from imageseg.models.fcn import FCN, FCNSkipHead
from imageseg.registry import arguments_for, check_arguments, parameters_of
from imageseg.weight_files import WeightFile, read_weights
from imageseg.weights.classifier_rows import count_classes, extra_classifier_rows
from imageseg.weights.implied_arguments import with_implied_arguments
from imageseg.weights.load_encoder import fully_connected_of, load_encoder
from imageseg.weights.match import LoadedWeights, load_matching, match_tensors, renamed
from imageseg.weights.recognize import recognize
from imageseg.weights.sources.source import Source

logger = logging.getLogger(__name__)


def build_model(name: str, num_classes: int, *, class_names: Sequence[str] | None = None, **arguments: Any) -> Network:
    """Build a network by name.

    Args:
        name: Key of ``MODELS``, in any spelling.
        num_classes: Number of logits per pixel.
        class_names: Names of the classes. If ``weights`` has a classifier for other classes, the rows of the classes with
            the same name are kept.
        arguments: Arguments of the network's class and of ``WeightFiles``.

    Raises:
        InputError: The name or an argument is unknown, the encoder does not fit or has no weights, or a weights file cannot
            be read or does not fit.
    """
    network = MODELS[name]
    check_arguments([network, WeightFiles], arguments, MODELS.resolve(name))
    if (weights := read_initial_weights(name, arguments)) is not None:
        return weights.build(num_classes, class_names=class_names)
    own = arguments_for(network, arguments)
    if (path := arguments.get("encoder_weights")) is not None:
        return _with_encoder_weights(path, MODELS.resolve(name), num_classes, own)
    return build_network(name, num_classes, own)


def is_pretrained(arguments: Mapping[str, Any]) -> bool:
    """Whether a network with these arguments, every default written out, starts from pretrained weights."""
    files = [entry.name for entry in fields(WeightFiles)]
    return bool(arguments.get("pretrained", False)) or any(arguments.get(name) is not None for name in files)


@dataclass(frozen=True)
class InitialWeights:
    """A weights file that has been read, and the arguments of the network that it initializes."""

    file: WeightFile
    source: Source
    arguments: dict[str, Any]
    """The given arguments, completed by those that the weights imply."""

    @property
    def model(self) -> str:
        """The name of the network."""
        return self.source.model

    def build(self, num_classes: int, *, class_names: Sequence[str] | None = None) -> Network:
        """Build the network, load the file's tensors and log what was loaded.

        Raises:
            InputError: Less than 95 % of the encoder's tensors fit.
        """
        network, loaded = self.load(num_classes, class_names=class_names)
        logger.info(loaded.summary())
        return network

    def load(self, num_classes: int, *, class_names: Sequence[str] | None = None) -> tuple[Network, LoadedWeights]:
        """Build the network and load the file's tensors; return both the network and what was loaded.

        Raises:
            InputError: Less than 95 % of the encoder's tensors fit.
        """
        network = build_untrained(self.model, num_classes, self.arguments)
        extra_rows = extra_classifier_rows(self.model, self.arguments)
        loaded = load_matching(network, self.file, self.source, extra_rows=extra_rows, class_names=class_names)
        network.pretrained = True
        return network, loaded

    def num_classes(self) -> int | None:
        """Count the classes of the file's classifier; None if it has no classifier."""
        with torch.device("meta"):
            ours = build_untrained(self.model, 2, self.arguments).state_dict()
        found, _ = match_tensors(self.file, self.source, ours)
        return count_classes(found, extra_classifier_rows(self.model, self.arguments))

    def has_auxiliary_head(self) -> bool:
        """Whether the file has an auxiliary head that the network can use."""
        return any((renamed(name, self.source.rules) or "").startswith("auxiliary.") for name in self.file.tensors)


def read_initial_weights(model: str, arguments: Mapping[str, Any]) -> InitialWeights | None:
    """Read the file that the argument ``weights`` names, and log the arguments that it sets.

    Args:
        model: Name of the network.
        arguments: Given arguments, without defaults; one that contradicts the weights is an error.

    Returns:
        The weights; None if ``weights`` is not given.

    Raises:
        InputError: The file cannot be read, is for another network, or implies other values than were given, or
            ``encoder_weights`` is given as well.
    """
    path = arguments.get("weights")
    if path is None:
        return None
    if arguments.get("encoder_weights") is not None:
        raise InputError("--network.weights holds an encoder too; pass it or --network.encoder_weights, not both")
    file = read_weights(path)
    return initial_weights(file, recognize(file, MODELS.resolve(model), arguments), arguments)


def initial_weights(file: WeightFile, source: Source, arguments: Mapping[str, Any]) -> InitialWeights:
    """Complete the given arguments by those that the weights imply, and log the latter.

    Raises:
        InputError: A given argument contradicts the weights.
    """
    completed, flags = with_implied_arguments(arguments, file, source)
    if flags:
        logger.info(f"{file.path}: {source.name}; sets {', '.join(flags)}")
    return InitialWeights(file, source, completed)


def _with_encoder_weights(path: str, model: str, num_classes: int, arguments: Mapping[str, Any]) -> Network:
    if "encoder" not in parameters_of(MODELS[model]):
        raise InputError(
            f"{model} has an encoder of its own, for which no weights are published; leave out encoder_weights"
        )
    file = read_weights(path)
    network = build_untrained(model, num_classes, arguments)
    name = str(getattr(network.encoder, "name", arguments.get("encoder", "")))
    with torch.device("meta"):
        classifier = timm.create_model(name, pretrained=False).state_dict() if timm.is_model(name) else {}
    load_encoder(network.encoder, file, name=name, classifier_names=set(classifier))
    if isinstance(network, FCN) and isinstance(network.head, FCNSkipHead) and network.head.fc6 is not None:
        _load_fully_connected(network.head, file)
    network.pretrained = True
    return network


def _load_fully_connected(head: FCNSkipHead, file: WeightFile) -> None:
    """Load VGG's fully connected layers, which FCN has in its head."""
    layers = fully_connected_of(file)
    if layers is None:
        logger.info(f"{file.path}: has no fully connected layers; FCN's (head.fc6, head.fc7) are initialized randomly")
        return
    theirs = [tuple(layer.weight.shape) for layer in layers]
    ours = [tuple(head.state_dict()[f"{name}.weight"].shape) for name in ("fc6", "fc7")]
    if ours != theirs:
        logger.info(
            f"{file.path}: fully connected layers are {theirs} and FCN's {ours}, which are initialized randomly"
        )
        return
    head.take_fully_connected(layers)
