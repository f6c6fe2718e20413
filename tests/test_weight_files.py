"""Weights files: tensors are found in every common format and nesting, and no code of a file is run."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from imageseg import InputError, Label, LabelSpace, Recipe
from imageseg.checkpoint import write_checkpoint
from imageseg.weight_files import read_weights

TENSORS = {"encoder.conv1.weight": torch.ones(2, 3, 1, 1), "head.bias": torch.arange(2.0)}


def _saved(tree: Any, folder: Path) -> Path:
    torch.save(tree, folder / "weights.pth")
    return folder / "weights.pth"


@pytest.mark.parametrize(
    "tree",
    [
        TENSORS,
        OrderedDict(TENSORS),
        {"state_dict": TENSORS, "epoch": 3, "optimizer": {"state": {}}},
        {"cur_itrs": 3, "model_state": TENSORS, "best_score": np.float64(0.7)},
        {"model_state_dict": TENSORS, "arch": "FCN"},
        {"state_dict": {f"module.{name}": value for name, value in TENSORS.items()}},
        {"state_dict": {f"model.{name}": value for name, value in TENSORS.items()}, "pytorch-lightning_version": "2"},
        {"state_dict": {f"module.network.{name}": value for name, value in TENSORS.items()}},
        {"model": TENSORS, "args": argparse.Namespace(lr=0.1)},
        {"state_dict": TENSORS, "scores": np.arange(3.0), "folder": Path("runs")},
        {"best_acc1": torch.tensor(0.7), "state_dict": TENSORS},
        {"best_acc1": torch.tensor(0.7), "weights": TENSORS, "scaler": {"scale": torch.ones(1)}},
        {
            "ema": {f"ema.{name}": value for name, value in (TENSORS | {"decay": torch.ones(1)}).items()},
            "model": TENSORS,
        },
        {"model": {"state_dict": TENSORS}, "epoch": torch.tensor(3)},
    ],
    ids=lambda tree: next(iter(tree)),
)
def test_tensors_are_found_in_every_nesting(tree: Any, tmp_path: Path) -> None:
    found = read_weights(_saved(tree, tmp_path)).tensors
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(value, TENSORS[name]) for name, value in found.items())


def test_the_legacy_format_of_torch_is_read(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_weights(tmp_path / "old.pth").tensors.keys() == TENSORS.keys()


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.bin"])
def test_safetensors_are_read_whatever_the_suffix(name: str, tmp_path: Path) -> None:
    safetensors.torch.save_file(TENSORS, tmp_path / name)
    assert read_weights(tmp_path / name).tensors.keys() == TENSORS.keys()


def test_a_folder_of_save_pretrained_states_its_encoder(tmp_path: Path) -> None:
    safetensors.torch.save_file(TENSORS, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"encoder_name": "tu-convnext_atto", "classes": 2}))
    found = read_weights(tmp_path)
    assert found.tensors.keys() == TENSORS.keys()
    assert found.arguments == {"encoder": "convnext_atto"}
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"is a folder without model\.safetensors"):
        read_weights(tmp_path)


@pytest.mark.parametrize("meta", [{"CLASSES": ("sky", "road")}, {"dataset_meta": {"classes": ["sky", "road"]}}])
def test_mmsegmentations_class_names_are_kept(meta: Any, tmp_path: Path) -> None:
    assert read_weights(_saved({"meta": meta, "state_dict": TENSORS}, tmp_path)).class_names == ("sky", "road")


def test_objects_of_packages_that_are_not_installed_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("mmengine", "mmengine.logging", "mmengine.logging.history_buffer")
    modules = {name: types.ModuleType(name) for name in names}
    buffer = type("HistoryBuffer", (), {"__module__": names[-1]})
    modules[names[-1]].HistoryBuffer = buffer  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    history = buffer()
    history.values = np.arange(3.0)
    path = _saved({"message_hub": {"loss": history}, "state_dict": TENSORS}, tmp_path)
    for name in modules:
        monkeypatch.delitem(sys.modules, name)
    assert read_weights(path).tensors.keys() == TENSORS.keys()


def test_an_imageseg_checkpoint_states_its_network_and_classes(tmp_path: Path) -> None:
    labels = LabelSpace((Label("sky", (1, 2, 3)), Label("road", (4, 5, 6))))
    record = {
        "recipe": Recipe("VOC", "UNet", network={"encoder": "resnet18", "decoder_channels": (8, 8, 8, 8, 8)}).to_dict(),
        "labels": labels.to_dict(),
    }
    state = {f"network.{name}": value for name, value in TENSORS.items()}
    path = tmp_path / "ours.ckpt"
    write_checkpoint({"imageseg": record, "state_dict": state, "optimizer_states": [torch.ones(9)]}, path)
    found = read_weights(path)
    assert found.tensors.keys() == TENSORS.keys()
    assert (found.model, found.class_names) == ("UNet", ("sky", "road"))
    assert found.arguments["decoder_channels"] == (8, 8, 8, 8, 8)


@pytest.mark.parametrize(
    "record",
    [
        {"recipe": {"model": "UNet", "network": {}}},
        {"recipe": {"model": "UNet", "network": {}}, "labels": {"labels": [{"color": [1, 2, 3]}]}},
        {"recipe": {"model": "UNet", "network": {}}, "labels": {"labels": ["sky"]}},
        {"recipe": {"model": "UNet", "network": {}}, "labels": {"labels": 3}},
        {"recipe": {"model": "UNet", "network": [1]}, "labels": {"labels": []}},
        {"recipe": {"model": 3, "network": {}}, "labels": {"labels": []}},
        {"recipe": "UNet", "labels": {"labels": []}},
        [],
    ],
)
def test_a_damaged_record_is_reported(record: Any, tmp_path: Path) -> None:
    path = tmp_path / "ours.ckpt"
    write_checkpoint({"imageseg": record, "state_dict": {f"network.{n}": v for n, v in TENSORS.items()}}, path)
    with pytest.raises(InputError, match=r"ours\.ckpt: looks like a checkpoint of imageseg, but its record is damaged"):
        read_weights(path)


@pytest.mark.parametrize("tree", ["", "{", "[]", "3", '{"dict": 3}', '{"dict": [["imageseg", {"a": 1}]]}', "[" * 5000])
def test_a_damaged_tree_is_reported(tree: str, tmp_path: Path) -> None:
    tensors = {f"0.checkpoint.state_dict.network.{name}": value for name, value in TENSORS.items()}
    safetensors.torch.save_file(tensors, tmp_path / "ours.ckpt", metadata={"tree": tree})
    with pytest.raises(InputError, match="record is damaged"):
        read_weights(tmp_path / "ours.ckpt")


def test_numbered_classes_are_not_taken_for_names(tmp_path: Path) -> None:
    labels = LabelSpace((Label("class 0", (1, 2, 3)), Label("class 1", (4, 5, 6))))
    record = {"recipe": Recipe("VOC", "UNet").to_dict(), "labels": labels.to_dict()}
    path = tmp_path / "ours.ckpt"
    write_checkpoint({"imageseg": record, "state_dict": {f"network.{n}": v for n, v in TENSORS.items()}}, path)
    assert read_weights(path).class_names is None


class _Injected:
    """Create a folder when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused_and_runs_none(wrapped: bool, zipped: bool, tmp_path: Path) -> None:
    injected = tmp_path / "injected"
    path = tmp_path / "weights.pth"
    tree = {"state_dict": TENSORS, "hook": _Injected(injected)} if wrapped else _Injected(injected)
    torch.save(tree, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"only be read by running code \(posix\.mkdir\)") as refused:
        read_weights(path)
    assert "\n" not in refused.value.line()
    assert not injected.exists()
    torch.load(path, weights_only=False)
    assert injected.exists(), "the injected code does nothing, so the test would not notice"


