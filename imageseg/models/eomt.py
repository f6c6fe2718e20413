"""EoMT, the encoder-only mask transformer (Kerssies et al. 2025, arXiv:2503.19108), on any plain ViT of timm."""

from __future__ import annotations

import math
from typing import Any

import torch
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg.errors import InputError
from imageseg.models.encoders.vit import ViTEncoder, on_grid
from imageseg.models.mask_classifier import MaskClassifier, MaskPrediction, semantic_logits


class EoMT(MaskClassifier):
    """Queries join the patches in the last blocks of the ViT; there is no other decoder.

    A query becomes a class by a linear layer, and a mask by a multilayer perceptron whose result is multiplied with the
    patches' features, enlarged to about stride 4. In training on masks, a query attends only to the patches inside the
    mask that it last predicted, with a probability per block that falls to zero in the course of training:
    what is left is a plain ViT, with training, scoring and export alike.

    Args:
        num_classes: the number of logits per pixel.
        encoder: timm's name of a plain ViT.
        pretrained: start from the encoder's published weights.
        in_channels: of the pictures.
        num_queries: masks per picture at most.
        num_blocks: at the end of the encoder, that the queries go through; the paper has 3 for ViT-S and B, 4 for L, 5 for g.

    Attributes:
        mask_probabilities: per block that the queries go through, of attending only inside masks; ``anneal`` sets them,
            before that they are zero.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: str = "vit_base_patch14_reg4_dinov2",
        pretrained: bool = True,
        in_channels: int = 3,
        num_queries: int = 100,
        num_blocks: int = 4,
    ) -> None:
        if num_queries < 1:
            raise InputError(f"num_queries must be at least 1, found {num_queries}")
        body = ViTEncoder(encoder, pretrained=pretrained, in_channels=in_channels, frozen=False)
        if not 1 <= num_blocks <= body.depth:
            raise InputError(f"num_blocks must be 1 to {body.depth} for encoder '{encoder}', found {num_blocks}")
        super().__init__(num_classes, mean=body.mean, std=body.std, pretrained=pretrained)
        body.make_room(num_queries, blocks=num_blocks)
        self.encoder: ViTEncoder = body
        self.num_queries = num_queries
        self.mask_probabilities = [0.0] * num_blocks
        width = body.channels
        self.queries = nn.Parameter(torch.randn(num_queries, width))
        self.class_head = nn.Linear(width, num_classes + 1)
        self.mask_head = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)
        )
        # To stride 4 from patches of 16; patches of 14 go to stride 7.
        doublings = max(1, int(math.log2(body.patch)) - 2)
        self.upscale = nn.Sequential(*(_doubled(width) for _ in range(doublings)))

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Logits at about stride 4; at the size of the pictures where a side is no multiple of the patch.

        They are the logarithms of the semantic scores: see ``semantic_logits``.
        """
        tokens, rotation = self._until_queries(images)
        for index in range(self._first, self.encoder.depth):
            tokens = self.encoder.block(index, tokens, rotation)
        return self.encoder.unpad(semantic_logits(self._predict(tokens, images)), images.shape[-2:])

    def mask_predictions(self, images: Tensor) -> list[MaskPrediction]:
        """(N, C, H, W) plain pictures to the final prediction; in training, those before each block with queries come first."""
        images = self.normalize(images)
        tokens, rotation = self._until_queries(images)
        predictions = []
        for index in range(self._first, self.encoder.depth):
            mask = None
            if self.training:
                predictions.append(self._predict(tokens, images))
                probability = self.mask_probabilities[index - self._first]
                if probability > 0:
                    mask = self._attention_mask(predictions[-1].masks.detach(), images, probability)
            tokens = self.encoder.block(index, tokens, rotation, mask=mask)
        return [*predictions, self._predict(tokens, images)]

    def anneal(self, progress: float) -> None:
        """Sets the probabilities of masked attention, as the authors' configuration for COCO has them.

        Training is in as many equal parts as blocks with queries, and one more at either end. In the first part all attend
        inside masks; then one block after the other leaves it, from 1 to 0 by the power 0.9; in the last part none does.
        """
        parts = len(self.mask_probabilities) + 2
        for i in range(parts - 2):
            share = min(max(progress * parts - (i + 1), 0.0), 1.0)
            self.mask_probabilities[i] = (1 - share) ** 0.9

    @property
    def _first(self) -> int:
        """The first block with queries."""
        return self.encoder.depth - len(self.mask_probabilities)

    def _until_queries(self, images: Tensor) -> tuple[Tensor, Any]:
        tokens, rotation = self.encoder.embed(images)
        for index in range(self._first):
            tokens = self.encoder.block(index, tokens, rotation)
        queries = self.queries.to(tokens.dtype).expand(len(images), -1, -1)
        return torch.cat([queries, tokens], dim=1), rotation

    def _predict(self, tokens: Tensor, images: Tensor) -> MaskPrediction:
        tokens = self.encoder.network.norm(tokens)
        size = images.shape[-2:]
        queries, patches = tokens[:, : self.num_queries], tokens[:, self.num_queries + self.encoder.prefix_tokens :]
        features = self.upscale(on_grid(patches, self.encoder.grid(size)))
        masks = torch.einsum("nqc,nchw->nqhw", self.mask_head(queries), features)
        return MaskPrediction(self.class_head(queries), masks, self.encoder.padded(size))

    def _attention_mask(self, masks: Tensor, images: Tensor, probability: float) -> Tensor:
        """(N, 1, T, T): queries keep to the patches inside their masks, each with that probability; all else is free."""
        count, grid = len(images), self.encoder.grid(images.shape[-2:])
        inside = F.interpolate(masks.float(), grid, mode="bilinear").flatten(2) > 0  # (N, Q, patches)
        free = torch.rand(count, self.num_queries, 1, device=masks.device) >= probability
        before = self.num_queries + self.encoder.prefix_tokens
        total = before + inside.shape[2]
        mask = torch.ones(count, total, total, dtype=torch.bool, device=masks.device)
        mask[:, : self.num_queries, before:] = inside | free
        return mask.unsqueeze(1)


def _doubled(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(channels, channels, 2, stride=2),
        nn.GELU(),
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        LayerNorm2d(channels),
    )
