"""Where weights come from: how the names of each project's networks give it away, and what their numbers presume."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imageseg.weight_files import WeightFile
from imageseg.weights.input_normalization import Pixels

Rules = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Source:
    """A network of another project, and ours that can be made to equal it."""

    name: str
    model: str
    """Our network's name."""
    marks: tuple[str, ...]
    """Patterns of the beginning of names; every one of them must fit some name of the file."""
    rules: Rules
    """(pattern of the beginning of a name, what takes its place); the first that fits counts. No rule: without use."""
    preset: Mapping[str, Any] = field(default_factory=dict)
    """Arguments without which the same numbers mean another network."""
    habits: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that it was trained with, and that may change."""
    when: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """Further presets, each where its pattern fits some name."""
    class_names: tuple[str, ...] | None = None
    """Of the published weights; a file with another number of classes is somebody else's."""
    encoder_by_order: bool = False
    """The encoder's tensors are ours one by one, under names that no rule maps."""
    encoder_eps: float | None = None
    """Of the encoder's batch normalisations, where it is not timm's."""
    pixels: Pixels | None = None
    """What its first convolution takes, where that is not what our networks give it."""
    refusal: str = ""
    """Why no network of ours can be it; empty where one can."""

    def class_names_of(self, file: WeightFile, classes: int | None, *, others_than: int) -> tuple[str, ...] | None:
        """The names of the classes that the classifier's rows are of, if known.

        Args:
            file: which may name its classes.
            classes: how many its classifier tells apart.
            others_than: a number of classes for which the published weights' names are not taken on trust: a file that was
                trained on has them no more, and nothing is lost by keeping its classifier.
        """
        names = file.class_names or (self.class_names if len(self.class_names or ()) != others_than else None)
        return names if names is not None and classes == len(names) else None

    def fits(self, names: Sequence[str]) -> bool:
        """Whether every one of the marks fits one of the tensors' names."""
        return all(_fits(mark, names) for mark in self.marks)

    def arguments(self, names: Sequence[str]) -> dict[str, Any]:
        """The preset for a file of these names."""
        preset = dict(self.preset)
        for pattern, more in self.when:
            if _fits(pattern, names):
                preset |= more
        return preset


def _fits(pattern: str, names: Sequence[str]) -> bool:
    compiled = re.compile(pattern)
    return any(compiled.match(name) for name in names)
