"""docs/how-to/augmentation.md: its recipes are taken, and its table is what the presets hold."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from imageseg.pipeline.augment import PRESETS, Augmentation
from imageseg.registry import parameters_of

PAGE = (Path(__file__).parents[1] / "docs/how-to/augmentation.md").read_text(encoding="utf-8")


def test_the_recipes_are_taken() -> None:
    recipes = [yaml.safe_load(block)["data"] for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    assert len(recipes) == 2
    assert set(recipes[0]) == set(parameters_of(Augmentation)), "the first one names every argument"
    for recipe in recipes:
        Augmentation(**recipe)


def test_the_table_tells_which_preset_has_which_step_and_how_often() -> None:
    rows = re.findall(r"^\| (\w+) \| (.*) \| (.*) \| (.*) \|$|^\| (\w+) \|(.*)\|(.*)\|(.*)\|$", PAGE, re.MULTILINE)
    told: dict[str, dict[str, str]] = {preset: {} for preset in PRESETS}
    for row in rows:
        name, *cells = row[:4] if row[0] else row[4:]
        for preset, cell in zip(PRESETS, cells, strict=True):
            if chance := re.search(r"p ([\d.]+)", cell):
                told[preset][name] = chance[1]
    held = {
        preset: {name: str(arguments["p"]) for step in steps for name, arguments in step.items() if arguments}
        for preset, steps in PRESETS.items()
    }
    assert told == held
