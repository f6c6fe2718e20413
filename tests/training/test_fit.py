"""Complete runs on a few synthetic street scenes: their results, reproducibility and exact resumption."""

import functools
import json
import logging
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import write_fake

import imageseg
from imageseg import InputError, Recipe
from imageseg.checkpoint import read_checkpoint, read_record, write_checkpoint
from imageseg.cli import main
from imageseg.datasets.voc.dataset import VOC
from imageseg.images import write_image
from imageseg.models.base import Network
from imageseg.training import precision
from imageseg.training.callbacks.checkpoints import AtomicCheckpoints
from imageseg.training.fit import TrainedRun, train
from imageseg.training.task import SegmentationTask


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("data") / "toys"
    imageseg.build_dataset("ToyScenes", root, size=(64, 64), counts=(10, 3, 3)).prepare()
    return str(root)


def recipe(
    scenes: str, output: Path, name: str | None, *, data: dict | None = None, task: dict | None = None, **trainer
) -> Recipe:
    return Recipe(
        use="ToyScenesModule",
        model="DeepLabv3_plus",
        data={"root": scenes, "size": (64, 64), "counts": (10, 3, 3), "crop_size": (48, 48), "batch_size": 3}
        | {"num_workers": 0}
        | (data or {}),
        network={"encoder": "resnet10t", "pretrained": False, "channels": 8, "low_level_channels": 4, "dropout": 0.5},
        task={"lr": 0.05, "warmup_steps": 2} | (task or {}),
        trainer={"max_steps": 6, "val_every": 3, "output": str(output), "name": name, "accelerator": "cpu"}
        | {"precision": "32-true"}
        | {"log_every_n_steps": 1, "progress_bar": False}
        | trainer,
    )


def weights(run: TrainedRun) -> dict[str, torch.Tensor]:
    return read_checkpoint(run.folder / "checkpoints" / "last.ckpt")["state_dict"]


def assert_equal_runs(one: TrainedRun, other: TrainedRun) -> None:
    assert one.scores.to_dict(one.labels.names) == other.scores.to_dict(other.labels.names)
    for (name, value), expected in zip(weights(one).items(), weights(other).values(), strict=True):
        assert torch.equal(value, expected), name


