"""SegmentationTask: its groups, its scores, and the arguments that it refuses."""

import shutil
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from imageseg import InputError, Label, LabelSpace, build_model
from imageseg.models.base import resize
from imageseg.training.losses.mask_matching import mask_classification
from imageseg.training.losses.plain import LOSSES, cross_entropy
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


def test_positions_tokens_and_queries_do_not_decay() -> None:
    network = build_model("EoMT", 2, encoder="test_vit", pretrained=False, num_queries=4, num_blocks=2)
    task = SegmentationTask(network, LABELS, weight_decay=0.25)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    decaying = {names[id(p)] for group in task.parameter_groups() if group["weight_decay"] for p in group["params"]}
    assert decaying
    assert (
        not {name for name in names.values() if "pos_embed" in name or "cls_token" in name or "queries" in name}
        & decaying
    )
    assert {name for name in decaying if not name.endswith("weight")} == set()


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
    monkeypatch.setattr(task.network, "coarse_logits_with_aux", lambda images: (logits, [aux, aux]))
    batch = {"image": torch.zeros(1, 3, 16, 16, dtype=torch.uint8), "mask": torch.ones(1, 16, 16, dtype=torch.uint8)}
    main, auxiliary = (cross_entropy(resize(maps, (16, 16)), batch["mask"], None) for maps in (logits, aux))
    expected = main + 0.5 * auxiliary
    assert task.training_step(batch, 0).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("align_corners", [False, True])
