"""What the sections of a recipe stand for: whose arguments they hold, their defaults, and who gets which."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from imageseg.datasets import DATASETS
from imageseg.models import MODELS, WeightFiles
from imageseg.pipeline.augment import Augmentation
from imageseg.pipeline.loader import Loading
from imageseg.recipe import Recipe
from imageseg.registry import arguments_for, check_arguments, parameters_of
from imageseg.training.task import SegmentationTask
from imageseg.training.trainer_options import Training

Taker = Callable[..., Any]


def takers(use: str, model: str) -> dict[str, list[Taker]]:
    """The classes whose arguments each section may hold, for this dataset and this network."""
    return {
        "data": [DATASETS[use], Augmentation, Loading],
        "network": [MODELS[model], WeightFiles],
        "task": [SegmentationTask],
        "trainer": [Training],
    }


def completed(recipe: Recipe) -> Recipe:
    """The same recipe with canonical names, every default written out, and values as YAML has them.

    Raises:
        InputError: an unknown name, or an argument that nobody takes.
    """
    use, model = DATASETS.resolve(recipe.use), MODELS.resolve(recipe.model)
    sections = {}
    for section, classes in takers(use, model).items():
        given = getattr(recipe, section)
        check_arguments(classes, given, f"section '{section}' of {use} with {model}")
        defaults = {name: value for takes in classes for name, value in _defaults(takes).items()}
        sections[section] = {name: _plain(value) for name, value in (defaults | given).items()}
    return replace(recipe, use=use, model=model, **sections)


def arguments_by_taker(recipe: Recipe) -> dict[Taker, dict[str, Any]]:
    """A recipe's values, by the class that takes them."""
    return {
        takes: arguments_for(takes, getattr(recipe, section))
        for section, classes in takers(recipe.use, recipe.model).items()
        for takes in classes
    }


def _defaults(takes: Taker) -> dict[str, Any]:
    signature = inspect.signature(takes).parameters
    return {
        name: signature[name].default
        for name in parameters_of(takes)
        if signature[name].default is not inspect.Parameter.empty
    }


def _plain(value: Any) -> Any:
    """Tuples as lists and paths as text, as YAML gives them back."""
    if isinstance(value, PurePath):
        return str(value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