@pytest.fixture(scope="module")
def run(scenes: str, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    with pytest.MonkeyPatch.context() as monkeypatch:
        saved: list[Path] = []
        kept = tmp_path_factory.mktemp("kept")
        save = AtomicCheckpoints.save_checkpoint

        def save_and_keep(self: AtomicCheckpoints, checkpoint: dict, path: str, storage_options: None = None) -> None:
            save(self, checkpoint, path)
            saved.append(Path(shutil.copy(path, kept / f"step{checkpoint['global_step']}.ckpt")))

        monkeypatch.setattr(AtomicCheckpoints, "save_checkpoint", save_and_keep)
        trained = train(recipe(scenes, tmp_path_factory.mktemp("runs"), "whole"))
    shutil.copytree(kept, trained.folder / "kept")
    return trained


def test_the_process_is_as_it_was_before(scenes: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A script that calls train keeps its environment variables, warning filters and log levels."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "imageseg")]
    before = dict(os.environ), list(warnings.filters), [logger.level for logger in loggers]
    train(recipe(scenes, tmp_path, "quiet", max_steps=1, val_every=1))
    assert (dict(os.environ), list(warnings.filters), [logger.level for logger in loggers]) == before
    with pytest.raises(InputError):
        train(recipe(scenes, tmp_path, "quiet"))
    assert (dict(os.environ), list(warnings.filters), [logger.level for logger in loggers]) == before


def test_a_run_writes_recipe_checkpoints_scores_and_predictions(run: TrainedRun) -> None:
    assert run.checkpoint.exists()
    assert (run.folder / "checkpoints" / "last.ckpt").exists()
    assert not list(run.folder.rglob(".tmp-*"))
    figures = json.loads((run.folder / "scores.json").read_text())
    assert figures["miou"] == run.scores.miou
    assert figures["split"] == "test"
    assert figures["images"] == 3
    assert set(figures["iou"]) == set(run.labels.names)
    assert len(list((run.folder / "predictions").glob("*_overlay.png"))) == 3
    assert Recipe.from_yaml(run.folder / "config.yaml").model == "DeepLabv3_plus"


def test_tensorboard_has_scalars_images_and_hyperparameters(run: TrainedRun) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tags: dict[str, set[str]] = {"scalars": set(), "images": set()}
    steps: set[int] = set()
    for file in run.folder.glob("events.*"):
        events = EventAccumulator(str(file))
        events.Reload()
        for kind in tags:
            tags[kind] |= set(events.Tags()[kind])
        if "train/loss" in events.Tags()["scalars"]:
            steps |= {event.step for event in events.Scalars("train/loss")}
            epochs = sorted({event.value for event in events.Scalars("epoch")} - {0.0})
    assert epochs == pytest.approx([0.3, 0.6, 0.9, 1.2, 1.5, 1.8])  # 3 of 10 samples a step
    assert {"train/loss", "val/loss", "val/miou", "val/iou/road", "test/miou", "device/cpu_percent"} <= tags["scalars"]
    assert any(tag.startswith("lr") for tag in tags["scalars"])
    assert "score/miou" in tags["scalars"]
    assert {"val/val_0000", "val/val_0001", "val/val_0002"} <= tags["images"]
    assert steps == set(range(6))


def test_evaluate_reproduces_the_scores_of_training(run: TrainedRun) -> None:
    again = imageseg.evaluate(Recipe.from_yaml(run.folder / "config.yaml"), run.checkpoint)
    assert again.to_dict(run.labels.names) == run.scores.to_dict(run.labels.names)


def test_the_config_of_a_run_repeats_it(run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["train", "--config", str(run.folder / "config.yaml"), "--trainer.output", str(tmp_path), "--json"]) == 0
    )
    figures = json.loads(capsys.readouterr().out)
    assert figures["iou"] == run.scores.to_dict(run.labels.names)["iou"]
    again = read_checkpoint(Path(figures["folder"]) / "checkpoints" / "last.ckpt")["state_dict"]
    assert all(torch.equal(value, again[name]) for name, value in weights(run).items())


def test_another_seed_gives_another_network(run: TrainedRun, scenes: str, tmp_path: Path) -> None:
    other = train(recipe(scenes, tmp_path, "seed", seed=1))
    assert not all(torch.equal(value, weights(other)[name]) for name, value in weights(run).items())


def test_workers_change_nothing(run: TrainedRun, scenes: str, tmp_path: Path) -> None:
    assert_equal_runs(run, train(recipe(scenes, tmp_path, "workers", data={"num_workers": 2})))


def test_packing_changes_nothing(run: TrainedRun, scenes: str, tmp_path: Path) -> None:
    data = {"pack": True, "pack_folder": str(tmp_path / "store"), "num_workers": 1, "prefetch_factor": 1}
    packed = train(recipe(scenes, tmp_path, "packed", data=data))
    assert len(list((tmp_path / "store").rglob("*.pair"))) == 10 + 3
    assert_equal_runs(run, packed)


def test_a_resumed_run_ends_as_if_it_had_never_stopped(run: TrainedRun, scenes: str, tmp_path: Path) -> None:
    stopped = tmp_path / "stopped" / "checkpoints"  # the run's folder as a kill after step 3 leaves it, and moved
    stopped.mkdir(parents=True)
    shutil.copy(run.folder / "kept" / "step3.ckpt", stopped / "last.ckpt")
    best_then = read_checkpoint(stopped / "last.ckpt")["callbacks"]
    best_name = Path(next(state for key, state in best_then.items() if "Checkpoint" in key)["best_model_path"]).name
    shutil.copy(run.folder / "kept" / "step3.ckpt", stopped / best_name)
    resumed = train(recipe(scenes, tmp_path, None, resume=str(stopped / "last.ckpt")))
    assert resumed.folder == stopped.parent
    assert resumed.checkpoint.name == run.checkpoint.name
    assert_equal_runs(run, resumed)
    ends = [read_checkpoint(one.folder / "checkpoints" / "last.ckpt") for one in (run, resumed)]
    states = [end["optimizer_states"][0]["state"] for end in ends]
    assert all(torch.equal(states[0][i]["momentum_buffer"], states[1][i]["momentum_buffer"]) for i in states[0])
    assert ends[0]["lr_schedulers"] == ends[1]["lr_schedulers"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"batch_size": 2}}, "was trained with data.batch_size 3, this run has 2"),
        ({"data": {"flip": 0.0}}, "was trained with data.flip 0.5, this run has 0.0"),
        ({"task": {"optimizer": "adamw"}}, "was trained with task.optimizer sgd, this run has adamw"),
        ({"trainer": {"seed": 5}}, "was trained with trainer.seed 0, this run has 5"),
        ({"network": {"channels": 16}}, "was trained with network.channels 8, this run has 16"),
    ],
)
def test_a_run_is_not_resumed_with_another_recipe(
    change: dict, message: str, run: TrainedRun, scenes: str, tmp_path: Path
) -> None:
    values = recipe(scenes, tmp_path, "other", resume=str(run.folder / "kept" / "step3.ckpt")).to_dict()
    values |= {section: values[section] | new for section, new in change.items()}
    with pytest.raises(InputError, match=message):
        train(Recipe.from_dict(values))


