"""EoMT, the encoder-only mask transformer (Kerssies et al. 2025, arXiv:2503.19108), on any plain ViT in timm."""

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
    """EoMT: queries join the patch tokens in the last blocks of the ViT, without any other decoder.

    A linear layer predicts the class of a query. Its mask is the product of a multilayer perceptron's output and the patch
    features, upsampled to about stride 4. When trained on masks, a query attends only to the patches inside the mask that it
    predicted last, with a probability per block that falls to zero during training. Then the network is a plain ViT, which makes
    evaluation and export simple.

    Args:
        num_classes: Number of classes.
        encoder: Name of a plain ViT in timm.
        pretrained: Whether to start from the encoder's published weights.
        in_channels: Number of image channels.
        num_queries: Maximum number of masks per image.
        num_blocks: Number of encoder blocks, counted from the end, that process the queries. The paper uses 3 for ViT-S and
            ViT-B, 4 for ViT-L and 5 for ViT-g.

    Attributes:
        mask_probabilities: Probability of attending only inside masks, for each block with queries. Zero unless set by
            ``anneal``.
    """

    encoder: ViTEncoder

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
        super().__init__(num_classes, body)
        body.add_prefix_tokens(num_queries, blocks=num_blocks)
        self.num_queries = num_queries
        self.mask_probabilities = [0.0] * num_blocks
        width = body.channels
        self.queries = nn.Parameter(torch.randn(num_queries, width))
        self.class_head = nn.Linear(width, num_classes + 1)
        self.mask_head = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)
        )
        # From patches of 16 to stride 4, and from patches of 14 to stride 7.
        doublings = max(1, int(math.log2(body.patch)) - 2)
        self.upscale = nn.Sequential(*(_upsampling(width) for _ in range(doublings)))

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Logits at about stride 4, or at the size of the images if a side is not a multiple of the patch size.

        They are the logarithms of the semantic scores: see ``semantic_logits``.
        """
        tokens, rotation = self._until_queries(images)
        for index in range(self._first, self.encoder.depth):
            tokens = self.encoder.block(index, tokens, rotation)
        return self.encoder.unpad(semantic_logits(self._predict(tokens, images)), images.shape[-2:])

    def mask_predictions(self, images: Tensor) -> list[MaskPrediction]:
        """The final prediction for plain (N, C, H, W) images; in training, those before each block with queries come first."""
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
        """Set the probabilities of masked attention as in the authors' configuration for COCO.

        Training is divided into as many equal phases as there are blocks with queries, plus one at either end. All blocks use
        masked attention in the first phase. In each following phase one block after the other reduces its probability from 1 to 0
        by a polynomial of power 0.9. No block uses it in the last phase.
        """
        phases = len(self.mask_probabilities) + 2
        for i in range(phases - 2):
            share = min(max(progress * phases - (i + 1), 0.0), 1.0)
            self.mask_probabilities[i] = (1 - share) ** 0.9

    @property
    def _first(self) -> int:
        """Index of the first block with queries."""
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
        """(N, 1, T, T): each query is restricted to the patches inside its mask with this probability; all else is allowed."""
        count, grid = len(images), self.encoder.grid(images.shape[-2:])
        inside = F.interpolate(masks.float(), grid, mode="bilinear").flatten(2) > 0  # (N, Q, patches)
        free = torch.rand(count, self.num_queries, 1, device=masks.device) >= probability
        before = self.num_queries + self.encoder.prefix_tokens
        total = before + inside.shape[2]
        mask = torch.ones(count, total, total, dtype=torch.bool, device=masks.device)
        mask[:, : self.num_queries, before:] = inside | free
        return mask.unsqueeze(1)


def _upsampling(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(channels, channels, 2, stride=2),
        nn.GELU(),
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        LayerNorm2d(channels),
    )
