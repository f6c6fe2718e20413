"""Rows of classifier tensors, one per class: which tensors have them, and which rows are kept for which classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from imageseg.models import build_untrained


def extra_classifier_rows(model: str, arguments: Mapping[str, Any]) -> dict[str, int]:
    """Find the tensors of a network that have one row per class, and the number of rows that each has in addition.

    The network is built for two and for three classes, because a tensor may have as many rows as there are classes by chance.

    Returns:
        Name of each classifier tensor -> number of its rows that belong to no class, such as 1 for EoMT's "no object".
    """
    with torch.device("meta"):
        two, three = (build_untrained(model, count, arguments).state_dict() for count in (2, 3))
    return {
        name: value.shape[0] - 2
        for name, value in two.items()
        if value.dim() and three[name].shape == (value.shape[0] + 1, *value.shape[1:])
    }


def count_classes(tensors: Mapping[str, Tensor], extra_rows: Mapping[str, int]) -> int | None:
    """Count the classes of the classifier among tensors by our names; None if there is no classifier."""
    return next((int(tensors[name].shape[0]) - extra for name, extra in extra_rows.items() if name in tensors), None)


class ClassifierRows:
    """Transfer of classifier rows from a file to a network with other classes.

    Args:
        our_names: Names of the network's classes, if known.
        their_names: Names of the file's classes, if known.
        extra_rows: Classifier tensors and their additional rows, as ``extra_classifier_rows`` returns them.
    """

    def __init__(
        self, our_names: Sequence[str] | None, their_names: Sequence[str] | None, extra_rows: Mapping[str, int]
    ) -> None:
        self._extra_rows = extra_rows
        self._num_their_names = 0 if their_names is None else len(their_names)
        ours, theirs = ([_comparable(name) for name in names or ()] for names in (our_names, their_names))
        self._names_differ = our_names is not None and their_names is not None and ours != theirs
        position = {name: index for index, name in enumerate(theirs)}
        self._shared = [(index, position[name]) for index, name in enumerate(ours) if name in position]
        self.num_kept = 0
        """Number of classes whose rows were kept."""

    def differ(self, name: str, theirs: Tensor, ours: Tensor) -> bool:
        """Whether the tensors are classifiers for different classes."""
        if name not in self._extra_rows or theirs.shape[1:].numel() != ours.shape[1:].numel():
            return False
        return theirs.shape[0] != ours.shape[0] or (self._names_differ and self._is_named(name, theirs))

    def copy_shared(self, name: str, theirs: Tensor, ours: Tensor) -> None:
        """Copy the rows of classes with the same name, and the rows that belong to no class, into ``ours``."""
        theirs = theirs.reshape(theirs.shape[0], *ours.shape[1:])
        if extra := self._extra_rows[name]:
            ours[-extra:] = theirs[-extra:]
        if self._is_named(name, theirs):
            for our_row, their_row in self._shared:
                ours[our_row] = theirs[their_row]
            self.num_kept = len(self._shared)

    def _is_named(self, name: str, theirs: Tensor) -> bool:
        return theirs.shape[0] - self._extra_rows[name] == self._num_their_names


def _comparable(name: str) -> str:
    """Remove case, whitespace and punctuation from a name, in any script."""
    return re.sub(r"[\W_]", "", name.casefold()) or name