def test_a_resumed_run_may_be_named(run: TrainedRun, scenes: str, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "again")
    checkpoint = shutil.copy(run.folder / "kept" / "step3.ckpt", tmp_path / "again" / "checkpoints")
    resumed = train(recipe(scenes, tmp_path, "again", resume=str(checkpoint)))
    assert resumed.folder == (tmp_path / "again").resolve()
    assert_equal_runs(run, resumed)


def test_a_checkpoint_outside_a_run_needs_a_name(run: TrainedRun, scenes: str, tmp_path: Path) -> None:
    loose = shutil.copy(run.folder / "kept" / "step3.ckpt", tmp_path / "loose.ckpt")
    with pytest.raises(InputError, match=r"loose.ckpt: is not in the folder of a run; pass --trainer.name"):
        train(recipe(scenes, tmp_path, None, resume=str(loose)))
    assert [path.name for path in tmp_path.iterdir()] == ["loose.ckpt"]


def test_a_finished_run_has_nothing_left_to_train(run: TrainedRun, scenes: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"step6\.ckpt: no steps are left; pass a larger --trainer\.max_steps"):
        train(recipe(scenes, tmp_path, "new", resume=str(run.folder / "kept" / "step6.ckpt")))


def test_a_run_is_not_resumed_with_another_number_of_processes(run: TrainedRun, scenes: str, tmp_path: Path) -> None:
    tree = read_checkpoint(run.folder / "kept" / "step3.ckpt")
    tree["StreamData"]["processes"] = 2
    write_checkpoint(tree, tmp_path / "two.ckpt")
    with pytest.raises(InputError, match="was trained by 2 processes, this run has 1"):
        train(recipe(scenes, tmp_path, "one", resume=str(tmp_path / "two.ckpt")))


def test_a_recipe_may_contain_path_objects(scenes: str, tmp_path: Path) -> None:
    values = recipe(scenes, tmp_path, "paths", max_steps=1, val_every=1)
    trained = train(replace(values, data=values.data | {"root": Path(scenes)}))
    assert Recipe.from_yaml(trained.folder / "config.yaml").data["root"] == scenes


