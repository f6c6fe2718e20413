"""Names of networks and datasets, and the arguments that their classes declare."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar, get_type_hints

from imageseg.errors import InputError, did_you_mean, unknown_name

T = TypeVar("T")

# Arguments that follow from the dataset and the network, so that no recipe holds them.
NOT_IN_RECIPES = ("num_classes", "network", "labels")


class NameTable(Mapping[str, type[T]], Generic[T]):
    """Mapping from a name to a class, which is imported on first use.

    Case, punctuation and the suffix "Module" do not matter: ``UNet``, ``unet`` and ``UNetModule`` find the same class.

    Args:
        kind: Kind of object that the names stand for ("network", "dataset"), for error messages.
        classes: Canonical name -> "package.module:Class". Listing the names imports none of them.
        spellings: Alternative spelling -> canonical name.
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
        self._canonical = {_normalized(name): name for name in classes}
        self._canonical.update({_normalized(spelling): name for spelling, name in (spellings or {}).items()})

    def resolve(self, name: str) -> str:
        """Return the canonical name.

        Raises:
            InputError: The name is unknown.
        """
        canonical = self._canonical.get(_normalized(name))
        if canonical is None:
            raise unknown_name(self.kind, name, self._classes)
        return canonical

    def __getitem__(self, name: str) -> type[T]:
        module, _, attribute = self._classes[self.resolve(name)].partition(":")
        found: type[T] = getattr(importlib.import_module(module), attribute)
        return found

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _normalized(name) in self._canonical

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)


def _normalized(name: str) -> str:
    """Strip case, punctuation and the suffix "Module", as in ``DeepLabV3+`` and ``CityscapeModule``."""
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("+", "plus")).removesuffix("module")


class Argument(NamedTuple):
    """One argument of a component, as its signature and docstring declare it."""

    type: Any
    default: Any
    description: str


def declared_arguments(component: Callable[..., Any]) -> dict[str, Argument]:
    """Return the arguments of a network, a dataset or another component that a recipe may set, by name."""
    import docstring_parser

    types = get_type_hints(component.__init__ if isinstance(component, type) else component)  # type: ignore[misc]
    documented = docstring_parser.parse(inspect.getdoc(component) or "").params
    descriptions = {entry.arg_name: " ".join((entry.description or "").split()) for entry in documented}
    signature = inspect.signature(component).parameters
    return {
        name: Argument(types.get(name, Any), signature[name].default, descriptions.get(name, ""))
        for name in parameters_of(component)
    }


def parameters_of(component: Callable[..., Any]) -> list[str]:
    """Return the names of the arguments of a component that a recipe may set."""
    return [name for name in inspect.signature(component).parameters if name not in NOT_IN_RECIPES]


def arguments_for(component: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a recipe's section that this component accepts; a section may serve several components."""
    return {name: value for name, value in values.items() if name in parameters_of(component)}


def check_arguments(components: Iterable[Callable[..., Any]], arguments: Iterable[str], owner: str) -> None:
    """Check that each argument belongs to one of the components.

    Raises:
        InputError: An argument is in none of the signatures; the message lists those that are.
    """
    known = [name for component in components for name in parameters_of(component)]
    for argument in arguments:
        if argument not in known:
            raise InputError(
                f"{owner} has no argument '{argument}'{did_you_mean(argument, known)}; it has {', '.join(known)}"
            )
