"""Weights from elsewhere: files of other libraries, read without running code and renamed by tables of rules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from imageseg.models import MODELS, WeightFiles, build_network
from imageseg.registry import arguments_for, check_arguments

if TYPE_CHECKING:
    from imageseg.models.base import Network


def tell(line: str) -> None:
    """Prints what became of a file of weights to standard error."""
    print(f"imageseg: {line}", file=sys.stderr)


def build_model(
    name: str,
    num_classes: int,
    *,
    class_names: Sequence[str] | None = None,
    say: Callable[[str], None] = tell,
    **arguments: Any,
) -> Network:
    """The network of that name.

    Args:
        name: a key of ``MODELS``, in any usual spelling.
        num_classes: the number of logits per pixel.
        class_names: of the classes; a classifier that ``weights`` hold for others keeps the rows of those that it knows.
        say: takes a line for the user about ``weights``.
        arguments: of the network's class, and of ``WeightFiles``.

    Raises:
        InputError: an unknown name, an argument that this network lacks, an encoder that does not fit or has no weights, or
            files of weights that cannot be read or do not fit.
    """
    network = MODELS[name]
    check_arguments([network, WeightFiles], arguments, MODELS.resolve(name))
    files = WeightFiles(**arguments_for(WeightFiles, arguments))
    own = arguments_for(network, arguments)
    if files.weights is not None or files.encoder_weights is not None:
        from imageseg.weights.build import build_from

        return build_from(files, MODELS.resolve(name), num_classes, own, class_names=class_names, say=say)
    return build_network(name, num_classes, own)


def begins_pretrained(arguments: Mapping[str, Any]) -> bool:
    """Whether a network of these arguments, with every default written out, begins with weights that were trained before."""
    files = [entry.name for entry in fields(WeightFiles)]
    return bool(arguments.get("pretrained", False)) or any(arguments.get(name) is not None for name in files)


def with_settings_of_weights(
    name: str, arguments: Mapping[str, Any], *, say: Callable[[str], None] = tell
) -> dict[str, Any]:
    """The arguments, with those that ``weights`` presume in the place of defaults.

    Args:
        name: of the network.
        arguments: that the user has given, without defaults: one that contradicts the weights is an error.
        say: takes a line for the user about what was set.

    Raises:
        InputError: the file cannot be read, is another network's, or presumes other values than were given.
    """
    if arguments.get("weights") is None:
        return dict(arguments)
    from imageseg.weights.build import settings

    return settings(MODELS.resolve(name), arguments, say=say)