def test_the_command_line_resumes_a_run_of_the_python_interface(
    run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recipe with all defaults and one without are the same recipe."""
    checkpoints = tmp_path / "moved" / "checkpoints"
    checkpoints.mkdir(parents=True)
    shutil.copy(run.folder / "config.yaml", checkpoints.parent)
    shutil.copy(run.folder / "kept" / "step6.ckpt", checkpoints / "last.ckpt")
    for best in (run.folder / "checkpoints").glob("best-*"):
        shutil.copy(best, checkpoints)
    arguments = [
        "--config",
        str(checkpoints.parent / "config.yaml"),
        "--trainer.resume",
        str(checkpoints / "last.ckpt"),
    ]
    assert main(["train", *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["miou"] == run.scores.miou


def test_accumulation_counts_optimizer_steps_and_validates_at_the_end(scenes: str, tmp_path: Path) -> None:
    trained = train(recipe(scenes, tmp_path, "accumulated", max_steps=3, val_every=2, accumulate_grad_batches=2))
    last = read_checkpoint(trained.folder / "checkpoints" / "last.ckpt")
    assert last["global_step"] == 3
    assert last["StreamData"] == {"batches_done": 6, "processes": 1}


def test_stops_early_when_nothing_gets_better(scenes: str, tmp_path: Path) -> None:
    trained = train(recipe(scenes, tmp_path, "patient", task={"lr": 0.0}, max_steps=20, val_every=1, patience=2))
    last = read_checkpoint(trained.folder / "checkpoints" / "last.ckpt")
    assert last["global_step"] < 20


def test_adamw_clipping_and_bf16_train(scenes: str, tmp_path: Path) -> None:
    trained = train(
        recipe(
            scenes,
            tmp_path,
            "bf16",
            task={"optimizer": "adamw", "lr": 1e-3, "schedule": "cosine"},
            max_steps=2,
            precision="bf16-mixed",
            gradient_clip_val=1.0,
            deterministic=True,
            resume=None,
        )
    )
    assert all(value.isfinite().all() for value in weights(trained).values() if value.is_floating_point())


def test_a_network_that_cannot_be_pretrained_trains_resumes_and_predicts(scenes: str, tmp_path: Path) -> None:
    """It has neither an encoder to choose nor weights to fetch."""
    values = recipe(scenes, tmp_path, "scratch", max_steps=2, val_every=1).to_dict()
    values |= {"model": "UNetClassic", "network": {"channels": [4, 8, 8]}}
    trained = train(Recipe.from_dict(values))
    assert imageseg.Predictor.from_checkpoint(trained.checkpoint)(np.zeros((33, 47, 3), np.uint8)).classes.shape == (
        33,
        47,
    )
    checkpoint = str(trained.folder / "checkpoints" / "last.ckpt")
    values["trainer"] |= {"name": None, "resume": checkpoint, "max_steps": 3}
    resumed: list[bool] = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        made = SegmentationTask.__init__

        def watched(task: SegmentationTask, network: Network, *arguments: object, **named: object) -> None:
            resumed.append(network.pretrained)
            made(task, network, *arguments, **named)

        monkeypatch.setattr(SegmentationTask, "__init__", functools.wraps(made)(watched))
        train(Recipe.from_dict(values))
    assert resumed == [False], "the encoder would continue with a tenth of its learning rate"


def test_an_epoch_is_the_default_between_validations(scenes: str, tmp_path: Path) -> None:
    trained = train(recipe(scenes, tmp_path, "epochs", max_steps=None, val_every=None, max_epochs=1))
    assert read_checkpoint(trained.folder / "checkpoints" / "last.ckpt")["global_step"] == 4  # 10 samples by 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": {"encoder": "resnet10t", "output": 8}}, "no argument 'output'.*did you mean 'output_stride'"),
        ({"model": "DeepLabV9"}, r"no network is called 'DeepLabV9' \(did you mean 'DeepLabV3'\?\)"),
        ({"trainer": {"precision": "bf17"}}, "trainer: Precision 'bf17' is invalid"),
        ({"trainer": {"max_steps": 0}}, "trainer.max_steps must be 1 or more, found 0"),
        ({"trainer": {"seed": -1}}, "trainer.seed must be 0 to 4294967295, found -1"),
        ({"trainer": {"strategy": "ddp_spawn"}}, "trainer.strategy ddp_spawn keeps the scores in another process"),
        ({"trainer": {"devices": "foo"}}, "trainer.devices must be a number above 0"),
        ({"trainer": {"devices": 0}}, "trainer.devices must be a number above 0"),
        ({"trainer": {"num_nodes": 0}}, "trainer.num_nodes must be 1 or more"),
        ({"trainer": {"devices": 4}}, "there are 4 processes but fewer images to score"),
        ({"data": {"batch_size": 0}}, "batch_size must be 1 or more"),
        ({"task": {"lr": -1.0}}, "lr, weight_decay, warmup_steps and aux_weight must be at least 0"),
        ({"network": {"encoder": "resnet10t", "pretrained": False, "dropout": 2.0}}, "DeepLabv3_plus: dropout"),
        (
            {"network": {"encoder": "resnet10t", "in_channels": 4}},
            "network.in_channels is 4, but all images here have 3 channels",
        ),
    ],
)
def test_wrong_recipes_are_refused_before_anything_is_written(
    change: dict, message: str, scenes: str, tmp_path: Path
) -> None:
    values = recipe(scenes, tmp_path / "runs", "wrong").to_dict()
    values |= {key: values[key] | new if key in ("trainer", "data") else new for key, new in change.items()}
    with pytest.raises(InputError, match=message):
        train(Recipe.from_dict(values))
    assert not (tmp_path / "runs").exists()


def test_a_run_is_never_overwritten(run: TrainedRun, scenes: str) -> None:
    with pytest.raises(InputError, match=r"already contains a run; pass another --trainer\.name"):
        train(recipe(scenes, run.folder.parent, "whole"))


def test_divergence_is_reported(scenes: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"val/loss is nan: training has diverged; lower --task\.lr"):
        train(recipe(scenes, tmp_path, "diverged", task={"lr": 1e30, "warmup_steps": 0}))


def test_resuming_another_network_is_refused(run: TrainedRun, scenes: str, tmp_path: Path) -> None:
    values = recipe(scenes, tmp_path, "other", resume=str(run.folder / "kept" / "step3.ckpt")).to_dict()
    values |= {"model": "UNet", "network": {"encoder": "resnet10t", "pretrained": False}}
    with pytest.raises(
        InputError, match=r"was trained with model DeepLabv3_plus, this run has UNet; resume a run with its own config"
    ):
        train(Recipe.from_dict(values))


def test_an_interrupted_run_reports_how_to_resume(scenes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: AtomicCheckpoints, checkpoint: dict, path: str, storage_options: None = None) -> None:
        save(self, checkpoint, path)
        if Path(path).name == "last.ckpt":
            raise KeyboardInterrupt

    save = AtomicCheckpoints.save_checkpoint
    monkeypatch.setattr(AtomicCheckpoints, "save_checkpoint", interrupt)
    with pytest.raises(KeyboardInterrupt, match=r"resume with --config .*config\.yaml --trainer\.resume .*last\.ckpt"):
        train(recipe(scenes, tmp_path, "stopped"))


def test_a_split_without_a_labelled_pixel_is_an_input_error(tmp_path: Path) -> None:
    root = tmp_path / "blank"
    for split in ("train", "val"):
        write_image(root / "images" / split / "a.png", np.zeros((64, 64, 3), np.uint8))
        write_image(root / "masks" / split / "a.png", np.full((64, 64), 255, np.uint8))
    (root / "labels.yaml").write_text("labels: [{name: road, color: [1, 2, 3], values: [0]}]")
    values = recipe(str(root), tmp_path, "run", max_steps=1, val_every=1).to_dict()
    data = {key: value for key, value in values["data"].items() if key not in ("size", "counts")}
    with pytest.raises(InputError, match="val: all pixels of its 1 images are ignored"):
        train(Recipe.from_dict(values | {"use": "Folder", "data": data}))


def test_a_run_prepares_only_the_splits_that_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a run on VOC's train_aug needs the masks of SBD."""
    asked: list[set[str]] = []

    def prepare(self: VOC, *, splits: set[str], **_: object) -> None:
        asked.append(set(splits))
        raise InputError("enough")

    monkeypatch.setattr(VOC, "prepare", prepare)
    root = write_fake("VOC", tmp_path)["root"]
    with pytest.raises(InputError, match="enough"):
        train(Recipe("VOC", "UNet", data={"root": root, "train_split": "trainval"}))
    assert asked == [{"trainval", "val"}]


def test_a_split_without_masks_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    root = write_fake("VOC", tmp_path)["root"]
    with pytest.raises(InputError, match=r"2008_000003\.jpg: the split 'test' has no masks; it can be predicted"):
        train(
            Recipe(
                "VOC",
                "UNet",
                data={"root": root, "test_split": "test"},
                trainer={"output": str(tmp_path / "runs"), "precision": "32-true"},
            )
        )
    assert not (tmp_path / "runs").exists()


def test_a_run_does_not_replace_the_masks_of_another(tmp_path: Path) -> None:
    root = write_fake("COCO", tmp_path)["root"]
    before = {path: path.read_bytes() for path in (tmp_path / "mask").rglob("*") if path.is_file()}
    with pytest.raises(
        InputError, match=r"contains masks made with other options: overlap first \(not void\).*data\.masks"
    ):
        train(Recipe("COCO", "UNet", data={"root": root, "overlap": "void", "min_pixels": -1}))
    assert {path: path.read_bytes() for path in (tmp_path / "mask").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("model", "network", "task"),
    [
        ("ViTLinear", {"layers": (2, 5)}, {}),
        (
            "EoMT",
            {"num_queries": 4, "num_blocks": 2},
            {"loss": "mask_classification", "optimizer": "adamw", "lr": 1e-3},
        ),
    ],
)
def test_runs_of_networks_on_plain_vits_repeat(
    scenes: str, tmp_path: Path, model: str, network: dict, task: dict
) -> None:
    """Also with weights that are frozen, and with masked attention, which is drawn."""
    network = {"encoder": "test_vit", "pretrained": False, **network}
    given = replace(recipe(scenes, tmp_path, "whole", task=task), model=model, network=network)
    whole = train(given)
    again = train(replace(given, trainer=given.trainer | {"name": "again"}))
    assert_equal_runs(whole, again)
    evaluated = imageseg.evaluate(Recipe.from_yaml(whole.folder / "config.yaml"), whole.checkpoint)
    assert evaluated.miou == whole.scores.miou


def test_an_automatic_precision_is_recorded_and_resumed(
    scenes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda _: True)
    monkeypatch.setattr(precision, "seconds_per_step", lambda *_, **__: (2.0, 1.0))
    with caplog.at_level("INFO", logger="imageseg"):
        run = train(recipe(scenes, tmp_path, "open", precision="auto", max_steps=3))
    assert "precision: bf16-mixed (2.0x the speed of float32 here" in caplog.text
    assert Recipe.from_yaml(run.folder / "config.yaml").trainer["precision"] == "bf16-mixed"
    last = run.folder / "checkpoints" / "last.ckpt"
    assert read_record(last)[0].trainer["precision"] == "bf16-mixed"
    # A resumed run keeps the precision, whatever would be measured now.
    monkeypatch.setattr(precision, "seconds_per_step", lambda *_, **__: (1.0, 2.0))
    resumed = train(recipe(scenes, tmp_path, None, precision="auto", max_steps=6, resume=str(last)))
    assert Recipe.from_yaml(resumed.folder / "config.yaml").trainer["precision"] == "bf16-mixed"
