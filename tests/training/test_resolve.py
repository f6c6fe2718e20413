"""Resolution of a recipe: canonical names, implied arguments, defaults, and which component gets which argument."""

import pytest

from imageseg import InputError, Recipe
from imageseg.datasets.voc.dataset import VOC
from imageseg.pipeline.loader import Loading
from imageseg.training.resolve import ResolvedRecipe, resolve, section_owners, with_defaults


def test_argument_names_are_unique_within_a_section() -> None:
    import imageseg

    for use in imageseg.DATASETS:
        for model in imageseg.MODELS:
            resolved = ResolvedRecipe(with_defaults(Recipe(use, model)), None)
            for section, components in section_owners(use, model).items():
                names = sum(len(resolved.arguments(component)) for component in components)
                assert names == len(getattr(resolved.recipe, section)), (use, model, section)


def test_a_resolved_recipe_has_every_default_and_resolves_to_itself() -> None:
    recipe = resolve(Recipe("VOCModule", "unet", data={"crop_size": (8, 9)})).recipe
    assert (recipe.use, recipe.model) == ("VOC", "UNet")
    assert recipe.data["crop_size"] == [8, 9]
    assert recipe.data["scale"] == [0.5, 2.0]
    assert recipe.trainer["max_epochs"] == 50
    assert resolve(recipe).recipe == recipe


def test_each_component_gets_its_own_arguments() -> None:
    resolved = resolve(Recipe("VOC", "UNet", data={"year": 2007, "batch_size": 3}))
    assert resolved.arguments(VOC)["year"] == 2007
    assert resolved.arguments(Loading)["batch_size"] == 3
    assert "batch_size" not in resolved.arguments(VOC)


def test_an_unknown_argument_is_named() -> None:
    with pytest.raises(InputError, match="section 'task' of VOC with UNet has no argument 'rate'"):
        resolve(Recipe("VOC", "UNet", task={"rate": 1}))
