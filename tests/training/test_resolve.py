"""What a recipe's sections stand for, and the recipe that is written out in full."""

import pytest

from imageseg import InputError, Recipe
from imageseg.datasets.voc.dataset import VOC
from imageseg.pipeline.loader import Loading
from imageseg.training.resolve import arguments_by_taker, completed, takers


def test_no_two_classes_of_a_section_take_an_argument_of_one_name() -> None:
    import imageseg

    for use in imageseg.DATASETS:
        for model in imageseg.MODELS:
            for section, classes in takers(use, model).items():
                recipe = completed(Recipe(use, model))
                names = sum(len(arguments_by_taker(recipe)[takes]) for takes in classes)
                assert names == len(getattr(recipe, section)), (use, model, section)


def test_a_completed_recipe_has_every_default_and_is_its_own_completion() -> None:
    recipe = completed(Recipe("VOCModule", "unet", data={"crop_size": (8, 9)}))
    assert (recipe.use, recipe.model) == ("VOC", "UNet")
    assert recipe.data["crop_size"] == [8, 9]
    assert recipe.data["scale"] == [0.5, 2.0]
    assert recipe.trainer["max_epochs"] == 50
    assert completed(recipe) == recipe


def test_each_class_gets_its_own() -> None:
    parts = arguments_by_taker(completed(Recipe("VOC", "UNet", data={"year": 2007, "batch_size": 3})))
    assert parts[VOC]["year"] == 2007
    assert parts[Loading]["batch_size"] == 3
    assert "batch_size" not in parts[VOC]


def test_an_argument_that_nobody_takes_is_named() -> None:
    with pytest.raises(InputError, match="section 'task' of VOC with UNet has no argument 'rate'"):
        completed(Recipe("VOC", "UNet", task={"rate": 1}))