def test_the_placeholder_cannot_be_made_to_run_code(tmp_path: Path) -> None:
    """The classes that are allowed by name become one placeholder: numpy's functions are never reached."""

    class Reconstruct:
        def __reduce__(self) -> Any:
            return np._core.multiarray._reconstruct, (_Injected, (0,), b"b"), {"path": _Injected(tmp_path / "injected")}

    path = _saved({"state_dict": TENSORS, "x": Reconstruct()}, tmp_path)
    with pytest.raises(InputError, match="running code"):
        read_weights(path)
    assert not (tmp_path / "injected").exists()


def test_a_pickled_module_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"running code .*torch\.save\(model\.state_dict\(\), file\)"):
        read_weights(_saved(torch.nn.Conv2d(1, 1, 1), tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a weights file or is damaged"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is not a weights file or is damaged"),
        (b"PK\x03\x04" + b"\x00" * 100, "is not a weights file or is damaged"),
        (pickle.dumps({"a": 1}), "contains no named tensors, found a|is not a weights file"),
    ],
)
def test_other_files_are_a_one_line_error(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        read_weights(tmp_path / "file.pth")
    assert "\n" not in refused.value.line()
    assert len(refused.value.line()) < 400


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = _saved({"a": torch.zeros(1000)}, tmp_path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match="damaged"):
        read_weights(path)
    safetensors.torch.save_file(TENSORS, tmp_path / "cut.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "cut.safetensors").read_bytes()[:-3])
    with pytest.raises(InputError, match="damaged or not a safetensors file"):
        read_weights(tmp_path / "cut.safetensors")


def test_missing_files_and_missing_tensors_are_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.pth: no such weights file"):
        read_weights(tmp_path / "nowhere.pth")
    nested = {"epoch": 1, "optimizer": {"lr": 0.1}, "models": {"student": {"a": torch.ones(1)}}}
    with pytest.raises(
        InputError, match=r"contains no named tensors, neither at the top level nor in optimizer, models$"
    ):
        read_weights(_saved(nested, tmp_path))
    with pytest.raises(InputError, match="contains no named tensors, found epoch, lr"):
        read_weights(_saved({"epoch": 1, "lr": 0.1}, tmp_path))
