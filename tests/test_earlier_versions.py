"""Recipes and checkpoints of earlier versions: they load, and former names of arguments are accepted with one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

import imageseg
from imageseg import Recipe
from imageseg.checkpoint import read_checkpoint, read_record
from imageseg.cli.arguments import recipe_from
from imageseg.training.fit import train
from imageseg.training.resolve import resolve

FOLDER = Path(__file__).parent / "earlier_versions"
RECIPE = FOLDER / "recipe_0.1.0.dev0.yaml"
"""Printed by ``train --print_config`` of 2026-11-29: every argument of that version, with its value."""
CHECKPOINT = FOLDER / "run_0.1.0.dev0.ckpt"
"""Written by the same version after 200 steps on ToyScenes; its miou on the split "test" was 0.1981009895170206."""
NOTICE = "trainer.pictures is now called trainer.images; its value is used"


def test_every_argument_of_a_complete_recipe_is_accepted(caplog: pytest.LogCaptureFixture) -> None:
    given = recipe_from(["--config", str(RECIPE)], program="imageseg train")
    assert caplog.messages == [NOTICE]
    written = yaml.safe_load(RECIPE.read_text())
    written["trainer"]["images"] = written["trainer"].pop("pictures")
    assert given.to_dict() == written
    complete = resolve(given).recipe.to_dict()
    for section in ("data", "network", "task", "trainer"):
        assert {key: complete[section][key] for key in written[section]} == written[section]


def test_former_names_are_accepted_as_flags_in_files_and_in_python(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "old.yaml").write_text("trainer: {pictures: 7}")
    (tmp_path / "new.yaml").write_text("trainer: {images: 8}")
    names = ["--use", "VOC", "--model", "UNet"]
    for arguments, images in (
        (["--trainer.pictures", "5"], 5),
        (["--config", str(tmp_path / "old.yaml")], 7),
        (["--config", str(tmp_path / "new.yaml"), "--config", str(tmp_path / "old.yaml")], 7),
        (["--config", str(tmp_path / "old.yaml"), "--config", str(tmp_path / "new.yaml")], 8),
        (["--config", str(tmp_path / "old.yaml"), "--trainer.images", "9"], 9),
        (["--config", str(tmp_path / "new.yaml"), "--trainer.pictures", "6"], 6),
    ):
        caplog.clear()
        recipe = recipe_from([*names, *arguments], program="imageseg train")
        assert recipe.trainer == {"images": images}
        assert caplog.messages == [NOTICE]
    assert resolve(Recipe("VOC", "UNet", trainer={"pictures": 4})).recipe.trainer["images"] == 4


def test_both_names_at_once_are_refused() -> None:
    with pytest.raises(
        imageseg.InputError, match=r"trainer\.pictures is the former name of trainer\.images; give only"
    ):
        resolve(Recipe("VOC", "UNet", trainer={"pictures": 4, "images": 4}))


@pytest.fixture
def scenes(tmp_path: Path) -> str:
    imageseg.build_dataset("ToyScenes", tmp_path / "toys", size=(64, 64), counts=(4, 2, 2)).prepare()
    return str(tmp_path / "toys")


def test_a_checkpoint_gives_the_same_scores(scenes: str) -> None:
    recipe, _ = read_record(CHECKPOINT)
    recipe.data["root"] = scenes
    assert imageseg.evaluate(recipe, CHECKPOINT).miou == pytest.approx(0.1981009895170206, abs=1e-4)


def test_a_checkpoint_is_resumed(scenes: str, tmp_path: Path) -> None:
    checkpoint = tmp_path / "runs" / "old" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    shutil.copy(CHECKPOINT, checkpoint)
    recipe, _ = read_record(checkpoint)
    recipe.data["root"] = scenes
    recipe.trainer.update(name=None, resume=str(checkpoint), max_steps=202)
    assert train(recipe).folder == checkpoint.parent.parent
    assert read_checkpoint(checkpoint)["global_step"] == 202
