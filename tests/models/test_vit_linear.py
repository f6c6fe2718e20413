"""ViTLinear equals batch normalization and one matrix on timm's features; its sizes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from imageseg.models.vit_linear import ViTLinear

Randomize = Callable[[nn.Module], nn.Module]


@pytest.mark.parametrize("layers", [1, 4, (0, 3)])
def test_equals_batch_normalization_and_one_matrix_on_timms_features(
    layers: int | tuple[int, ...], randomize: Randomize
) -> None:
    network = ViTLinear(3, encoder="vit_tiny_patch16_dinov3_qkvb", pretrained=False, layers=layers)
    randomize(network).double().eval()
    images = torch.randn(2, 3, 32, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    theirs = timm.create_model("vit_tiny_patch16_dinov3_qkvb", num_classes=0).double().eval()
    weights = network.encoder.network.state_dict()
    theirs.load_state_dict(weights, strict=not isinstance(layers, tuple))  # blocks that are not needed are left out
    indices = layers if isinstance(layers, int) else list(layers)
    maps = theirs.forward_intermediates(images, indices=indices, norm=True, intermediates_only=True)
    joined = torch.cat(maps, dim=1).permute(0, 2, 3, 1)  # (N, h, w, channels)
    norm, head = network.norm, network.classifier
    joined = (joined - norm.running_mean) / (norm.running_var + 1e-5).sqrt() * norm.weight + norm.bias
    expected = (joined @ head.weight[:, :, 0, 0].T + head.bias).permute(0, 3, 1, 2)
    with torch.no_grad():
        found = network.coarse_logits(images)
        assert found.shape == (2, 3, 2, 3)
        assert ((found - expected).abs().max() / expected.abs().max()) < 1e-10
        network.norm = nn.Identity()
        assert ((network.coarse_logits(images) - expected).abs().max() / expected.abs().max()) > 1e-2


@pytest.mark.parametrize(
    ("encoder", "layers", "parameters"),
    [
        # timm's encoder, then 2 per channel of the normalization and a matrix with bias to 19 classes.
        ("vit_small_patch16_dinov3", 1, 21_586_944 + 2 * 384 + 384 * 19 + 19),
        ("vit_small_patch14_dinov2", 4, 22_056_192 + 2 * 1536 + 1536 * 19 + 19),
    ],
)
def test_parameter_counts(encoder: str, layers: int, parameters: int) -> None:
    with torch.device("meta"):
        network = ViTLinear(19, encoder=encoder, pretrained=False, layers=layers)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_only_the_head_is_trained_by_default() -> None:
    images, mask = torch.randint(0, 256, (2, 3, 32, 48)), torch.randint(0, 3, (2, 32, 48))
    for frozen in (True, False):
        network = ViTLinear(3, encoder="test_vit", pretrained=False, frozen=frozen).train()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1.0)
        F.cross_entropy(network(images), mask).backward()
        optimizer.step()
        moved = {
            name.partition(".")[0] for name, value in network.state_dict().items() if not value.equal(before[name])
        }
        assert moved == {"norm", "classifier"} | (set() if frozen else {"encoder"})
