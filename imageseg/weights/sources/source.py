"""``Source``: a network of another project, how its files are recognized, and the network of imageseg that equals it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imageseg.weight_files import WeightFile
from imageseg.weights.input_normalization import InputNormalization

Rules = tuple[tuple[str, str], ...]
"""Pairs of a pattern for the beginning of a tensor's name and its replacement; the first match counts."""


@dataclass(frozen=True)
class Source:
    """A network of another project, and the network of imageseg that computes the same."""

    name: str
    model: str
    """Name of our network."""
    name_patterns: tuple[str, ...]
    """Patterns for the beginning of tensor names; a file of this source has a match for each."""
    rules: Rules
    """Renaming rules from their tensor names to ours; tensors that match no rule are unused."""
    required_arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of our network without which the weights mean another network."""
    training_arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that the weights were trained with and that the user may change."""
    required_if: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """Pairs of a pattern and the further arguments that are required if it matches a tensor's name."""
    class_names: tuple[str, ...] | None = None
    """Class names of the published weights; a file with another number of classes has been trained further."""
    encoder_by_order: bool = False
    """Whether the encoder's tensors correspond to ours by position, because no rule can map their names."""
    encoder_epsilon: float | None = None
    """Epsilon of the encoder's batch normalization, if it differs from timm's."""
    input_normalization: InputNormalization | None = None
    """Normalization of the images, if it differs from that of our networks."""
    refusal: str = ""
    """The reason why no network of imageseg can hold the weights, or an empty string."""

    def fits(self, file: WeightFile) -> bool:
        """Whether every pattern matches one of the file's tensor names."""
        return all(_matches(pattern, file) for pattern in self.name_patterns)

    def required_for(self, file: WeightFile) -> dict[str, Any]:
        """Return the arguments that a network needs for this file."""
        required = dict(self.required_arguments)
        for pattern, arguments in self.required_if:
            if _matches(pattern, file):
                required |= arguments
        return required

    def class_names_of(
        self, file: WeightFile, num_classes: int | None, *, network_classes: int
    ) -> tuple[str, ...] | None:
        """Return the names of the classes of the file's classifier, if known.

        The names of published weights are not assumed where file and network have equally many classes: if the file was
        trained further on other classes, its complete classifier is kept that way.

        Args:
            file: File that may name its classes.
            num_classes: Number of classes of the file's classifier.
            network_classes: Number of classes of the network.
        """
        names = file.class_names
        if not names and len(self.class_names or ()) != network_classes:
            names = self.class_names
        return names if names is not None and num_classes == len(names) else None


def _matches(pattern: str, file: WeightFile) -> bool:
    compiled = re.compile(pattern)
    return any(compiled.match(name) for name in file.tensors)
