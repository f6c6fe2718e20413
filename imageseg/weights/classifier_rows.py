"""The rows of classifiers, one for each class: which tensors have them, and which rows go to which classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from imageseg.models import build_untrained


def rows_besides(model: str, arguments: Mapping[str, Any]) -> dict[str, int]:
    """The names of a network's tensors that have a row for each class, and how many rows each has besides.

    Seen by building the network for two and for three classes: that a tensor is as long as there are classes may be chance.
    """
    with torch.device("meta"):
        two, three = (build_untrained(model, count, arguments).state_dict() for count in (2, 3))
    return {
        name: value.shape[0] - 2
        for name, value in two.items()
        if value.dim() and three[name].shape == (value.shape[0] + 1, *value.shape[1:])
    }


def classes_of(found: Mapping[str, Tensor], besides: Mapping[str, int]) -> int | None:
    """How many classes a file's tensors, by our names, tell apart; None where it has no classifier."""
    return next((int(found[name].shape[0]) - rows for name, rows in besides.items() if name in found), None)


class Rows:
    """What becomes of the rows of classifiers where the file's classes are others than the network's.

    Args:
        ours: the names of the network's classes, if known.
        theirs: those of the file's.
        besides: as ``rows_besides`` gives it.
    """

    def __init__(self, ours: Sequence[str] | None, theirs: Sequence[str] | None, besides: Mapping[str, int]) -> None:
        self._besides = besides
        self._theirs = 0 if theirs is None else len(theirs)
        our_names, their_names = ([_folded(name) for name in names or ()] for names in (ours, theirs))
        self._differ = ours is not None and theirs is not None and our_names != their_names
        place = {name: index for index, name in enumerate(their_names)}
        self._common = [(index, place[name]) for index, name in enumerate(our_names) if name in place]
        self.carried = 0
        """Classes whose rows were carried over."""

    def are_others(self, name: str, value: Tensor, there: Tensor) -> bool:
        """Whether the tensors have a row for each class, and the classes are not the same."""
        if name not in self._besides or value.shape[1:].numel() != there.shape[1:].numel():
            return False
        return value.shape[0] != there.shape[0] or (self._differ and self._are_named(name, value))

    def carry(self, name: str, value: Tensor, there: Tensor) -> None:
        """Copies the rows of the classes that both know by name, and those that are no class's, as EoMT's "no object"."""
        value = value.reshape(value.shape[0], *there.shape[1:])
        besides = self._besides[name]
        if besides:
            there[-besides:] = value[-besides:]
        if self._are_named(name, value):
            for row, of in self._common:
                there[row] = value[of]
            self.carried = len(self._common)

    def _are_named(self, name: str, value: Tensor) -> bool:
        return value.shape[0] - self._besides[name] == self._theirs


def _folded(name: str) -> str:
    """A name without case, blanks and punctuation, in any script."""
    return re.sub(r"[\W_]", "", name.casefold()) or name
