"""Resolution of a recipe: from the arguments that were given to those of the complete run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from inspect import Parameter
from typing import Any

from imageseg.checkpoint import read_record
from imageseg.datasets import DATASETS
from imageseg.models import MODELS, WeightFiles
from imageseg.pipeline.augment import Augmentation
from imageseg.pipeline.loader import Loading
from imageseg.recipe import Recipe, plain, with_current_names
from imageseg.registry import Argument, arguments_for, check_arguments, declared_arguments
from imageseg.training.task import SegmentationTask
from imageseg.training.trainer_options import TrainerOptions
from imageseg.weights.build import InitialWeights, read_initial_weights

Component = Callable[..., Any]


@dataclass(frozen=True)
class ResolvedRecipe:
    """A complete recipe, with the weights that the network starts from."""

    recipe: Recipe
    """Canonical names, and a value for every argument."""
    weights: InitialWeights | None
    """Contents of the file ``network.weights``, which is read only once. None if there is no file, or the run is resumed."""

    def arguments(self, component: Component) -> dict[str, Any]:
        """Return the arguments of one of the components that the recipe configures."""
        owners = section_owners(self.recipe.use, self.recipe.model)
        section = next(name for name, components in owners.items() if component in components)
        return arguments_for(component, getattr(self.recipe, section))


def resolve(given: Recipe) -> ResolvedRecipe:
    """Complete a recipe from what was given: canonical names, arguments that the weights file implies, then defaults.

    A resumed run takes its weights and its precision from the checkpoint, and reads no weights file.

    Args:
        given: Recipe without defaults. A given argument that contradicts the weights file is an error.

    Raises:
        InputError: A name or an argument is unknown, or the weights file cannot be read or does not fit.
    """
    given = with_canonical_names(given)
    resumed = given.trainer.get("resume") is not None
    weights = None if resumed else read_initial_weights(given.model, given.network)
    implied = given if weights is None else replace(given, network=weights.arguments)
    recipe = with_defaults(implied)
    if resumed and recipe.trainer["precision"] == "auto":
        recipe.trainer["precision"] = _precision_of(recipe.trainer["resume"])
    return ResolvedRecipe(recipe, weights)


def with_defaults(given: Recipe) -> Recipe:
    """Return a recipe with canonical names and the default of every argument that is not given, as plain values.

    Raises:
        InputError: A name is unknown, or an argument belongs to none of its section's components.
    """
    recipe = with_canonical_names(given)
    sections = {}
    for section, arguments in arguments_of_sections(recipe.use, recipe.model).items():
        defaults = {name: default for name, (_, default, _) in arguments.items() if default is not Parameter.empty}
        sections[section] = plain(defaults | getattr(recipe, section))
    return replace(recipe, **sections)


def with_canonical_names(given: Recipe) -> Recipe:
    """Return a recipe with the canonical names of the dataset, the network and all arguments.

    Raises:
        InputError: A name is unknown, or an argument belongs to none of its section's components.
    """
    use, model = DATASETS.resolve(given.use), MODELS.resolve(given.model)
    sections = {}
    for section, components in section_owners(use, model).items():
        sections[section] = with_current_names(section, getattr(given, section))
        check_arguments(components, sections[section], f"section '{section}' of {use} with {model}")
    return Recipe(use, model, **sections)


def arguments_of_sections(use: str, model: str) -> dict[str, dict[str, Argument]]:
    """Return the arguments that each section of a recipe may hold, for this dataset and this network."""
    return {
        section: {
            name: argument for component in components for name, argument in declared_arguments(component).items()
        }
        for section, components in section_owners(use, model).items()
    }


def section_owners(use: str, model: str) -> dict[str, list[Component]]:
    """Return the components that each section of a recipe configures, for this dataset and this network."""
    return {
        "data": [DATASETS[use], Augmentation, Loading],
        "network": [MODELS[model], WeightFiles],
        "task": [SegmentationTask],
        "trainer": [TrainerOptions],
    }


def _precision_of(checkpoint: str) -> str:
    """Return the precision that a checkpoint was trained in; the first ones did not record it."""
    trained_by, _ = read_record(checkpoint)
    return str(trained_by.trainer.get("precision", "32-true"))
