"""SegmentationTask: its groups, its scores, and the arguments that it refuses."""

import pytest
import torch

from imageseg import InputError, Label, LabelSpace, build_model
from imageseg.training.task import SegmentationTask

LABELS = LabelSpace((Label("road", (128, 64, 128), (0,)), Label("sky", (70, 130, 180), (1,))))


def make_task(**arguments) -> SegmentationTask:
    network = build_model("UNet", 2, encoder="resnet10t", pretrained=False, decoder_channels=(8, 8, 8, 8, 8))
    return SegmentationTask(network, LABELS, **arguments)


def test_every_parameter_is_in_exactly_one_group() -> None:
    task = make_task()
    grouped = [id(parameter) for group in task.parameter_groups() for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in task.network.parameters())


def test_the_encoder_has_its_own_rate_and_only_weights_decay() -> None:
    task = make_task(lr=0.5, encoder_lr_factor=0.1, weight_decay=0.25)
    groups = {group["name"]: group for group in task.parameter_groups()}
    assert {name: (group["lr"], group["weight_decay"]) for name, group in groups.items()} == {
        "encoder": (0.05, 0.25),
        "encoder_no_decay": (0.05, 0.0),
        "head": (0.5, 0.25),
        "head_no_decay": (0.5, 0.0),
    }
    assert all(parameter.dim() > 1 for parameter in groups["head"]["params"])
    assert all(parameter.dim() == 1 for parameter in groups["encoder_no_decay"]["params"])


@pytest.mark.parametrize(("pretrained", "factor"), [(False, 1.0), (True, 0.1)])
def test_auto_slows_a_pretrained_encoder_only(pretrained: bool, factor: float) -> None:
    network = build_model("UNet", 2, encoder="resnet10t", pretrained=False)
    network.pretrained = pretrained
    assert SegmentationTask(network, LABELS).encoder_lr_factor == factor


def test_whole_numbers_are_class_weights_too() -> None:
    task = make_task(class_weights=[1, 3])
    loss = task.loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]], dtype=torch.uint8), task.class_weights)
    assert loss.item() == pytest.approx(0.6931, abs=1e-4)


def test_auxiliary_losses_are_weighted_and_added(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(aux_weight=0.25)
    monkeypatch.setattr(task, "log", lambda *_: None)
    logits, aux = torch.randn(1, 2, 8, 8), torch.randn(1, 2, 8, 8)
    monkeypatch.setattr(task.network, "forward_with_aux", lambda images: (logits, [aux, aux]))
    batch = {"image": torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "mask": torch.ones(1, 8, 8, dtype=torch.uint8)}
    expected = task.loss(logits, batch["mask"], None) + 0.5 * task.loss(aux, batch["mask"], None)
    assert task.training_step(batch, 0).item() == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "cros_entropy"}, "did you mean 'cross_entropy'"),
        ({"schedule": "step"}, "there are poly, cosine, constant"),
        ({"optimizer": "adam"}, "did you mean 'adamw'"),
        ({"class_weights": [1.0]}, "class_weights has 1 entries for 2 classes"),
        ({"class_weights": [1.0, -1.0]}, "class_weights must be numbers of 0 or more"),
        ({"warmup_steps": -1}, "warmup_steps and aux_weight must be 0 or more"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_task(**arguments)
