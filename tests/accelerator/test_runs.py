"""Training runs on the device: precision, device monitor, pinned memory, synchronized statistics, evaluate and resume."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import imageseg
from imageseg import Recipe
from imageseg.checkpoint import read_checkpoint
from imageseg.pipeline.augment import Augmentation
from imageseg.pipeline.loader import Loading, training_loader
from imageseg.training.callbacks.checkpoints import AtomicCheckpoints
from imageseg.training.fit import TrainedRun, train
from imageseg.training.sync_batchnorm import SyncedNorms

pytestmark = [pytest.mark.accelerator, pytest.mark.filterwarnings("ignore:.*deterministic")]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("data") / "toys"
    imageseg.build_dataset("ToyScenes", root, size=(64, 64), counts=(10, 3, 3)).prepare()
    return str(root)


def recipe(scenes: str, output: Path, name: str | None, device: torch.device, **trainer: Any) -> Recipe:
    return Recipe(
        use="ToyScenesModule",
        model="DeepLabv3_plus",
        data={"root": scenes, "size": (64, 64), "counts": (10, 3, 3), "crop_size": (48, 48), "batch_size": 3}
        | {"num_workers": 0},
        network={"encoder": "resnet10t", "pretrained": False, "channels": 8, "low_level_channels": 4, "dropout": 0.5},
        task={"lr": 0.05, "warmup_steps": 2},
        trainer={"max_steps": 6, "val_every": 3, "output": str(output), "name": name, "accelerator": device.type}
        | {"devices": 1, "log_every_n_steps": 1, "progress_bar": False}
        | trainer,
    )


def last_weights(run: TrainedRun) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = read_checkpoint(run.folder / "checkpoints" / "last.ckpt")["state_dict"]
    return weights


def scalars(run: TrainedRun) -> set[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.folder))
    events.Reload()
    return set(events.Tags()["scalars"])


def test_auto_takes_bfloat16_where_it_is_hardware(cuda: torch.device, scenes: str, tmp_path: Path) -> None:
    run = train(recipe(scenes, tmp_path, "auto", cuda, precision="auto", max_steps=2, val_every=2))
    expected = "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    assert Recipe.from_yaml(run.folder / "config.yaml").trainer["precision"] == expected


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed", "32-true"])
def test_every_precision_trains_and_logs_the_device(
    cuda: torch.device, scenes: str, tmp_path: Path, precision: str
) -> None:
    run = train(recipe(scenes, tmp_path, "run", cuda, precision=precision, sync_batchnorm=True))
    assert all(bool(value.isfinite().all()) for value in last_weights(run).values())
    assert "device/gpu_memory_used_mib" in scalars(run)


def test_nvml_finds_the_device_that_cuda_uses(cuda: torch.device) -> None:
    from imageseg.training.callbacks.device_monitor import _Gpu

    gpu = _Gpu(torch.device("cuda", torch.cuda.current_device()))
    try:
        figures = gpu.read()
    finally:
        gpu.close()
    total = torch.cuda.get_device_properties(cuda).total_memory / 2**20
    assert 0 < figures["device/gpu_memory_used_mib"] < 1.1 * total
    assert 0 <= figures["device/gpu_memory_percent"] <= 100


def test_batches_are_pinned_and_arrive_in_channels_last(cuda: torch.device, scenes: str) -> None:
    dataset = imageseg.build_dataset("ToyScenes", scenes, size=(64, 64), counts=(10, 3, 3))
    loader = training_loader(
        dataset.samples("train"),
        Augmentation(crop_size=(48, 48)),
        loading=Loading(batch_size=2, num_workers=0),
        seed=0,
    )
    batch = next(iter(loader))
    assert batch["image"].is_pinned()
    assert batch["mask"].is_pinned()
    image = batch["image"].to(cuda, non_blocking=True)
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(image.cpu(), batch["image"])


def test_synced_norms_predict_the_same(device: torch.device) -> None:
    network = imageseg.build_model("LRASPP", 3, encoder="mobilenetv3_small_050", pretrained=False).eval().to(device)
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8, device=device)
    synced = SyncedNorms().apply(copy.deepcopy(network))
    assert any(isinstance(layer, nn.SyncBatchNorm) for layer in synced.modules())
    with torch.no_grad():
        torch.testing.assert_close(synced(images), network(images), rtol=1e-3, atol=1e-3)


def test_evaluate_gives_the_scores_of_the_cpu(device: torch.device, scenes: str, tmp_path: Path) -> None:
    one = recipe(scenes, tmp_path, "run", device, precision="32-true", max_steps=3)
    run = train(one)
    on_device, on_cpu = (imageseg.evaluate(one, run.checkpoint, device=name) for name in (device.type, "cpu"))
    assert on_device.miou == pytest.approx(on_cpu.miou, abs=0.01)
    assert on_device.pixel_accuracy == pytest.approx(on_cpu.pixel_accuracy, abs=0.01)
    assert on_device.miou == pytest.approx(run.scores.miou, abs=0.01)


def test_a_resumed_run_has_the_same_bits_in_deterministic_mode(
    device: torch.device, scenes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    stopped.parent.mkdir(parents=True)
    save = AtomicCheckpoints.save_checkpoint

    def save_and_keep(self: AtomicCheckpoints, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        save(self, checkpoint, path)
        if checkpoint["global_step"] == 3:
            shutil.copy(path, stopped)

    options: dict[str, Any] = {"precision": "32-true", "deterministic": True}
    with monkeypatch.context() as patch:
        patch.setattr(AtomicCheckpoints, "save_checkpoint", save_and_keep)
        complete = train(recipe(scenes, tmp_path, "complete", device, **options))
    resumed = train(recipe(scenes, tmp_path, None, device, **options, resume=str(stopped)))
    assert read_checkpoint(resumed.folder / "checkpoints" / "last.ckpt")["global_step"] == 6
    for key, value in last_weights(complete).items():
        assert torch.equal(value, last_weights(resumed)[key]), key
