"""Runs with balanced classes: the same with workers and after a resume, and what they leave and say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import imageseg
from imageseg import InputError, Recipe
from imageseg.checkpoint import RUN_KEY, read_checkpoint, write_checkpoint
from imageseg.images import write_image
from imageseg.training.callbacks.checkpoints import AtomicCheckpoints
from imageseg.training.fit import TrainedRun, train


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("data") / "toys"
    imageseg.build_dataset("ToyScenes", root, size=(64, 64), counts=(8, 2, 2)).prepare()
    return str(root)


def recipe(scenes: str, output: Path, name: str | None, *, data: dict[str, Any], **trainer: Any) -> Recipe:
    return Recipe(
        use="ToyScenes",
        model="UNet",
        data={"root": scenes, "size": (64, 64), "counts": (8, 2, 2), "crop_size": (32, 32), "batch_size": 3}
        | {"num_workers": 0}
        | data,
        network={"encoder": "resnet10t", "pretrained": False, "decoder_channels": [8, 8, 8, 8, 8]},
        trainer={
            "max_steps": 6,
            "val_every": 3,
            "output": str(output),
            "name": name,
            "accelerator": "cpu",
            "precision": "32-true",
        }
        | {"log_every_n_steps": 1, "progress_bar": False, "images": 1}
        | trainer,
    )


@pytest.fixture(scope="module")
def run(scenes: str, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """With rare class sampling; its checkpoint after step 3 is kept."""
    kept = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as monkeypatch:
        save = AtomicCheckpoints.save_checkpoint

        def save_and_keep(self: AtomicCheckpoints, checkpoint: dict, path: str, storage_options: None = None) -> None:
            save(self, checkpoint, path)
            shutil.copy(path, kept / f"step{checkpoint['global_step']}.ckpt")

        monkeypatch.setattr(AtomicCheckpoints, "save_checkpoint", save_and_keep)
        trained = train(recipe(scenes, tmp_path_factory.mktemp("runs"), "whole", data={"balance": "rcs"}))
    shutil.copytree(kept, trained.folder / "kept")
    return trained


def last(run: TrainedRun) -> dict[str, Any]:
    return read_checkpoint(run.folder / "checkpoints" / "last.ckpt")


def assert_equal_runs(one: TrainedRun, other: TrainedRun) -> None:
    ends = [last(run) for run in (one, other)]
    for name, value in ends[0]["state_dict"].items():
        assert torch.equal(value, ends[1]["state_dict"][name]), name
    assert (one.folder / "seen_pixels.json").read_text() == (other.folder / "seen_pixels.json").read_text()


def test_workers_change_nothing(run: TrainedRun, scenes: str, tmp_path: Path) -> None:
    assert_equal_runs(run, train(recipe(scenes, tmp_path, "two", data={"balance": "rcs", "num_workers": 2})))


def test_a_resumed_run_ends_as_if_it_had_never_stopped(run: TrainedRun, scenes: str, tmp_path: Path) -> None:
    stopped = tmp_path / "stopped" / "checkpoints"
    stopped.mkdir(parents=True)
    shutil.copy(run.folder / "kept" / "step3.ckpt", stopped / "last.ckpt")
    resume = str(stopped / "last.ckpt")
    assert_equal_runs(run, train(recipe(scenes, tmp_path, None, data={"balance": "rcs"}, resume=resume)))


def test_balance_changes_what_is_seen(run: TrainedRun, scenes: str, tmp_path: Path) -> None:
    plain = train(recipe(scenes, tmp_path, "plain", data={}))
    whole, other = (json.loads((one.folder / "seen_pixels.json").read_text()) for one in (run, plain))
    pixels = 6 * 3 * 32 * 32
    assert whole["valid_pixels"] + whole["ignored_pixels"] == pixels == other["valid_pixels"] + other["ignored_pixels"]
    assert list(whole["classes"]) == list(run.labels.names)
    seen = [[entry["pixels"] for entry in figures["classes"].values()] for figures in (whole, other)]
    assert seen[0] != seen[1]
    counted = [entry["share_in_dataset"] for entry in whole["classes"].values()]
    assert sum(counted) == pytest.approx(1)
    assert {entry["share_in_dataset"] for entry in other["classes"].values()} == {None}


def test_tensorboard_has_what_was_seen_and_the_speed(run: TrainedRun) -> None:
    scalars: dict[str, set[int]] = {}
    for file in run.folder.glob("events.*"):
        events = EventAccumulator(str(file))
        events.Reload()
        for tag in events.Tags()["scalars"]:
            scalars.setdefault(tag, set()).update(event.step for event in events.Scalars(tag))
    assert scalars["seen/road"] == {3, 6}
    assert {f"seen/{name}" for name in run.labels.names} <= set(scalars)
    assert scalars["speed/waiting"] == scalars["speed/images_per_second"] == {2, 3, 4, 5, 6}


@pytest.mark.parametrize("balance", ["repeat", "focus", "auto"])
def test_a_removed_balance_is_refused_before_anything_is_written(scenes: str, tmp_path: Path, balance: str) -> None:
    with pytest.raises(InputError, match=rf"data\.balance '{balance}' was removed.*; use rcs"):
        train(recipe(scenes, tmp_path, "old", data={"balance": balance}))
    assert not (tmp_path / "old").exists()


@pytest.mark.parametrize("balance", ["repeat", "focus", "auto"])
def test_a_checkpoint_that_was_trained_with_a_removed_balance_still_predicts_and_is_evaluated(
    run: TrainedRun, tmp_path: Path, balance: str
) -> None:
    tree = read_checkpoint(run.checkpoint)
    tree[RUN_KEY]["recipe"]["data"]["balance"] = balance
    write_checkpoint(tree, tmp_path / "old.ckpt")
    image = np.zeros((64, 64, 3), np.uint8)
    one, other = (imageseg.Predictor.from_checkpoint(path)(image) for path in (run.checkpoint, tmp_path / "old.ckpt"))
    np.testing.assert_array_equal(one.classes, other.classes)
    old = Recipe.from_dict(tree[RUN_KEY]["recipe"])
    assert imageseg.evaluate(old, tmp_path / "old.ckpt").miou == run.scores.miou


def test_a_run_is_not_resumed_with_another_balance(run: TrainedRun, scenes: str, tmp_path: Path) -> None:
    checkpoint = str(run.folder / "kept" / "step3.ckpt")
    with pytest.raises(InputError, match=r"was trained with data\.balance rcs, this run has none"):
        train(recipe(scenes, tmp_path, "other", data={}, resume=checkpoint))


def test_a_checkpoint_that_is_older_than_the_option_is_resumed(scenes: str, tmp_path: Path) -> None:
    plain = train(recipe(scenes, tmp_path, "plain", data={}, max_steps=1, val_every=1))
    tree = last(plain)
    del tree[RUN_KEY]["recipe"]["data"]["balance"]
    del tree["callbacks"]["SeenPixels"]
    path = plain.folder / "checkpoints" / "last.ckpt"
    write_checkpoint(tree, path)
    train(recipe(scenes, tmp_path, None, data={}, max_steps=2, val_every=1, resume=str(path)))
    with pytest.raises(InputError, match=r"was trained with data\.balance none, this run has rcs"):
        train(recipe(scenes, tmp_path, None, data={"balance": "rcs"}, max_steps=3, val_every=1, resume=str(path)))


def test_masks_of_void_alone_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    root = tmp_path / "blank"
    for split in ("train", "val"):
        write_image(root / "images" / split / "a.png", np.zeros((64, 64, 3), np.uint8))
        write_image(root / "masks" / split / "a.png", np.full((64, 64), 255, np.uint8))
    (root / "labels.yaml").write_text("labels: [{name: road, color: [1, 2, 3], values: [0]}]")
    values = recipe(str(root), tmp_path / "runs", "run", data={"balance": "rcs"}).to_dict()
    data = {name: value for name, value in values["data"].items() if name not in ("size", "counts")}
    with pytest.raises(InputError, match=r"data\.balance rcs: the training split \(1 mask\) has no pixel that is not"):
        train(Recipe.from_dict(values | {"use": "Folder", "data": data}))
    assert not (tmp_path / "runs").exists()
