"""NameTable: the names of networks and datasets, and the classes behind them, imported when first asked for."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from imageseg.errors import InputError, did_you_mean, unknown_name

T = TypeVar("T")

# Arguments that the program itself fills in: they follow from the dataset and the network.
NOT_IN_RECIPES = ("num_classes", "network", "labels")


class NameTable(Mapping[str, type[T]], Generic[T]):
    """A mapping from a name to its class. Any usual spelling of a name finds it: ``UNet``, ``unet``, ``VOCModule``.

    Args:
        kind: what the names name, for errors: "network", "dataset".
        classes: canonical name -> "package.module:Class". Listing the names imports none of them.
        spellings: further spellings -> canonical name.
    """

    def __init__(
        self,
        kind: str,
        classes: Mapping[str, str],
        *,
        spellings: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self._classes = dict(classes)
        self._canonical = {_bare(name): name for name in classes}
        self._canonical.update({_bare(spelling): name for spelling, name in (spellings or {}).items()})

    def resolve(self, name: str) -> str:
        """The canonical name.

        Raises:
            InputError: nobody knows the name.
        """
        canonical = self._canonical.get(_bare(name))
        if canonical is None:
            raise unknown_name(self.kind, name, self._classes)
        return canonical

    def __getitem__(self, name: str) -> type[T]:
        module, _, attribute = self._classes[self.resolve(name)].partition(":")
        found: type[T] = getattr(importlib.import_module(module), attribute)
        return found

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _bare(name) in self._canonical

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)


def _bare(name: str) -> str:
    """A name without case, punctuation and the mission's suffix: ``DeepLabV3+``, ``CityscapeModule``."""
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("+", "plus")).removesuffix("module")


def parameters_of(takes: Callable[..., Any]) -> list[str]:
    """The arguments of a network's, dataset's or other part's class that a recipe may hold."""
    return [name for name in inspect.signature(takes).parameters if name not in NOT_IN_RECIPES]


def arguments_for(takes: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Of a recipe's section, the values that this class takes: a section may serve several."""
    return {name: value for name, value in values.items() if name in parameters_of(takes)}


def check_arguments(takers: Iterable[Callable[..., Any]], arguments: Iterable[str], owner: str) -> None:
    """Raises:
    InputError: an argument that none of the signatures has, with the ones that they have.
    """
    known = [name for takes in takers for name in parameters_of(takes)]
    for argument in arguments:
        if argument not in known:
            raise InputError(
                f"{owner} has no argument '{argument}'{did_you_mean(argument, known)}; it has {', '.join(known)}"
            )
