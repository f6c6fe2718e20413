"""EoMT equals a second implementation, written from the paper on plain tensors, with and without masked attention."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from comparing import relative
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg import InputError
from imageseg.models.eomt import EoMT
from imageseg.models.mask_classifier import MaskPrediction, semantic_logits

Randomize = Callable[[nn.Module], nn.Module]
QUERIES, BLOCKS, CLASSES = 5, 3, 4
SIZE = (32, 48)


@pytest.fixture(params=["test_vit", "vit_tiny_patch16_dinov3_qkvb"])
def network(request: pytest.FixtureRequest, randomize: Randomize) -> EoMT:
    made = EoMT(CLASSES, encoder=request.param, pretrained=False, num_queries=QUERIES, num_blocks=BLOCKS)
    for name, parameter in made.named_parameters():
        if "gamma" in name:  # DINOv3's branches start near zero, and a wrong one would go unnoticed
            nn.init.uniform_(parameter, 0.5, 1.5)
    return randomize(made).double().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (2, 3, *SIZE), generator=torch.Generator().manual_seed(3))


class ByHand:
    """The paper's equations on a state dict; ``turned``: rotary positions turn queries, which is wrong."""

    def __init__(self, network: EoMT, *, masked: bool = False, turned: bool = False, normalized: bool = True) -> None:
        self.weights = dict(network.state_dict())
        self.encoder = network.encoder
        self.heads = network.encoder.network.blocks[0].attn.num_heads
        self.epsilon = network.encoder.network.norm.eps
        self.masked, self.turned, self.normalized = masked, turned, normalized

    def predictions(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Classes and masks before each block with queries, and at the end."""
        tokens, rotation = self.encoder.embed(images)
        prefix, results = self.encoder.prefix_tokens, []
        for index in range(self.encoder.depth):
            allowed = None
            if index >= self.encoder.depth - BLOCKS:
                if index == self.encoder.depth - BLOCKS:
                    queries = self.weights["queries"].expand(len(images), -1, -1)
                    tokens = torch.cat([tokens[:, :prefix], queries, tokens[:, prefix:]], dim=1)
                results.append(self._predict(tokens, prefix))
                if self.masked:
                    allowed = self._allowed(results[-1][1], prefix)
            tokens = self._block(f"encoder.network.blocks.{index}", tokens, rotation, allowed)
        return [*results, self._predict(tokens, prefix)]

    def _allowed(self, masks: Tensor, prefix: int) -> Tensor:
        inside = F.interpolate(masks, size=(2, 3), mode="bilinear") > 0
        total = prefix + QUERIES + 6
        allowed = torch.ones(len(masks), total, total, dtype=torch.bool)
        for n in range(len(masks)):
            for query in range(QUERIES):
                for place in range(6):
                    allowed[n, prefix + query, prefix + QUERIES + place] = inside[n, query].flatten()[place]
        return allowed

    def _block(self, name: str, tokens: Tensor, rotation: Tensor | None, allowed: Tensor | None) -> Tensor:
        at = {key.removeprefix(f"{name}."): value for key, value in self.weights.items() if key.startswith(f"{name}.")}
        width = tokens.shape[2]
        x = F.layer_norm(tokens, (width,), at["norm1.weight"], at["norm1.bias"], self.epsilon)
        if "attn.q_bias" in at:
            bias = torch.cat([at["attn.q_bias"], torch.zeros_like(at["attn.q_bias"]), at["attn.v_bias"]])
        else:
            bias = at["attn.qkv.bias"]
        query, key, value = (x @ at["attn.qkv.weight"].T + bias).chunk(3, dim=2)
        joined = []
        for q, k, v in zip(*(part.chunk(self.heads, dim=2) for part in (query, key, value)), strict=True):
            if rotation is not None:
                q, k = self._turn(q, rotation), self._turn(k, rotation)
            scores = q @ k.transpose(1, 2) / q.shape[2] ** 0.5
            if allowed is not None:
                scores = scores.masked_fill(~allowed, float("-inf"))
            joined.append(scores.softmax(dim=2) @ v)
        attended = torch.cat(joined, dim=2) @ at["attn.proj.weight"].T + at["attn.proj.bias"]
        tokens = tokens + attended * at.get("gamma_1", 1)
        x = F.layer_norm(tokens, (width,), at["norm2.weight"], at["norm2.bias"], self.epsilon)
        x = F.gelu(x @ at["mlp.fc1.weight"].T + at["mlp.fc1.bias"]) @ at["mlp.fc2.weight"].T + at["mlp.fc2.bias"]
        return tokens + x * at.get("gamma_2", 1)

    def _turn(self, tokens: Tensor, rotation: Tensor) -> Tensor:
        """Patches are at the end, whatever stands before them."""
        sine, cosine = rotation.chunk(2, dim=1)
        if self.turned and tokens.shape[1] > self.encoder.prefix_tokens + 6:
            sine, cosine = (torch.cat([part[:QUERIES], part]) for part in (sine, cosine))
        rest, patches = tokens[:, : -len(sine)], tokens[:, -len(sine) :]
        first, second = patches.chunk(2, dim=2)
        return torch.cat([rest, patches * cosine + torch.cat([-second, first], dim=2) * sine], dim=1)

    def _predict(self, tokens: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
        at = self.weights
        if self.normalized:
            weight, bias = at["encoder.network.norm.weight"], at["encoder.network.norm.bias"]
            tokens = F.layer_norm(tokens, weight.shape, weight, bias, self.epsilon)
        queries, patches = tokens[:, prefix : prefix + QUERIES], tokens[:, prefix + QUERIES :]
        classes = queries @ at["class_head.weight"].T + at["class_head.bias"]
        for layer in (0, 2, 4):
            queries = queries @ at[f"mask_head.{layer}.weight"].T + at[f"mask_head.{layer}.bias"]
            queries = F.gelu(queries) if layer < 4 else queries
        maps = patches.transpose(1, 2).reshape(len(tokens), -1, 2, 3)
        for step in (0, 1):
            maps = F.conv_transpose2d(maps, at[f"upscale.{step}.0.weight"], at[f"upscale.{step}.0.bias"], stride=2)
            kernel = at[f"upscale.{step}.2.weight"]
            maps = F.conv2d(F.gelu(maps), kernel, padding=1, groups=len(kernel)).permute(0, 2, 3, 1)
            weight, bias = at[f"upscale.{step}.3.weight"], at[f"upscale.{step}.3.bias"]
            maps = F.layer_norm(maps, weight.shape, weight, bias, 1e-6).permute(0, 3, 1, 2)
        return classes, (queries @ maps.flatten(2)).reshape(len(tokens), QUERIES, 8, 12)


def _difference(found: list[MaskPrediction], expected: list[tuple[Tensor, Tensor]]) -> float:
    pairs = list(zip(found, expected, strict=True))
    return max(relative(ours[i], theirs[i]) for ours, theirs in pairs for i in (0, 1))


@pytest.mark.parametrize("masked", [False, True])
def test_every_prediction_in_training_equals_the_second_implementation(
    network: EoMT, images: Tensor, masked: bool
) -> None:
    network.train().mask_probabilities = [float(masked)] * BLOCKS
    with torch.no_grad():
        found = network.mask_predictions(images)
        normalized = network.normalize(images)
        assert len(found) == BLOCKS + 1
        assert all(prediction.size == SIZE for prediction in found)
        assert _difference(found, ByHand(network, masked=masked).predictions(normalized)) < 1e-10
        assert _difference(found, ByHand(network, masked=not masked).predictions(normalized)) > 1e-3
        assert _difference(found, ByHand(network, masked=masked, normalized=False).predictions(normalized)) > 1e-3
        if network.encoder.name != "test_vit":
            assert _difference(found, ByHand(network, masked=masked, turned=True).predictions(normalized)) > 1e-4


def test_single_precision_is_as_close_as_rounding_allows(network: EoMT, images: Tensor) -> None:
    with torch.no_grad():
        (expected,) = network.mask_predictions(images)
        (found,) = network.float().mask_predictions(images)
    assert max(relative(found[i].double(), expected[i]) for i in (0, 1)) < 1e-5


def test_gradients_equal_the_second_implementations(network: EoMT, images: Tensor) -> None:
    sides = []
    for name in ("ours", "by hand"):
        network.zero_grad()
        if name == "ours":
            prediction = network.mask_predictions(images)[-1]
            classes, masks = prediction.classes, prediction.masks
        else:
            hand = ByHand(network)
            hand.weights = dict(network.named_parameters())
            classes, masks = hand.predictions(network.normalize(images))[-1]
        (classes.square().mean() + masks.square().mean()).backward()
        sides.append({key: p.grad.clone() for key, p in network.named_parameters() if p.grad is not None})
    ours, by_hand = sides
    assert ours.keys() == by_hand.keys() == dict(network.named_parameters()).keys()
    assert all(relative(ours[key], by_hand[key]) < 1e-9 for key in ours)


def test_logits_are_the_logarithms_of_the_semantic_scores(network: EoMT, images: Tensor) -> None:
    """Also in training, where a pixel loss has plain attention before it."""
    classes, masks = ByHand(network).predictions(network.normalize(images))[-1]
    shares = classes.exp() / classes.exp().sum(dim=2, keepdim=True)
    scores = sum(
        shares[:, q, :CLASSES, None, None] / (1 + (-masks[:, q, None]).exp()) for q in range(QUERIES)
    )  # (N, C, h, w)
    for mode in (True, False):
        network.train(mode).mask_probabilities = [1.0] * BLOCKS
        with torch.no_grad():
            found = network.coarse_logits(network.normalize(images))
        assert found.shape == (2, CLASSES, 8, 12)
        assert torch.allclose(found.double(), scores.log(), atol=1e-4)


def test_a_class_that_no_mask_has_keeps_a_finite_logit() -> None:
    classes = torch.tensor([[[0.0, -1e4, 0.0]]])
    logits = semantic_logits(MaskPrediction(classes, torch.zeros(1, 1, 2, 2), (2, 2)))
    assert torch.isfinite(logits).all()
    assert (logits[:, 0] > logits[:, 1] + 5).all()


def test_scoring_attends_everywhere_and_gives_one_prediction(network: EoMT, images: Tensor) -> None:
    network.mask_probabilities = [1.0] * BLOCKS
    with torch.no_grad():
        found = network.mask_predictions(images)
        assert len(found) == 1
        assert _difference(found, ByHand(network).predictions(network.normalize(images))[-1:]) < 1e-10


def test_masked_attention_is_random_per_query_with_the_probability_of_the_block() -> None:
    network = EoMT(2, encoder="test_vit", pretrained=False, num_queries=400)
    mask = network._attention_mask(torch.full((1, 400, 4, 4), -1.0), torch.zeros(1, 3, 16, 16), 0.25)
    assert mask.shape == (1, 1, 402, 402)
    assert mask[0, 0, 400:].all(), "patches and the class token attend everywhere"
    assert mask[0, 0, :, :401].all(), "queries and the class token are seen by all"
    assert float(mask[0, 0, :400, 401].float().mean()) == pytest.approx(0.75, abs=0.06)


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (0.0, [1, 1, 1, 1]),
        (1 / 6, [1, 1, 1, 1]),
        (0.25, [0.5**0.9, 1, 1, 1]),
        (0.5, [0, 0, 1, 1]),
        (0.75, [0, 0, 0, 0.5**0.9]),
        (1.0, [0, 0, 0, 0]),
    ],
)
def test_masked_attention_leaves_one_block_after_the_other(progress: float, expected: list[float]) -> None:
    network = EoMT(2, encoder="test_vit", pretrained=False, num_queries=2)
    assert network.mask_probabilities == [0, 0, 0, 0]
    network.anneal(progress)
    assert network.mask_probabilities == pytest.approx(expected)


@pytest.mark.parametrize(
    ("encoder", "width", "backbone"),
    [("vit_small_patch16_dinov3", 384, 21_586_944), ("vit_small_patch14_dinov2", 384, 22_056_192)],
)
def test_parameter_counts(encoder: str, width: int, backbone: int) -> None:
    with torch.device("meta"):
        network = EoMT(19, encoder=encoder, pretrained=False)
    heads = 100 * width + 20 * (width + 1) + 3 * width * (width + 1)
    doublings = 2 if "16" in encoder.split("_")[2] else 1
    upscale = doublings * (4 * width * width + width + 9 * width + 2 * width)
    assert sum(parameter.numel() for parameter in network.parameters()) == backbone + heads + upscale


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_blocks": 7}, "num_blocks must be 1 to 6 for encoder 'test_vit', found 7"),
        ({"num_blocks": 0}, "found 0"),
        ({"num_queries": 0}, "num_queries must be at least 1, found 0"),
        ({"encoder": "resnet18"}, "is not a plain ViT"),
    ],
)
def test_invalid_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        EoMT(2, **{"encoder": "test_vit", "pretrained": False, **arguments})
