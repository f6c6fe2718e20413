from __future__ import annotations

import re
from typing import Any

import pytest

from imageseg.cli.argument_values import kind
from imageseg.cli.arguments import recipe_from
from imageseg.datasets import DATASETS
from imageseg.errors import InputError
from imageseg.models import MODELS
from imageseg.registry import declared_arguments
from imageseg.training.resolve import section_owners


@pytest.mark.parametrize(
    ("flag", "value", "line"),
    [
        ("task.lr", "fast", "task.lr must be a number, found 'fast'"),
        ("task.lr", "", "task.lr must be a number, found ''"),
        ("data.pack", "maybe", "data.pack must be true or false, found 'maybe'"),
        ("data.crop_size", "256,512", "data.crop_size must be 2 integers in brackets, found '256,512'"),
        ("data.crop_size", "[256]", "data.crop_size must be 2 integers in brackets, found [256]"),
        ("trainer.max_steps", "1.5", "trainer.max_steps must be an integer or null, found '1.5'"),
        (
            "task.class_weights",
            "[1, a]",
            "task.class_weights must be numbers in brackets or null, found [1, a]",
        ),
        ("task.optimizer", "adamm", "task.optimizer must be one of sgd, adamw, found 'adamm' (did you mean 'adamw'?)"),
        ("task.optimizer", "lion", "task.optimizer must be one of sgd, adamw, found 'lion'"),
        ("data.year", "x", "data.year must be one of 2007, 2012 or an integer, found 'x'"),
    ],
)
def test_the_error_states_expected_type_value_found_and_likely_intention(flag: str, value: str, line: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(line)}$"):
        recipe_from(["--use", "VOC", "--model", "UNet", f"--{flag}", value], program="imageseg train")


def configurable_components() -> list[type]:
    datasets = [component for name in DATASETS for component in section_owners(name, "UNet")["data"]]
    networks = [component for name in MODELS for component in section_owners("VOC", name)["network"]]
    others = [component for section in ("task", "trainer") for component in section_owners("VOC", "UNet")[section]]
    return list(dict.fromkeys([*datasets, *networks, *others]))


@pytest.mark.parametrize("component", configurable_components(), ids=lambda component: component.__name__)
def test_every_argument_has_its_type_in_words_and_a_description(component: Any) -> None:
    for name, argument in declared_arguments(component).items():
        words = kind(argument.type)
        assert not re.search(r"[<|\[]|typing|Union|Literal|None", words), f"{name}: {words}"
        assert argument.description, name