def test_a_step_is_the_plain_loss_of_the_networks_logits(
    *, name: str, align_corners: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build_model("DeepLabV3", 2, encoder="resnet10t", pretrained=False, aux=True, channels=8, dropout=0.0)
    network.align_corners = align_corners
    network.auxiliary.eval()  # its dropout
    task = SegmentationTask(network, LABELS, loss=name).train()
    network.auxiliary[3].eval()
    monkeypatch.setattr(task, "log", lambda *_: None)
    batch = {
        "image": torch.randint(0, 256, (2, 3, 64, 80), dtype=torch.uint8),
        "mask": torch.randint(0, 2, (2, 64, 80), dtype=torch.uint8),
    }
    logits, (aux,) = network.forward_with_aux(batch["image"])
    expected = LOSSES[name](logits, batch["mask"], None) + 0.4 * LOSSES[name](aux, batch["mask"], None)
    found = task.training_step(batch, 0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    weight = network.classifier.weight
    (one,), (other,) = torch.autograd.grad(found, weight), torch.autograd.grad(expected, weight)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_fused_optimizers_step_as_plain_ones(optimizer: str) -> None:
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    ends = []
    for clip in (None, 1.0):
        torch.manual_seed(0)
        task = make_task(optimizer=optimizer, lr=1e-3).train()
        task.trainer = SimpleNamespace(gradient_clip_val=clip, estimated_stepping_batches=10, strategy=None)
        stepping = task.configure_optimizers()["optimizer"]
        assert all(group["fused"] is (True if clip is None else None) for group in stepping.param_groups)
        for _ in range(3):
            stepping.zero_grad()
            task.network(images).square().mean().backward()
            stepping.step()
        ends.append([parameter.detach().clone() for parameter in task.parameters()])
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_compiling_keeps_the_names_of_weights_and_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task().train()
    names = list(task.state_dict())
    compiled = []

    def noted(function: Callable[..., Any], *, dynamic: bool) -> Callable[..., Any]:
        compiled.append(dynamic)
        return function

    monkeypatch.setattr(torch, "compile", noted)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    task.compile_network()
    assert compiled == [False]
    assert list(task.state_dict()) == names
    monkeypatch.setattr(task, "log", lambda *_: None)
    batch = {"image": torch.zeros(2, 3, 32, 32, dtype=torch.uint8), "mask": torch.ones(2, 32, 32, dtype=torch.uint8)}
    assert task.training_step(batch, 0).item() > 0


def test_compiling_without_a_compiler_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(
        InputError,
        match=r"no C\+\+ compiler found \(g\+\+, clang\+\+, cl\); install g\+\+ or remove --trainer\.compile",
    ):
        make_task().compile_network()
    monkeypatch.setenv("CXX", "ccache my-compiler")
    with pytest.raises(InputError, match=r"compiler found \(ccache\)"):
        make_task().compile_network()
    with pytest.raises(InputError, match="'mask_classification' does not support compilation"):
        make_mask_task(loss="mask_classification").compile_network()


def test_validation_logs_the_plain_cross_entropy_over_the_split() -> None:
    task = make_task(loss="dice").eval()
    images = torch.randint(0, 256, (2, 1, 3, 48, 33), dtype=torch.uint8)
    masks = torch.randint(0, 2, (2, 1, 48, 33), dtype=torch.uint8)
    masks[1, :, :40] = 255
    with torch.no_grad():
        for image, mask in zip(images, masks, strict=True):
            task.validation_step({"image": image, "mask": mask}, 0)
        expected = cross_entropy(task.network(images.flatten(0, 1)), masks.flatten(0, 1))
    assert float(task._loss_sum[0] / task._loss_sum[1]) == pytest.approx(float(expected), rel=1e-5)
    assert int(task._loss_sum[1]) == 48 * 33 + 8 * 33


def make_mask_task(**arguments) -> SegmentationTask:
    network = build_model("EoMT", 2, encoder="test_vit", pretrained=False, num_queries=3, num_blocks=2)
    return SegmentationTask(network, LABELS, **arguments)


def test_a_frozen_encoder_is_in_no_group_and_stays_in_evaluation_mode() -> None:
    task = SegmentationTask(build_model("ViTLinear", 2, encoder="test_vit", pretrained=False), LABELS).train()
    groups = {group["name"]: len(group["params"]) for group in task.parameter_groups()}
    assert groups == {"head": 1, "head_no_decay": 3}
    assert task.network.norm.training
    assert not any(module.training for module in task.network.encoder.modules())


def test_masks_are_trained_on_where_the_recipe_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = {
        "image": torch.randint(0, 256, (2, 3, 32, 40), dtype=torch.uint8),
        "mask": torch.randint(0, 2, (2, 32, 40), dtype=torch.uint8),
    }
    for loss in ("mask_classification", "cross_entropy"):
        task = make_mask_task(loss=loss, class_weights=[1.0, 3.0]).train()
        monkeypatch.setattr(task, "log", lambda *_: None)
        on_masks = mask_classification(task.network.mask_predictions(batch["image"]), batch["mask"], task.class_weights)
        on_pixels = cross_entropy(task.network(batch["image"]), batch["mask"], task.class_weights)
        expected = on_masks if loss == "mask_classification" else on_pixels
        assert task.training_step(batch, 0).item() == pytest.approx(expected.item(), rel=1e-5)
        assert on_masks.item() != pytest.approx(on_pixels.item(), rel=0.1)


def test_the_course_of_the_training_reaches_masked_attention() -> None:
    for loss, expected in (("mask_classification", [0.0, 1.0]), ("cross_entropy", [0.0, 0.0])):
        task = make_mask_task(loss=loss)
        task.trainer = SimpleNamespace(global_step=5, estimated_stepping_batches=10, strategy=None)
        task.on_train_batch_start({}, 0)
        assert task.network.mask_probabilities == expected


def test_validation_of_a_task_on_masks_measures_pixels() -> None:
    task = make_mask_task(loss="mask_classification").eval()
    batch = {
        "image": torch.randint(0, 256, (1, 3, 33, 20), dtype=torch.uint8),
        "mask": torch.randint(0, 2, (1, 33, 20), dtype=torch.uint8),
    }
    with torch.no_grad():
        classes = task.validation_step(batch, 0)["classes"]
        assert torch.equal(classes, task.network.predict_classes(batch["image"]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"loss": "mask_classification"},
            "needs a network that predicts masks, found UNet; use EoMT or pass --task.loss cross_",
        ),
        ({"loss": "cros_entropy"}, "did you mean 'cross_entropy'"),
        (
            {"loss": "focal", "label_smoothing": 0.1},
            "label_smoothing must be at least 0 and below 1, and requires loss 'cross_entropy'",
        ),
        ({"label_smoothing": 1.0}, "label_smoothing must be at least 0 and below 1"),
        (
            {"loss": "lovasz", "class_weights": [1.0, 1.0]},
            "'lovasz' does not support class_weights; remove class_weights",
        ),
        ({"schedule": "step"}, "there are poly, cosine, constant"),
        ({"optimizer": "adam"}, "did you mean 'adamw'"),
        ({"class_weights": [1.0]}, "class_weights has 1 entries for 2 classes"),
        ({"class_weights": [1.0, -1.0]}, "class_weights must be finite numbers of at least 0"),
        ({"warmup_steps": -1}, "warmup_steps and aux_weight must be at least 0"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_task(**arguments)
