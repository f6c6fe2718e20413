"""The precision of a run that leaves it open: who decides, what is logged, and that the measurement leaves no trace."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from imageseg import build_model
from imageseg.models.base import Network
from imageseg.training import precision as module
from imageseg.training.precision import chosen_precision, seconds_per_step

Logged = Callable[[], list[str]]


def a_network() -> Network:
    return build_model("DeepLabV3", 3, encoder="resnet10t", pretrained=False, channels=8, aux=True, dropout=0.5)


def chosen(
    device: str, *, fast: bool, seconds: tuple[float, float] | None, monkeypatch: pytest.MonkeyPatch, processes: int = 1
) -> str:
    monkeypatch.setattr(module, "has_fast_bfloat16", lambda _: fast)

    def measured(*_: object, **__: object) -> tuple[float, float]:
        assert seconds is not None, "nothing is to be measured"
        return seconds

    monkeypatch.setattr(module, "seconds_per_step", measured)
    return chosen_precision(
        a_network(),
        described=["DeepLabV3", seconds],
        device=torch.device(device),
        processes=processes,
        crop_size=(64, 64),
        batch_size=2,
        channels_last=True,
    )


@pytest.mark.parametrize(
    ("device", "fast", "seconds", "processes", "expected", "said"),
    [
        (
            "cpu",
            True,
            (1.9, 1.0),
            1,
            "bf16-mixed",
            "1.9x the speed of float32 here; disable it with --trainer.precision 32-true",
        ),
        (
            "cpu",
            True,
            (1.05, 1.0),
            1,
            "32-true",
            "1.1x the speed of float32 here; enable it with --trainer.precision bf16-mixed",
        ),
        ("cpu", True, (0.5, 1.0), 1, "32-true", "0.5x the speed"),
        ("cpu", True, None, 2, "32-true", "2 CPU processes"),
        ("cpu", False, None, 1, "32-true", ""),
        ("mps", True, None, 1, "32-true", ""),
        ("cuda", True, None, 4, "bf16-mixed", "this GPU supports bfloat16"),
        ("cuda", False, None, 1, "32-true", ""),
    ],
)
def test_the_device_and_the_measurement_decide(
    *,
    device: str,
    fast: bool,
    seconds: tuple[float, float] | None,
    processes: int,
    expected: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    logged: Logged,
) -> None:
    found = chosen(device, fast=fast, seconds=seconds, processes=processes, monkeypatch=monkeypatch)
    assert found == expected
    assert len(logged()) == bool(said)
    assert said in "".join(logged())


def test_the_same_run_decides_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([(1.9, 1.0), (1.0, 1.0)])

    def again(described: object) -> str:
        monkeypatch.setattr(module, "has_fast_bfloat16", lambda _: True)
        monkeypatch.setattr(module, "seconds_per_step", lambda *_, **__: next(times))
        device = torch.device("cpu")
        options = {"crop_size": (64, 64), "batch_size": 2, "channels_last": True}
        return chosen_precision(a_network(), described=described, device=device, processes=1, **options)

    assert again(["UNet", {"encoder": "resnet10t"}]) == "bf16-mixed"
    assert again(["UNet", {"encoder": "resnet10t"}]) == "bf16-mixed", "it was measured anew"
    assert again(["UNet", {"encoder": "resnet18"}]) == "32-true"


@pytest.mark.parametrize("batch_size", [2, 8])
def test_the_trial_leaves_no_trace(batch_size: int) -> None:
    network = a_network().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    seconds = seconds_per_step(network, crop_size=(64, 80), batch_size=batch_size, channels_last=True)
    assert torch.equal(torch.rand(3), expected)
    assert min(seconds) > 0
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_trial_runs_both_ways_on_small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    network, seen = a_network(), []

    def noted(self: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        seen.append((tuple(images.shape), torch.is_autocast_enabled("cpu")))
        return next(self.parameters()).sum() * images.mean(), []

    monkeypatch.setattr(type(network), "coarse_logits_with_aux", noted)
    seconds_per_step(network, crop_size=(1024, 100), batch_size=16, channels_last=False)
    assert seen == [((2, 3, 256, 100), False), ((2, 3, 256, 100), True)] * 4
