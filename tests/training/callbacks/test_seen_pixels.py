"""SeenPixels: sums over batches, processes and resumes, what is logged, and the file and the line at the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning.trainer.states import TrainerFn

from imageseg.training.callbacks.seen_pixels import SeenPixels

Logged = Callable[[], list[str]]

NAMES = ("road", "car", "moon")


class FakeTrainer(SimpleNamespace):
    """What the callback asks of a trainer; ``reduce`` adds what other processes have counted."""

    def __init__(self, *, others: dict[int, int] | None = None, **named: Any) -> None:
        state = {"state": SimpleNamespace(fn=TrainerFn.FITTING), "sanity_checking": False, "is_global_zero": True}
        super().__init__(**state | {"global_step": 7} | named)
        self.logged: list[tuple[dict[str, float], int]] = []
        self.loggers = [SimpleNamespace(log_metrics=lambda metrics, step: self.logged.append((metrics, step)))]
        self.strategy = SimpleNamespace(reduce=lambda own, reduce_op: own + pixels(others or {}))


def pixels(counts: dict[int, int]) -> torch.Tensor:
    found = torch.zeros(256, dtype=torch.int64)
    for value, count in counts.items():
        found[value] = count
    return found


def train(seen: SeenPixels, trainer: FakeTrainer, *batches: dict[int, int]) -> None:
    for counts in batches:
        seen.on_train_batch_end(trainer, None, None, {"pixels": pixels(counts)}, 0)


def test_shares_are_logged_after_a_validation(tmp_path: Path) -> None:
    seen, trainer = SeenPixels(tmp_path, NAMES), FakeTrainer()
    train(seen, trainer, {0: 60, 255: 4}, {0: 15, 1: 25})
    seen.on_validation_end(trainer, None)
    assert trainer.logged == [({"seen/road": 0.75, "seen/car": 0.25, "seen/moon": 0.0}, 7)]
    train(seen, trainer, {2: 100})
    seen.on_validation_end(trainer, None)
    assert trainer.logged[1][0] == {"seen/road": 0.375, "seen/car": 0.125, "seen/moon": 0.5}


def test_a_check_of_validation_and_a_run_that_only_validates_log_nothing(tmp_path: Path) -> None:
    for trainer in (FakeTrainer(sanity_checking=True), FakeTrainer(state=SimpleNamespace(fn=TrainerFn.VALIDATING))):
        seen = SeenPixels(tmp_path, NAMES)
        train(seen, trainer, {0: 1})
        seen.on_validation_end(trainer, None)
        assert trainer.logged == []
        assert seen.state_dict()["pixels"][0] == 1


def test_void_alone_gives_neither_shares_nor_a_file(tmp_path: Path, logged: Logged) -> None:
    seen, trainer = SeenPixels(tmp_path, NAMES), FakeTrainer()
    seen.on_train_end(trainer, None)
    train(seen, trainer, {255: 10})
    seen.on_validation_end(trainer, None)
    seen.on_train_end(trainer, None)
    assert trainer.logged == []
    assert list(tmp_path.iterdir()) == logged() == []


def test_the_file_and_the_line_at_the_end(tmp_path: Path, logged: Logged) -> None:
    in_dataset = np.array([980, 20, 0])
    seen, trainer = SeenPixels(tmp_path, NAMES, in_dataset=in_dataset), FakeTrainer()
    train(seen, trainer, {0: 99_970, 1: 30, 255: 5})
    seen.on_train_end(trainer, None)
    assert json.loads((tmp_path / "seen_pixels.json").read_text()) == {
        "valid_pixels": 100_000,
        "ignored_pixels": 5,
        "classes": {
            "road": {"pixels": 99_970, "share": 0.9997, "share_in_dataset": 0.98},
            "car": {"pixels": 30, "share": 0.0003, "share_in_dataset": 0.02},
            "moon": {"pixels": 0, "share": 0.0, "share_in_dataset": 0.0},
        },
    }
    assert logged() == [
        "less than 0.1 % of the training pixels: moon (never), car (0.03 %); seen_pixels.json lists all classes"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["seen_pixels.json"]


def test_nothing_is_logged_if_all_classes_were_seen(tmp_path: Path, logged: Logged) -> None:
    seen, trainer = SeenPixels(tmp_path, NAMES), FakeTrainer()
    train(seen, trainer, {0: 998, 1: 1, 2: 1})  # 0.1 % is enough
    seen.on_train_end(trainer, None)
    assert logged() == []
    written = json.loads((tmp_path / "seen_pixels.json").read_text())
    assert written["classes"]["moon"] == {"pixels": 1, "share": 0.001, "share_in_dataset": None}


def test_many_classes_are_not_all_named(tmp_path: Path, logged: Logged) -> None:
    names = [f"class {index}" for index in range(9)]
    seen, trainer = SeenPixels(tmp_path, names), FakeTrainer()
    train(seen, trainer, {0: 10_000_000} | {index: index for index in range(1, 9)})
    seen.on_train_end(trainer, None)
    assert "training pixels: class 1 (0.00001 %), class 2 (0.00002 %)," in logged()[0]
    assert "class 5 (0.00005 %) and 3 more; " in logged()[0]


def test_processes_are_added_up_once(tmp_path: Path) -> None:
    seen, trainer = SeenPixels(tmp_path, NAMES), FakeTrainer(others={1: 100})
    train(seen, trainer, {0: 60}, {0: 40})
    seen.on_validation_end(trainer, None)
    assert trainer.logged == [({"seen/road": 0.5, "seen/car": 0.5, "seen/moon": 0.0}, 7)]
    assert seen.state_dict()["pixels"][:3] == [100, 100, 0]
    seen.on_train_end(trainer, None)  # nothing new: nobody is asked
    assert seen.state_dict()["pixels"][:3] == [100, 100, 0]


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    seen, trainer = SeenPixels(tmp_path, NAMES), FakeTrainer(is_global_zero=False)
    train(seen, trainer, {0: 60})
    seen.on_train_end(trainer, None)
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_run_goes_on_with_its_sum(tmp_path: Path) -> None:
    whole, trainer = SeenPixels(tmp_path, NAMES), FakeTrainer()
    train(whole, trainer, {0: 3}, {1: 5})
    whole.on_validation_end(trainer, None)
    train(whole, trainer, {0: 1})
    state = json.loads(json.dumps(whole.state_dict()))
    resumed = SeenPixels(tmp_path, NAMES)
    resumed.load_state_dict(state)
    for seen in (whole, resumed):
        train(seen, trainer, {0: 2, 255: 8})
    assert whole.state_dict() == resumed.state_dict()
    assert resumed.state_dict()["pixels"][:3] == [6, 5, 0]


def test_a_batch_is_not_changed(tmp_path: Path) -> None:
    """The loader may use its memory again."""
    seen, trainer = SeenPixels(tmp_path, NAMES), FakeTrainer()
    batch = {"pixels": pixels({0: 3})}
    for _ in range(2):
        seen.on_train_batch_end(trainer, None, None, batch, 0)
    assert batch["pixels"][0] == 3
    batch["pixels"].zero_()
    assert seen.state_dict()["pixels"][0] == 6


@pytest.mark.parametrize("share", [1e-9, 0.00029])
def test_shares_are_logged_without_exponents(tmp_path: Path, share: float, logged: Logged) -> None:
    seen, trainer = SeenPixels(tmp_path, NAMES), FakeTrainer()
    train(seen, trainer, {0: 10**10, 1: int(share * 10**10), 2: 10**10})
    seen.on_train_end(trainer, None)
    assert "e-" not in logged()[0].partition(":")[2]
