from __future__ import annotations

import re
from typing import Any, get_type_hints

import pytest

from imageseg.cli.arguments import recipe_from
from imageseg.cli.value_errors import kind
from imageseg.datasets import DATASETS
from imageseg.errors import InputError
from imageseg.models import MODELS
from imageseg.registry import parameters_of
from imageseg.training.resolve import takers


@pytest.mark.parametrize(
    ("flag", "value", "line"),
    [
        ("task.lr", "fast", "task.lr must be a number, found 'fast'"),
        ("task.lr", "", "task.lr must be a number, found ''"),
        ("data.pack", "maybe", "data.pack must be true or false, found 'maybe'"),
        ("data.crop_size", "256,512", "data.crop_size must be 2 whole numbers in brackets, found '256,512'"),
        ("data.crop_size", "[256]", "data.crop_size must be 2 whole numbers in brackets, found [256]"),
        ("trainer.max_steps", "1.5", "trainer.max_steps must be a whole number or null, found '1.5'"),
        (
            "task.class_weights",
            "[1, a]",
            "task.class_weights must be numbers in brackets or null, found [1.0, 'a']",
        ),
        ("task.optimizer", "adamm", "task.optimizer must be one of sgd, adamw, found 'adamm' (did you mean 'adamw'?)"),
        ("task.optimizer", "lion", "task.optimizer must be one of sgd, adamw, found 'lion'"),
        ("data.year", "x", "data.year must be one of 2007, 2012 or a whole number, found 'x'"),
    ],
)
def test_the_line_says_what_is_taken_found_and_meant(flag: str, value: str, line: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(line)}$"):
        recipe_from(["--use", "VOC", "--model", "UNet", f"--{flag}", value], program="imageseg train")


def classes_that_take_arguments() -> list[type]:
    datasets = [taker for name in DATASETS for taker in takers(name, "UNet")["data"]]
    networks = [taker for name in MODELS for taker in takers("VOC", name)["network"]]
    others = [taker for section in ("task", "trainer") for taker in takers("VOC", "UNet")[section]]
    return list(dict.fromkeys([*datasets, *networks, *others]))


@pytest.mark.parametrize("taker", classes_that_take_arguments(), ids=lambda taker: taker.__name__)
def test_every_argument_has_its_kind_in_words(taker: Any) -> None:
    types = get_type_hints(taker.__init__)
    for argument in parameters_of(taker):
        words = kind(types[argument])
        assert not re.search(r"[<|\[]|typing|Union|Literal|None", words), f"{argument}: {words}"
